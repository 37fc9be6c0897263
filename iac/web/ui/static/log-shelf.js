// The pages of a log that are here: fetched when they are looked at, the newest few kept.

import { PLAIN, parseRow, styled } from "./log-ansi.js";
import { rowsOf } from "./log-rows.js";

const MOST_KEPT = 48;
const AT_ONCE = 3;
const PAUSE = 1000;

export class Shelf {
  // `changed()` when rows have come; `told(state)` when they cannot be had.
  constructor(url, pages, { changed, told }) {
    this.url = url;
    this.pages = pages;
    this.changed = changed;
    this.told = told;
    this.tail = null; // the page that grows: { offset, bytes, rows }
    this.kept = new Map();
    this.coming = new Map();
    this.wanted = [];
  }

  // The rows of a page; undefined while they are not here.
  rows(page) {
    if (this.tail && this.pages.starts[page].offset === this.tail.offset) {
      this.tail.rows ??= this.#styled(page, this.tail.bytes);
      return this.tail.rows;
    }
    const kept = this.kept.get(page);
    if (kept?.end !== this.pages.endOf(page)) return undefined;
    this.kept.delete(page);
    this.kept.set(page, kept);
    return kept.rows;
  }

  keep(page, bytes) {
    this.kept.delete(page);
    this.kept.set(page, { rows: this.#styled(page, bytes), end: this.pages.endOf(page) });
    while (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  // Pages from this one on are not what they were.
  forget(from) {
    for (const page of [...this.kept.keys()]) if (page >= from) this.kept.delete(page);
  }

  // These rows are looked at now: what is missing of them is fetched, and nothing that was wanted before.
  want(first, end) {
    this.wanted = [];
    const { starts } = this.pages;
    for (let page = this.pages.pageOf("row", first); page < starts.length && starts[page].row < end; page += 1) {
      if (!this.rows(page)) this.wanted.push(page);
    }
    this.#fetchWanted();
  }

  // Resolves when the page is here, or cannot be had.
  fetched(page) {
    if (this.rows(page)) return Promise.resolve();
    if (!this.coming.has(page)) this.coming.set(page, this.#fetch(page).finally(() => this.coming.delete(page)));
    return this.coming.get(page);
  }

  // The answer; null after telling why there is none.
  async get(url) {
    for (let pause = PAUSE; ; pause = Math.min(pause * 2, 10_000)) {
      const answer = await fetch(url, { cache: "no-store" }).catch(() => null);
      if (answer?.ok) return answer;
      if (answer && answer.status < 500 && answer.status !== 429) {
        this.told(refusal(answer.status));
        return null;
      }
      this.told("waiting");
      await new Promise((wake) => setTimeout(wake, pause));
    }
  }

  #styled(page, bytes) {
    const start = this.pages.starts[page];
    let style = start.colours ? styled(PLAIN, start.colours) : PLAIN;
    const rows = rowsOf(bytes, start);
    for (const row of rows) ({ pieces: row.pieces, style } = parseRow(row.text, style));
    return rows;
  }

  #fetchWanted() {
    while (this.wanted.length && this.coming.size < AT_ONCE) this.fetched(this.wanted.shift()).then(() => this.#fetchWanted());
  }

  async #fetch(page) {
    const start = this.pages.starts[page];
    const end = this.pages.endOf(page);
    const answer = await this.get(`${this.url}?offset=${start.offset}&limit=${Math.max(1, end - start.offset)}`);
    if (answer === null) return;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if (this.pages.starts[page] !== start || this.pages.endOf(page) !== end) return;
    if (bytes.length < end - start.offset) await new Promise((wake) => setTimeout(wake, PAUSE)); // told live, not stored yet
    else this.keep(page, bytes);
    this.changed();
  }
}

// What a status that is none of success says about the log.
export function refusal(status) {
  return status === 401 ? "signed-out" : status === 410 ? "gone" : "failed";
}
