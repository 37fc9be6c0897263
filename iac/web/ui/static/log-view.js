// The window on the rows: a scroll bar, and elements for the rows that show and no others.

import { rowElement } from "./log-row.js";
import { Window } from "./log-window.js";

const IDLE = 140;

export class LogView {
  // `look(number, row)` says how a row is to be shown; `moved()` is called when the reader has scrolled.
  constructor(frame, source, { look, moved }) {
    this.frame = frame;
    this.source = source;
    this.look = look;
    this.moved = moved;
    this.following = false;
    this.wrapping = false;
    this.space = Object.assign(document.createElement("div"), { className: "log-space" });
    this.layer = Object.assign(document.createElement("div"), { className: "log-layer" });
    this.lines = Object.assign(document.createElement("div"), { className: "log-rows" });
    this.layer.append(this.lines);
    this.space.append(this.layer);
    this.elements = new Map();
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

  get places() {
    return this.source.stages.shown(this.source.rows);
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
    this.elements.clear();
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
    this.window.resize(this.places, this.frame.clientHeight);
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
    this.#arrange(numbers);
    if (this.wrapping && this.#measured()) return this.refresh();
    this.#place(hidden);
    this.#widen();
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
    const before = this.window.rowHeight;
    this.window.measure(average);
    return this.window.rowHeight !== before;
  }

  // Elements of rows that go on showing stay, so that what is selected in them stays selected.
  #arrange(numbers) {
    const kept = new Map();
    let there = this.lines.firstChild;
    for (const number of numbers) {
      const row = this.source.row(number);
      let entry = this.elements.get(number);
      if (!entry || !same(entry.row, row)) entry = { row, element: rowElement(row, number, this.look(number, row)) };
      kept.set(number, entry);
      if (entry.element === there) there = there.nextSibling;
      else this.lines.insertBefore(entry.element, there);
    }
    while (there) {
      const next = there.nextSibling;
      there.remove();
      there = next;
    }
    this.elements = kept;
  }

  // With wrapped rows the first is moved by its own height, and near the end the last comes to lie at the bottom.
  #place(hidden) {
    const first = this.lines.firstChild;
    let up = hidden * this.window.rowHeight;
    if (this.wrapping && first) {
      up = hidden * first.offsetHeight;
      const over = this.lines.offsetHeight - this.window.height;
      const left = (this.window.bottom - this.window.top) / Math.max(1, this.window.height);
      if (left < 1 && over > up) up = up * left + over * (1 - left);
    }
    this.lines.style.translate = `0 ${-up}px`;
  }

  #widen() {
    if (this.wrapping) return;
    const width = this.lines.offsetWidth;
    if (width > this.widest) {
      this.widest = width;
      this.space.style.width = `${width}px`;
    }
  }
}

function same(one, other) {
  return one === other || (one !== null && other !== null && one.offset === other.offset && one.text === other.text && one.broken === other.broken);
}
