// The page: what is chosen on the left becomes panes on the right; one transport moves them all.
import * as api from "./api.js";
import { Viewer, number } from "./viewer.js";

const get = (id) => document.getElementById(id);
const state = { picture: null, target: null, options: null, viewers: [], part: 0, playing: false, step: -1, timer: 0, turn: 0, file: null };
const look = { zoom: 1, x: 0.5, y: 0.5, map: false, opacity: 0.75, window: 255, level: 128, difference: false, native: false };
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

function say(text, bad = false, ...more) {
  get("status").textContent = text;
  get("status").classList.toggle("bad", bad);
  get("status").append(...more);
}

async function attempt(text, work) {
  const held = document.activeElement;
  say(text);
  document.body.classList.add("busy");
  ["explain", "beside"].forEach((id) => { get(id).disabled = true; });
  try { await work(); say(""); } catch (error) { report(error); }
  document.body.classList.remove("busy");
  ready();
  if (document.activeElement === document.body) held?.focus({ preventScroll: true }); // a disabled button lost it
}

function report(error) {
  if (!(error instanceof api.Problem)) { say("Something in this page failed; reload it.", true); throw error; }
  const grey = /colour/i.test(error.message) && state.file;
  if (!grey) { say(error.message, true); return; }
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Use it in grey" });
  button.addEventListener("click", () => open(state.file, "grey"));
  say(error.message, true, button);
}

function ready() {
  const can = Boolean(state.picture && get("scores").querySelector("[aria-checked=true]"));
  get("explain").disabled = !can;
  get("beside").disabled = !can || !state.viewers.length || state.viewers.length >= 6;
}

// Images

function open(file, colour = "refuse") {
  state.file = file;
  return attempt(`Reading ${file.name} …`, async () => settle(await api.upload(file, colour)));
}

async function settle(picture) {
  state.picture = picture;
  const preview = get("preview");
  preview.src = `/api/pictures/${picture.id}/preview.png`;
  preview.alt = `Preview of ${picture.name}`;
  preview.hidden = false;
  get("drop").classList.add("full");
  get("facts").textContent = `${picture.name} · ${picture.format}, ${picture.width} × ${picture.height}, ${picture.bits} bits`;
  get("steps").textContent = picture.steps.join(", ") || "nothing";
  get("applied").hidden = false;
  await showScores();
}

async function showScores() {
  if (!state.picture) return;
  const turn = ++state.turn, box = get("scores");
  box.replaceChildren(); // those of another image or classifier must not stay when these do not come
  const found = await api.scores(state.picture.id, get("classifier").value, get("autoencoder").value);
  if (turn !== state.turn) return;
  const usable = found.scores.filter((row) => row.score !== null);
  const best = usable.reduce((a, b) => (b.score > a.score ? b : a), usable[0]);
  if (!usable.some((row) => row.target === state.target)) state.target = best?.target ?? null;
  const known = usable.map((row) => row.score);
  const [low, high] = found.meaning === "logit" ? [Math.min(0, ...known), Math.max(1, ...known)] : [0, 1];
  for (const row of found.scores) box.append(scoreRow(row, low, high));
  mark();
}

function scoreRow(row, low, high) {
  const button = Object.assign(document.createElement("button"), { type: "button", disabled: row.score === null });
  button.setAttribute("role", "radio");
  button.dataset.target = row.target;
  const gauge = Object.assign(document.createElement("span"), { className: "gauge" });
  const fill = document.createElement("i");
  fill.style.width = row.score === null ? "0" : `${(100 * (row.score - low)) / (high - low)}%`;
  gauge.append(fill);
  button.append(
    Object.assign(document.createElement("span"), { className: "name", textContent: row.target.replaceAll("_", " "), title: row.score === null ? "this output was never trained" : row.target }),
    gauge,
    Object.assign(document.createElement("span"), { className: "number", textContent: number(row.score) }),
  );
  button.addEventListener("click", () => { state.target = row.target; mark(); });
  return button;
}

function mark() {
  get("scores").querySelectorAll("button").forEach((button) => {
    const chosen = button.dataset.target === state.target;
    button.setAttribute("aria-checked", chosen);
    button.tabIndex = chosen ? 0 : -1;
  });
  ready();
}

// Explanations

const wish = () => ({
  picture: state.picture.id, target: state.target, method: get("method").value, classifier: get("classifier").value,
  autoencoder: get("autoencoder").value, composition: get("composition").value,
  drop: Number(get("drop-by").value), rise: Number(get("rise-by").value), frames: Number(get("frames").value),
});

