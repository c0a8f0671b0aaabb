// One explanation on the screen: its frames are fetched once, then every strength is drawn at once.
import * as api from "./api.js";

export const number = (x) => (x === null || x === undefined ? "–" : x.toFixed(2).replace("-", "−"));

export class Viewer {
  constructor(about, look, onClose) {
    this.about = about;
    this.look = look;
    this.last = about.strengths.length - 1;
    this.index = about.baseline;
    this.natives = new Map();
    this.element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.picture = this.find(".picture");
    this.cover = this.find(".cover");
    this.pen = this.picture.getContext("2d", { willReadFrequently: true });
    this.path = `/api/explanations/${about.id}`;
    this.find(".close").addEventListener("click", () => onClose(this));
    this.describe();
  }

  find(name) { return this.element.querySelector(name); }
  get sweeps() { return this.last > 0; }
  get native() { return this.look.native && this.about.native.possible; }
  get range() {
    if (this.about.meaning !== "logit") return [0, 1];
    const known = this.about.frame_scores.filter((score) => score !== null);
    return [Math.floor(Math.min(0, ...known)), Math.ceil(Math.max(1, ...known))];
  }

  async load() {
    [this.sheet, this.map] = await Promise.all([api.image(`${this.path}/sheet.png`), api.image(`${this.path}/map.png`)]);
    this.layout();
  }

