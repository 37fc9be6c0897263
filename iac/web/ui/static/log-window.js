// The arithmetic of a window that is moved over more rows than an element can be tall. Nothing here knows of the DOM.

// Browsers clamp elements at 17 to 33 million pixels.
export const TALLEST = 12_000_000;

// `top` is where the window is, in pixels of the whole as if it could be that tall; the scroll bar is a scaled image of it.
export class Window {
  // `rowHeight` is that of a row on average; none is lower than `lowest`.
  constructor(rowHeight, tallest = TALLEST) {
    this.rowHeight = this.lowest = rowHeight;
    this.tallest = tallest;
    this.rows = 0;
    this.height = 0;
    this.top = 0;
  }

  get bottom() {
    return Math.max(0, this.rows * this.rowHeight - this.height);
  }

  // The height of what the browser scrolls.
  get tall() {
    return Math.min(this.rows * this.rowHeight, this.tallest);
  }

  // Pixels of the whole for each pixel that the browser scrolls: 1 unless the whole is too tall.
  get scale() {
    const range = this.tall - this.height;
    return range > 0 ? this.bottom / range : 1;
  }

  get atEnd() {
    return this.top >= this.bottom - 1;
  }

  resize(rows, height) {
    this.rows = rows;
    this.height = height;
    this.top = this.#within(this.top);
  }

  // Rows are higher or lower on average than was thought; the row at the top stays where it is, and the end the end.
  // Whether it is another height than before.
  measure(rowHeight) {
    const row = this.atEnd ? this.rows : this.top / this.rowHeight;
    const before = this.rowHeight;
    this.rowHeight = Math.max(rowHeight, this.lowest);
    this.to(row * this.rowHeight);
    return this.rowHeight !== before;
  }

  to(top) {
    this.top = this.#within(top);
  }

  // The row is made the one in the middle.
  center(row) {
    this.to((row + 0.5) * this.rowHeight - this.height / 2);
  }

  // The window moves no further than it must to show the row.
  show(row) {
    const begin = row * this.rowHeight;
    if (begin < this.top) this.to(begin);
    else if (begin + this.rowHeight > this.top + this.height) this.to(begin + this.rowHeight - this.height);
  }

  // The browser has scrolled from one place to another. Small steps are real pixels; a leap is one of the scroll bar.
  scrolled(from, to) {
    const scale = this.scale;
    const leap = Math.abs(to - from) > 2 * this.height || to <= 0 || to >= this.tall - this.height - 1;
    this.to(scale === 1 || leap ? to * scale : this.top + to - from);
  }

  // Where the browser's scroll bar belongs.
  get bar() {
    return this.scale === 1 ? this.top : Math.round(this.top / this.scale);
  }

  // The first row that shows, how much of it (0 to 1) is above the window, and the row behind the last.
  get shown() {
    const first = Math.min(Math.floor(this.top / this.rowHeight), Math.max(0, this.rows - 1));
    const count = Math.ceil(this.height / this.lowest) + 1;
    return { first, hidden: Math.min(1, this.top / this.rowHeight - first), end: Math.min(this.rows, first + count) };
  }

  #within(top) {
    return Math.min(Math.max(0, top), this.bottom);
  }
}

// By how much the rows are moved up whose heights differ: the first one by its own, and near the end so that the last comes to
// lie at the bottom. `lines` is their element, `hidden` how much of the first is above the window.
export function wrappedUp(window, lines, hidden) {
  const up = hidden * (lines.firstChild?.offsetHeight ?? 0);
  const over = lines.offsetHeight - window.height;
  const left = (window.bottom - window.top) / Math.max(1, window.height);
  return left < 1 && over > up ? up * left + over * (1 - left) : up;
}