function explain(beside) {
  return attempt("Explaining …", async () => {
    const viewer = new Viewer(await api.explain(wish()), look, remove);
    if (!beside) { state.viewers.forEach((old) => old.element.remove()); state.viewers = []; }
    state.viewers.push(viewer);
    get("empty").hidden = true;
    get("panes").append(viewer.element);
    watch(viewer);
    arrange();
    await viewer.load();
    if (!viewer.sweeps) { look.map = true; get("map-on").checked = true; }
    arrange();
    move(state.part);
    if (!beside && viewer.sweeps && !calm.matches) play(true);
    if (look.native) fetchNatives();
  });
}

function remove(viewer) {
  viewer.element.remove();
  state.viewers = state.viewers.filter((one) => one !== viewer);
  get("empty").hidden = state.viewers.length > 0;
  if (!state.viewers.length) play(false);
  arrange();
  ready();
  (state.viewers.at(-1)?.find(".close") ?? get("explain")).focus({ preventScroll: true });
}

function arrange() {
  const count = state.viewers.length, box = get("panes");
  const wanted = count <= 1 ? 1 : count === 2 || count === 4 ? 2 : 3;
  const across = Math.max(1, Math.min(wanted, Math.floor(box.clientWidth / 270)));
  get("transport").hidden = count === 0;
  box.style.setProperty("--across", across);
  const rows = Math.ceil(count / across), wide = (box.clientWidth - 24) / across - 12;
  const room = (box.clientHeight - 24) / Math.min(rows, 2) - 200;
  box.style.setProperty("--tall", `${Math.round(Math.max(240, Math.min(room, 1.15 * wide)))}px`);
  const lead = leader();
  for (const id of ["play", "strength", "difference"]) get(id).disabled = !lead;
  if (lead) { get("strength").max = lead.last; }
  const native = state.viewers.some((viewer) => viewer.about.native.possible);
  get("native").disabled = !native;
  get("native-label").title = native ? "Frames at the original's own size" : "Needs frames made as input plus change, of an image larger than the model's";
  state.viewers.forEach((viewer) => { if (viewer.sheet) { viewer.place(); } });
}

// The sweep whose frames the slider counts; the others follow in proportion.
const leader = () => state.viewers.find((viewer) => viewer.sweeps);

function move(part) {
  state.part = part;
  state.viewers.forEach((viewer) => viewer.show(part));
  const lead = leader();
  if (!lead) { get("shift").textContent = ""; return; }
  get("strength").value = lead.index;
  const text = `strength ${lead.about.labels[lead.index]}`;
  get("shift").textContent = text;
  get("strength").setAttribute("aria-valuetext", `${text}, score ${number(lead.about.frame_scores[lead.index])}`);
}

const go = (index) => { const lead = leader(); if (lead) move(lead.part(Math.min(lead.last, Math.max(0, index)))); };
const jump = (index) => { play(false); go(index); };

function play(on) {
  if (on === state.playing || (on && !leader())) return;
  state.playing = on;
  clearTimeout(state.timer);
  get("play").setAttribute("aria-label", on ? "Pause" : "Play");
  get("play-icon").setAttribute("d", on ? "M7 5h4v14H7zM13 5h4v14h-4z" : "M8 5v14l11-7z");
  if (on) advance();
}

function advance() {
  const lead = leader();
  if (!lead) { play(false); return; }
  if (lead.index + state.step > lead.last || lead.index + state.step < 0) state.step = -state.step;
  go(lead.index + state.step);
  state.timer = setTimeout(advance, Number(get("speed").value));
}

const redraw = () => state.viewers.forEach((viewer) => viewer.draw());
const replace = () => state.viewers.forEach((viewer) => viewer.place());

// Zoom and pan: `look.x`, `look.y` is the point of the picture in the middle of the stage.

function zoom(factor) {
  look.zoom = Math.min(40, Math.max(1, look.zoom * factor));
  if (look.zoom === 1) { look.x = 0.5; look.y = 0.5; }
  replace();
}

function zoomTo(value) { look.zoom = 1; zoom(value); }

function watch(viewer) {
  const stage = viewer.find(".stage");
  let held = null;
  stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
  stage.addEventListener("dblclick", () => zoomTo(look.zoom > 1 ? 1 : 2.5));
  stage.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY]; stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointerup", () => { held = null; });
  stage.addEventListener("pointercancel", () => { held = null; });
  stage.addEventListener("pointermove", (event) => {
    if (!held || look.zoom === 1) return;
    const scale = viewer.fit * look.zoom;
    look.x = Math.min(1, Math.max(0, look.x - (event.clientX - held[0]) / (viewer.picture.width * scale)));
    look.y = Math.min(1, Math.max(0, look.y - (event.clientY - held[1]) / (viewer.picture.height * scale)));
    held = [event.clientX, event.clientY];
    replace();
  });
}