  describe() {
    const { about } = this;
    this.find(".target").textContent = about.target;
    this.find(".how").textContent = `${about.method} · ${about.record?.classifier?.name ?? ""}`;
    this.find(".how").title = `${about.case}, ${about.composition}`;
    const numbers = [["case", about.case]]; // the image on the left may be another one by now
    for (const [name, score] of Object.entries(about.scores)) if (score !== null) numbers.push([name, number(score)]);
    if (this.sweeps) numbers.push(["search", about.stop.replaceAll("_", " ")]);
    for (const [name, text] of numbers) {
      const entry = document.createElement("div");
      entry.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: text }));
      this.find(".numbers").append(entry);
    }
    const passed = about.checks.filter((check) => check.verdict === "pass").length;
    const pill = this.find(".pill");
    pill.textContent = about.checks.length ? `${passed} of ${about.checks.length} checks passed` : "not checked";
    if (about.worst) pill.classList.add(about.worst);
    for (const check of about.checks) {
      const item = document.createElement("li");
      const verdict = Object.assign(document.createElement("b"), { textContent: check.verdict, className: check.verdict });
      item.append(verdict, Object.assign(document.createElement("p"), { textContent: check.text }));
      this.find(".checks").append(item);
    }
    const names = { report: "Report", gif: "GIF", mp4: "MP4", json: "JSON", webp: "WebP" };
    const links = this.find(".links");
    links.append(Object.assign(document.createElement("span"), { textContent: "Download" }));
    for (const kind of about.downloads.filter((one) => names[one])) {
      links.append(Object.assign(document.createElement("a"), { href: `${this.path}/download/${kind}`, textContent: names[kind], download: "" }));
    }
    const [low, high] = this.range;
    const place = (score) => `${(100 * (score - low)) / (high - low)}%`;
    const start = about.frame_scores[about.baseline];
    if (start === null) this.find(".baseline").hidden = true; else this.find(".baseline").style.left = place(start);
    if (about.meaning === "calibrated probability") this.find(".operating").style.left = place(0.5);
    else this.find(".operating").hidden = true;
  }

  // Size of the drawing in its own pixels, and of the sheet on the screen at zoom 1.
  layout() {
    const { sheet, native } = this.about;
    const [width, height] = this.native ? [native.width, native.height] : [sheet.width, sheet.height];
    this.picture.width = width; this.picture.height = height;
    this.cover.width = this.map.width; this.cover.height = this.map.height;
    const cover = this.cover.getContext("2d");
    cover.clearRect(0, 0, this.cover.width, this.cover.height);
    cover.drawImage(this.map, 0, 0);
    const { top, left, side } = this.native ? native.crop : { top: 0, left: 0, side: width };
    Object.assign(this.cover.style, {
      left: `${(100 * left) / width}%`, top: `${(100 * top) / height}%`,
      width: `${(100 * side) / width}%`, height: `${this.native ? (100 * side) / height : 100}%`,
    });
    this.place();
    this.draw();
  }

  // Scale that fits the whole drawing into the stage.
  get fit() {
    const stage = this.find(".stage").getBoundingClientRect();
    return Math.min(stage.width / this.picture.width, stage.height / this.picture.height) || 1;
  }

  place() {
    const stage = this.find(".stage").getBoundingClientRect();
    const scale = this.fit * this.look.zoom;
    const [width, height] = [this.picture.width * scale, this.picture.height * scale];
    const sheet = this.find(".sheet");
    const x = stage.width / 2 - width * this.look.x, y = stage.height / 2 - height * this.look.y;
    Object.assign(sheet.style, { width: `${width}px`, height: `${height}px`, transform: `translate(${x}px, ${y}px)` });
    sheet.classList.toggle("coarse", scale > 6);
    this.find(".stage").classList.toggle("zoomed", this.look.zoom > 1);
  }

  source(index) {
    const { columns, width, height } = this.about.sheet;
    return [this.sheet, (index % columns) * width, Math.floor(index / columns) * height, width, height];
  }

  paint(index) {
    const known = this.native ? this.natives.get(index) : null;
    if (known) this.pen.drawImage(known, 0, 0);
    else if (this.native) this.paintCoarse(index);
    else this.pen.drawImage(...this.source(index), 0, 0, this.picture.width, this.picture.height);
  }

  // Until a native frame has come, the model's square stands in its place.
  paintCoarse(index) {
    const { top, left, side } = this.about.native.crop;
    const ground = this.natives.get(this.about.baseline);
    if (ground) this.pen.drawImage(ground, 0, 0);
    this.pen.drawImage(...this.source(index), left, top, side, side);
  }

  draw() {
    if (!this.sheet) return;
    this.paint(this.index);
    if (this.look.difference && this.sweeps) this.drawDifference(); else this.drawWindow();
    this.cover.style.opacity = this.look.map ? this.look.opacity : 0;
    const score = this.about.frame_scores[this.index];
    const [low, high] = this.range;
    this.find(".score").textContent = number(score);
    this.find(".fill").style.width = score === null ? "0" : `${100 * Math.min(1, Math.max(0, (score - low) / (high - low)))}%`;
    let which = this.about.strengths[this.index] === 0 ? "strength 0" : this.index === this.about.counterfactual ? "counterfactual" : "";
    if (this.look.difference && this.sweeps) which = "difference, 4 times enlarged";
    this.find(".which").textContent = this.sweeps ? which : "map only";
    this.picture.setAttribute("role", "img");
    this.picture.setAttribute("aria-label", `${this.about.target} by ${this.about.method}: score ${number(score)} at strength ${this.about.labels[this.index]}`);
  }

  drawWindow() {
    const { window: width, level } = this.look;
    if (width >= 255 && level === 128) return;
    const low = level - width / 2;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, grey) => (255 * (grey - low)) / width);
    const image = this.pen.getImageData(0, 0, this.picture.width, this.picture.height);
    const { data } = image;
    for (let k = 0; k < data.length; k += 4) { data[k] = table[data[k]]; data[k + 1] = table[data[k + 1]]; data[k + 2] = table[data[k + 2]]; }
    this.pen.putImageData(image, 0, 0);
  }

  drawDifference() {
    const now = this.pen.getImageData(0, 0, this.picture.width, this.picture.height);
    this.paint(this.about.baseline);
    const from = this.pen.getImageData(0, 0, this.picture.width, this.picture.height).data, to = now.data;
    for (let k = 0; k < to.length; k += 4) {
      const change = (4 * (to[k] + to[k + 1] + to[k + 2] - from[k] - from[k + 1] - from[k + 2])) / 3;
      to[k] = 40 + change; to[k + 1] = 40 + Math.abs(change) / 4; to[k + 2] = 40 - change;
    }
    this.pen.putImageData(now, 0, 0);
  }

  // `part` is -1 at the lowest strength, 0 at the baseline and 1 at the highest: sweeps of other lengths follow.
  show(part) {
    const { baseline } = this.about;
    this.index = Math.round(part < 0 ? baseline + part * baseline : baseline + part * (this.last - baseline));
    this.draw();
  }

  part(index) {
    const { baseline } = this.about;
    if (index === baseline) return 0;
    return index < baseline ? (index - baseline) / baseline : (index - baseline) / (this.last - baseline);
  }

  async fetchNative(onStep) {
    const order = [...Array(this.last + 1).keys()].sort((a, b) => Math.abs(a - this.index) - Math.abs(b - this.index));
    for (const index of [this.about.baseline, ...order]) {
      if (!this.native || !this.element.isConnected) return;
      if (!this.natives.has(index)) {
        this.natives.set(index, await api.image(`${this.path}/native/${index}.jpg`));
        if (this.native && (index === this.index || index === this.about.baseline)) this.draw();
      }
      onStep(this.natives.size, this.last + 1);
    }
  }
}
