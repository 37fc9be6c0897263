// The elements of the rows that show, and no others.

import { rowElement } from "./log-row.js";

export class Lines {
  // `look(number, row)` says how a row is to be shown.
  constructor(place, source, look) {
    this.place = place;
    this.source = source;
    this.look = look;
    this.elements = new Map();
  }

  // They are made anew with the next `arrange`.
  clear() {
    this.elements.clear();
  }

  // Elements of rows that go on showing stay, so that what is selected in them stays selected.
  arrange(numbers) {
    const kept = new Map();
    let there = this.place.firstChild;
    for (const number of numbers) {
      const row = this.source.row(number);
      const ended = this.source.stages.beginning(number)?.endedAt; // a stage's first row tells how long it took
      let entry = this.elements.get(number);
      if (!entry || entry.ended !== ended || !same(entry.row, row)) entry = { row, ended, element: rowElement(row, number, this.look(number, row)) };
      kept.set(number, entry);
      if (entry.element === there) there = there.nextSibling;
      else this.place.insertBefore(entry.element, there);
    }
    while (there) {
      const next = there.nextSibling;
      there.remove();
      there = next;
    }
    this.elements = kept;
  }
}

function same(one, other) {
  return one === other || (one !== null && other !== null && one.offset === other.offset && one.text === other.text && one.broken === other.broken);
}
