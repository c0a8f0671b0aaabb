"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const get = (id) => document.getElementById(id);
  const screen = get("screen"), pen = screen.getContext("2d", { willReadFrequently: true });
  const last = data.frames.length - 1;
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const state = { index: data.baseline, playing: false, step: -1, pace: data.milliseconds, timer: 0 };
  let pictures = [], overlay = null, baseline = null;

  const load = (source) => new Promise((done, fail) => {
    const picture = new Image();
    picture.onload = () => done(picture);
    picture.onerror = () => fail(new Error("a frame cannot be decoded"));
    picture.src = source;
  });
  const place = (score) => 100 * Math.min(1, Math.max(0, (score - data.low) / (data.high - data.low)));
  const pixels = () => pen.getImageData(0, 0, screen.width, screen.height);

  function drawDifference() {
    const now = pixels(), from = baseline.data, to = now.data;
    for (let k = 0; k < to.length; k += 4) {
      // Grey where nothing changes, red brighter, blue darker; four times enlarged and so stated beside the box.
      const change = 4 * ((to[k] + to[k + 1] + to[k + 2]) - (from[k] + from[k + 1] + from[k + 2])) / 3;
      to[k] = 40 + change; to[k + 1] = 40 + Math.abs(change) * 0.25; to[k + 2] = 40 - change;
    }
    pen.putImageData(now, 0, 0);
  }

  function draw() {
    if (!pictures.length) return;
    const score = data.scores[state.index], strength = data.strengths[state.index], label = data.labels[state.index];
    pen.globalAlpha = 1;
    pen.drawImage(pictures[state.index], 0, 0, screen.width, screen.height);
    const difference = get("difference");
    if (difference && difference.checked) drawDifference();
    if (get("map-on").checked) {
      pen.globalAlpha = get("opacity").value / 100;
      pen.drawImage(overlay, 0, 0, screen.width, screen.height);
    }
    const text = score === null ? "no score" : score.toFixed(2);
    get("score").textContent = text;
    get("fill").style.width = score === null ? "0" : place(score) + "%";
    let name = !last ? "" : strength === 0 ? "strength 0" : state.index === data.counterfactual ? "counterfactual" : "";
    if (difference && difference.checked) name = "difference, 4 times enlarged";
    get("which").textContent = name;
    screen.setAttribute("aria-label", `${data.target}: score ${text} at strength ${label}`);
    if (!last) return;
    get("slider").value = state.index;
    get("slider").setAttribute("aria-valuetext", `strength ${label}, score ${text}`);
    get("shift").textContent = `strength ${label}`;
    const now = get("now"), point = data.points[state.index];
    if (now) now.classList.toggle("gone", !point);
    if (now && point) { now.setAttribute("cx", point[0]); now.setAttribute("cy", point[1]); }
  }

  function show(index) {
    state.index = Math.min(last, Math.max(0, index));
    draw();
  }

  function advance() {
    if (state.index + state.step > last || state.index + state.step < 0) state.step = -state.step;
    show(state.index + state.step);
    state.timer = setTimeout(advance, state.pace);
  }

  function play(on) {
    if (!last || on === state.playing) return;
    state.playing = on;
    clearTimeout(state.timer);
    get("play").setAttribute("aria-label", on ? "Pause" : "Play");
    get("play-icon").setAttribute("d", on ? "M7 5h4v14H7zM13 5h4v14h-4z" : "M8 5v14l11-7z");
    if (on) advance();
  }

  function jump(index) { play(false); show(index); }

  function flip(id) {
    const box = get(id);
    if (box) { box.checked = !box.checked; draw(); }
  }

  const keys = {
    " ": () => play(!state.playing),
    ArrowLeft: () => jump(state.index - 1), ArrowDown: () => jump(state.index - 1),
    ArrowRight: () => jump(state.index + 1), ArrowUp: () => jump(state.index + 1),
    Home: () => jump(0), End: () => jump(last),
    b: () => jump(data.baseline), c: () => jump(data.counterfactual),
    m: () => flip("map-on"), d: () => flip("difference"),
  };

  function listen() {
    get("map-on").addEventListener("change", draw);
    get("opacity").addEventListener("input", () => { get("map-on").checked = true; draw(); });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const own = event.target.closest("input[type=range], select");
      const pressed = event.target.closest("button, input, summary, a");
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (!keys[key] || (own && !/^[bcmd ]$/.test(key)) || (pressed && !own && key === " ")) return;
      if (!last && !"m".includes(key)) return;
      event.preventDefault();
      keys[key]();
    });
    if (!last) return;
    get("play").addEventListener("click", () => play(!state.playing));
    get("slider").addEventListener("input", (event) => jump(Number(event.target.value)));
    get("difference").addEventListener("change", draw);
    get("speed").addEventListener("change", (event) => { state.pace = Number(event.target.value); });
    document.querySelectorAll("svg.curve .hit").forEach((mark) =>
      mark.addEventListener("click", () => jump(Number(mark.dataset.index))));
    calm.addEventListener("change", () => { if (calm.matches) play(false); });
    document.addEventListener("visibilitychange", () => { if (document.hidden) play(false); });
  }

  function mark(id, score) {
    const line = get(id);
    if (line && score !== null) line.style.left = place(score) + "%"; else if (line) line.hidden = true;
  }

  // `ground` is the frame at strength 0 where the sweep leaves it out.
  const sources = [...data.frames, data.map, ...(data.ground ? [data.ground] : [])];
  Promise.all(sources.map(load)).then((loaded) => {
    const frames = loaded.slice(0, last + 1), [map, ground] = loaded.slice(last + 1);
    pictures = frames; overlay = map;
    pen.drawImage(ground ?? pictures[data.baseline], 0, 0, screen.width, screen.height);
    baseline = pixels();
    mark("mark-baseline", data.start);
    mark("mark-operating", data.operating);
    listen();
    draw();
    document.documentElement.dataset.ready = "yes";
    if (!calm.matches) play(true);
  }, () => { get("which").textContent = "A frame is damaged: make this report again"; });
})();