async function fetchNatives() {
  for (const viewer of [...state.viewers]) {
    if (!viewer.native) continue;
    await viewer.fetchNative((done, all) => say(done < all ? `Native frames ${done} of ${all} …` : ""));
  }
}

// Events

function listen() {
  get("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
  get("example").addEventListener("click", () => { state.file = null; attempt("Reading the example …", async () => settle(await api.example())); });
  for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (event) => { event.preventDefault(); get("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) get("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    get("drop").classList.remove("over");
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  get("classifier").addEventListener("change", () => {
    // A pair that was made together goes together; any other pairing can be chosen in the settings.
    const partner = [...get("autoencoder").options].find((option) => option.value === get("classifier").value);
    if (partner) get("autoencoder").value = partner.value;
    attempt("Scoring …", showScores);
  });
  get("autoencoder").addEventListener("change", () => attempt("Scoring …", showScores));
  get("method").addEventListener("change", describeMethod);
  get("scores").addEventListener("keydown", chooseByKey);
  get("explain").addEventListener("click", () => explain(false));
  get("beside").addEventListener("click", () => explain(true));
  get("play").addEventListener("click", () => play(!state.playing));
  get("strength").addEventListener("input", (event) => jump(Number(event.target.value)));
  get("map-on").addEventListener("change", (event) => { look.map = event.target.checked; redraw(); });
  get("opacity").addEventListener("input", (event) => { look.opacity = event.target.value / 100; look.map = true; get("map-on").checked = true; redraw(); });
  get("difference").addEventListener("change", (event) => { look.difference = event.target.checked; redraw(); });
  get("window").addEventListener("input", (event) => { look.window = Number(event.target.value); redraw(); });
  get("level").addEventListener("input", (event) => { look.level = Number(event.target.value); redraw(); });
  get("reset-window").addEventListener("click", () => { look.window = 255; look.level = 128; get("window").value = 255; get("level").value = 128; redraw(); });
  get("native").addEventListener("change", (event) => { look.native = event.target.checked; state.viewers.forEach((viewer) => viewer.layout()); if (look.native) fetchNatives().catch(report); });
  get("zoom-in").addEventListener("click", () => zoom(1.4));
  get("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
  get("zoom-fit").addEventListener("click", () => zoomTo(1));
  get("zoom-one").addEventListener("click", () => { const lead = state.viewers[0]; if (lead) zoomTo(1 / lead.fit); });
  new ResizeObserver(arrange).observe(get("panes"));
  document.addEventListener("visibilitychange", () => { if (document.hidden) play(false); });
  document.addEventListener("keydown", onKey);
}

function chooseByKey(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  const rows = [...get("scores").querySelectorAll("button:not(:disabled)")];
  const next = rows[rows.findIndex((row) => row.dataset.target === state.target) + by];
  event.preventDefault();
  event.stopPropagation();
  if (next) { next.click(); next.focus(); }
}

function onKey(event) {
  const lead = leader();
  if (!lead || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, summary, textarea")) return;
  if (event.key === " " && event.target.closest("button, a")) return;
  const keys = {
    " ": () => play(!state.playing), ArrowLeft: () => jump(lead.index - 1), ArrowRight: () => jump(lead.index + 1),
    Home: () => jump(0), End: () => jump(lead.last), b: () => jump(lead.about.baseline), c: () => jump(lead.about.counterfactual),
    m: () => get("map-on").click(), d: () => get("difference").click(), "+": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: () => zoomTo(1),
  };
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) { event.preventDefault(); act(); }
}

function describeMethod() {
  const method = state.options.methods.find((one) => one.name === get("method").value);
  get("method-text").textContent = method ? `${method.summary}${method.sweep ? "" : " · map only"}` : "";
}

function fill(id, entries) {
  get(id).replaceChildren(...entries.map((entry) => Object.assign(document.createElement("option"), { value: entry.name, textContent: entry.name, title: entry.summary })));
}

async function start() {
  state.options = await api.options();
  fill("classifier", state.options.classifiers);
  fill("autoencoder", state.options.autoencoders);
  const group = (label, sweep) => {
    const box = Object.assign(document.createElement("optgroup"), { label });
    box.append(...state.options.methods.filter((one) => one.sweep === sweep).map((one) => Object.assign(document.createElement("option"), { value: one.name, textContent: one.name })));
    return box;
  };
  get("method").replaceChildren(group("Animation and map", true), group("Map only", false));
  describeMethod();
  listen();
  document.documentElement.dataset.ready = "yes";
}

start().catch(report);
