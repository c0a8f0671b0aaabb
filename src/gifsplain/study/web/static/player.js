// Plays frames that lie one below the other in a single picture; can be stopped and stepped. Nothing moves before the
// picture is there; `missing` is called where it cannot be loaded.
export class Player {
  constructor(root, missing) {
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.slider = root.querySelector("input");
    this.button = root.querySelector("button");
    this.frames = Number(root.dataset.frames);
    this.period = Math.max(40, Number(root.dataset.duration) / this.frames || 100);
    this.frame = 0;
    this.timer = null;
    this.ready = false;
    this.sheet = new Image();
    this.sheet.addEventListener("error", missing);
    this.sheet.addEventListener("load", () => {
      this.ready = true;
      this.show(0);
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.play();
    });
    this.sheet.src = root.dataset.src;
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => { this.stop(); this.show(Number(this.slider.value)); });
    this.label();
  }

  show(frame) {
    if (!this.ready) return;
    this.frame = (frame + this.frames) % this.frames;
    const { width, height } = this.canvas;
    this.context.drawImage(this.sheet, 0, this.frame * height, width, height, 0, 0, width, height);
    this.slider.value = this.frame;
    this.slider.setAttribute("aria-valuetext", `frame ${this.frame + 1} of ${this.frames}`);
  }

  play() {
    if (this.timer === null && this.frames > 1 && this.ready) this.timer = setInterval(() => this.show(this.frame + 1), this.period);
    this.label();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.label();
  }

  toggle() { if (this.timer === null) this.play(); else this.stop(); }
  step(by) { this.stop(); this.show(this.frame + by); }

  label() {
    const playing = this.timer !== null;
    this.button.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.button.textContent = playing ? "❚❚" : "►";
  }
}
