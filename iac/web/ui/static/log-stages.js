// The stages of a log, which can be folded; and rows by their places while some are. Nothing here knows of the DOM.

// eslint-disable-next-line no-control-regex
const MARK = /^\x1b\[2m── iac: stage (\S+) (begin|end) (\S+)(?: · (.+))? ──\x1b\[0m\r?\n?$/;
// eslint-disable-next-line no-control-regex
const ERROR = /^(?:\x1b\[[0-9;:]*m|│|[\s|])*Error: /;

// The mark that a row is, or null.
export function markOf(text) {
  const found = text.includes("── iac: stage ") ? MARK.exec(text) : null;
  return found && { stage: found[1], edge: found[2], at: found[3], detail: found[4] ?? "" };
}

export function isError(text) {
  return text.includes("Error: ") && ERROR.test(text);
}

export class Stages {
  constructor() {
    this.sections = [];
    this.ends = new Map();
  }

  // A mark in row `row`; marks come in order.
  add(mark, row) {
    const open = this.sections.at(-1);
    if (open && row <= (open.end ?? open.row)) return;
    if (mark.edge === "begin") this.sections.push({ stage: mark.stage, row, at: mark.at, end: null, endedAt: null, detail: "", folded: false });
    else if (open && open.stage === mark.stage && open.end === null) {
      Object.assign(open, { end: row, endedAt: mark.at, detail: mark.detail });
      this.ends.set(row, open);
    }
  }

  // Rows from this one on will be told again.
  cutAt(row) {
    this.sections = this.sections.filter((section) => section.row < row);
    for (const section of this.sections) {
      if (section.end !== null && section.end >= row) {
        this.ends.delete(section.end);
        Object.assign(section, { end: null, endedAt: null });
      }
    }
  }

  // The section that begins in this row.
  beginning(row) {
    return this.sections.find((section) => section.row === row);
  }

  // The section that a row is inside of, or begins.
  around(row) {
    return this.sections.findLast((section) => section.row <= row && (section.end === null || row <= section.end));
  }

  #hidden(rows) {
    return this.sections
      .filter((section) => section.folded)
      .map((section) => ({ from: section.row + 1, to: (section.end ?? rows - 1) + 1 }));
  }

  // How many of `rows` rows are shown.
  shown(rows) {
    return this.#hidden(rows).reduce((left, range) => left - (range.to - range.from), rows);
  }

  // The row that is shown at a place; places count from 0.
  rowAt(place, rows) {
    for (const range of this.#hidden(rows)) if (place >= range.from) place += range.to - range.from;
    return place;
  }

  // Where a row is shown; one that is not, where its section is.
  placeOf(row, rows) {
    let gone = 0;
    for (const range of this.#hidden(rows)) {
      if (row >= range.to) gone += range.to - range.from;
      else if (row >= range.from) return range.from - 1 - gone;
    }
    return row - gone;
  }

  // Makes a row visible; whether anything had to be unfolded.
  reveal(row) {
    const section = this.sections.find((each) => each.folded && row > each.row && (each.end === null || row <= each.end));
    if (section) section.folded = false;
    return Boolean(section);
  }
}

// Seconds between two RFC 3339 times, in words, as the rest of the UI says them.
export function lasting(from, to) {
  const seconds = Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}
