// Pages of rows, numbered through: where each begins. It cuts what is told live as the server's index cuts what is stored.

import { NEWLINE, endOfRow, joined } from "./log-rows.js";

export const PAGE_BYTES = 64 * 1024;
export const PAGE_ROWS = 1000;
const MOST_CODES = 16;
// eslint-disable-next-line no-control-regex
const SGR = /\x1b\[([0-9;:]*)m/g;

// Pages of rows: where each begins. What an index said first, and then what is told live.
export class Pages {
  constructor() {
    this.starts = [{ offset: 0, row: 0, line: 0, colours: "", continued: false }];
    this.length = 0;
    this.complete = { row: 0, line: 0 };
    this.rest = new Uint8Array(0);
  }

  get rows() {
    return this.complete.row + (this.rest.length ? 1 : 0);
  }

  get lines() {
    return this.complete.line + (this.rest.length ? 1 : 0);
  }

  // More pages, as the index tells them; it goes on from the last one's begin.
  add(told) {
    told.offsets.forEach((offset, n) => {
      if (offset > this.last.offset) this.starts.push({ offset, row: told.rows[n], line: told.lines[n], colours: told.colours[n] ?? "", continued: told.continued.includes(n) });
    });
    this.length = told.length;
    this.complete = { row: told.row_count, line: told.line_count };
    this.rest = new Uint8Array(0);
  }

  get last() {
    return this.starts[this.starts.length - 1];
  }

  // Forgets what stands behind the page that `offset` is in; returns where that begins, to be fed from there on.
  cutAt(offset) {
    while (this.starts.length > 1 && this.last.offset > offset) this.starts.pop();
    this.length = this.last.offset;
    this.complete = { row: this.last.row, line: this.last.line };
    this.rest = new Uint8Array(0);
    return this.length;
  }

  // The log goes on; `seen(text, place)` is told each complete row.
  feed(data, seen = () => {}) {
    const bytes = joined(this.rest, data);
    const base = this.length - this.rest.length;
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    this.length += data.length;
    let at = 0;
    for (let end = endOfRow(bytes, at); end >= 0 && at < bytes.length; end = endOfRow(bytes, at)) {
      this.#begin(base + at);
      const text = decoder.decode(bytes.subarray(at, end));
      seen(text, { offset: base + at, row: this.complete.row, line: this.complete.line });
      this.codes = codesAfter(this.codes ?? [], text);
      this.complete = { row: this.complete.row + 1, line: this.complete.line + (bytes[end - 1] === NEWLINE ? 1 : 0) };
      this.endedWhole = bytes[end - 1] === NEWLINE;
      at = end;
    }
    this.rest = bytes.slice(at);
  }

  #begin(offset) {
    if (offset === this.last.offset) this.codes = this.last.colours ? this.last.colours.split(";") : [];
    const { row, line } = this.complete;
    if (offset - this.last.offset >= PAGE_BYTES || row - this.last.row >= PAGE_ROWS) {
      this.starts.push({ offset, row, line, colours: this.codes.join(";"), continued: !this.endedWhole });
    }
  }

  // The number of the page that a row, a line or a byte is in.
  pageOf(key, value) {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.starts[middle][key] <= value) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // The page that this line begins in: a long line may fill many.
  pageOfLine(line) {
    let [low, high] = [0, this.starts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.starts[middle].line < line) low = middle + 1;
      else high = middle;
    }
    const begins = low < this.starts.length && this.starts[low].line === line && !this.starts[low].continued;
    return begins ? low : Math.max(0, low - 1);
  }

  endOf(page) {
    return page + 1 < this.starts.length ? this.starts[page + 1].offset : this.length;
  }
}

export function codesAfter(codes, text) {
  if (!text.includes("\x1b")) return codes;
  let found = codes;
  for (const [, code] of text.matchAll(SGR)) found = code === "" || code === "0" ? [] : [...found, code].slice(-MOST_CODES);
  return found;
}
