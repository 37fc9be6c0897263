// The window on the rows: a scroll bar, and elements for the rows that show and no others.

import { Lines } from "./log-lines.js";
import { Window, wrappedUp } from "./log-window.js";

const IDLE = 140;

export class LogView {
  // `look(number, row)` says how a row is to be shown; `moved()` is called when the reader has scrolled.
  constructor(frame, source, { look, moved }) {
    this.frame = frame;
    this.source = source;
    this.moved = moved;
    this.following = false;
    this.wrapping = false;
    this.space = Object.assign(document.createElement("div"), { className: "log-space" });
    this.layer = Object.assign(document.createElement("div"), { className: "log-layer" });
    this.lines = Object.assign(document.createElement("div"), { className: "log-rows" });
    this.shown = new Lines(this.lines, source, look);
    this.layer.append(this.lines);
    this.space.append(this.layer);
    this.widest = this.bar = this.pending = this.idle = this.guessed = 0;
    this.window = new Window(20);
    frame.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.refresh()).observe(frame);
  }

  // Instead of the plain text.
  begin() {
    this.frame.replaceChildren(this.space);
    this.window.lowest = Number.parseFloat(getComputedStyle(this.layer).lineHeight) || 20;
    this.window.measure(this.window.lowest);
    this.draw();
  }

  // Drawn anew with the next frame.
  refresh() {
    if (!this.pending && this.space.isConnected) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.draw();
      });
    }
  }

  // What rows look like has changed, not only which of them show.
  repaint() {
    this.shown.clear();
    this.refresh();
  }

  wrap(on) {
    this.wrapping = on;
    this.widest = 0;
    this.space.style.width = "";
    this.guessed = 0;
    this.window.measure(this.window.lowest);
    this.frame.classList.toggle("log-wraps", on);
    this.repaint();
  }

  toEnd() {
    this.#resize();
    this.window.to(this.window.bottom);
    this.draw();
  }

  toTop() {
    this.window.to(0);
    this.draw();
  }

  // Shows the row, in the middle unless it shows already.
  toRow(number, { always = false } = {}) {
    this.#resize();
    const place = this.source.stages.placeOf(number, this.source.rows);
    const { first, end } = this.window.shown;
    if (always || place <= first || place >= end - 2) this.window.center(place);
    this.draw();
  }

  // The row in which reading begins.
  get topRow() {
    return this.source.stages.rowAt(this.window.shown.first, this.source.rows);
  }

  #resize() {
    this.window.resize(this.source.stages.shown(this.source.rows), this.frame.clientHeight);
  }

  #scrolled() {
    const to = this.frame.scrollTop;
    if (to === this.bar) return;
    this.window.scrolled(this.bar, to);
    this.bar = to;
    this.following = this.window.atEnd;
    this.moved();
    this.refresh();
    clearTimeout(this.idle);
    this.idle = setTimeout(() => {
      this.idle = 0;
      this.#setBar();
    }, IDLE);
  }

  #setBar() {
    // While somebody scrolls, the bar is his.
    if (this.idle && !this.following) return;
    const wanted = this.window.bar;
    if (Math.abs(this.frame.scrollTop - wanted) >= 1) this.frame.scrollTop = wanted;
    this.bar = this.frame.scrollTop;
  }

  draw() {
    this.#resize();
    if (this.following) this.window.to(this.window.bottom);
    this.space.style.height = `${this.window.tall}px`;
    this.layer.style.height = `${Math.max(this.window.height, 0)}px`;
    this.#setBar();
    const { first, hidden, end } = this.window.shown;
    const numbers = [];
    for (let place = first; place < end; place += 1) numbers.push(this.source.stages.rowAt(place, this.source.rows));
    if (numbers.length) this.source.want(numbers[0], numbers.at(-1) + 1);
    this.shown.arrange(numbers);
    if (this.wrapping && this.#measured()) return this.refresh();
    const up = this.wrapping ? wrappedUp(this.window, this.lines, hidden) : hidden * this.window.rowHeight;
    this.lines.style.translate = `0 ${-up}px`;
    if (!this.wrapping) this.#widen();
  }

  // Wrapped rows have heights of their own: the scroll bar counts with what they have on average here. Whether that has changed.
  #measured() {
    const rows = this.lines.childElementCount;
    const average = rows ? this.lines.offsetHeight / rows : this.window.lowest;
    // All of a short log is measured exactly; of a long one a rough guess will do.
    const wrong = rows === this.window.rows ? 0.001 : 0.4;
    const now = performance.now();
    if (Math.abs(average / this.window.rowHeight - 1) <= wrong || now - this.guessed < IDLE) return false;
    this.guessed = now;
    return this.window.measure(average);
  }

  #widen() {
    if (this.lines.offsetWidth <= this.widest) return;
    this.widest = this.lines.offsetWidth;
    this.space.style.width = `${this.widest}px`;
  }
}
