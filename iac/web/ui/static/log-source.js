// A task's log as rows by number: pages are fetched when they are looked at, and what comes live is put behind them.

import { PLAIN, parseRow, plainText, styled } from "./log-ansi.js";
import { Pages, joined, rowsOf } from "./log-rows.js";
import { Stages, isError, markOf } from "./log-stages.js";
import { Stream, bytesOf } from "./log-stream.js";

const MOST_KEPT = 48;
const AT_ONCE = 3;
const PAUSE = 1000;

export class LogSource {
  // `changed()` is called whenever rows may look different; `told(state)` with loading, live, waiting, ended, gone or failed.
  constructor(url, { changed, told, statusTold = () => {} }) {
    this.url = url;
    this.changed = changed;
    this.told = told;
    this.statusTold = statusTold;
    this.pages = new Pages();
    this.stages = new Stages();
    this.firstError = null;
    this.kept = new Map();
    this.coming = new Map();
    this.wanted = [];
    this.tail = null;
    this.total = 0;
    this.stream = new Stream(`${url}/stream`, { take: (event) => this.#take(event), told: (state, status) => this.#streamTold(state, status) });
  }

  get rows() {
    return this.pages.rows;
  }

  // Reads the index, then follows the log if it may grow.
  async load(follow) {
    this.told("loading");
    for (let after = -1; ; ) {
      const index = await this.#json(`${this.url}/index?after=${after}`);
      if (index === null) return;
      this.pages.add(index);
      this.stages = new Stages();
      for (const mark of index.stages) this.stages.add(mark, mark.row);
      this.firstError = index.first_error;
      this.total = index.total;
      this.changed();
      if (index.length >= index.total || index.length === 0) break;
      after = this.pages.last.offset;
    }
    if (follow) this.follow();
    else this.told("ended");
  }

  follow() {
    if (this.stream.stopped) this.stream.start(this.tail ? this.pages.length : this.pages.last.offset, this.tail ? this.stream.id : "");
  }

  pause() {
    this.stream.stop();
  }

  // The row, or null while it is not here; ask for what is needed with `want` first.
  row(number) {
    const page = this.pages.pageOf("row", number);
    const rows = this.#rowsOf(page);
    return rows?.[number - this.pages.starts[page].row] ?? null;
  }

  // These rows are looked at now: what is missing of them is fetched, and nothing that was wanted before.
  want(first, end) {
    const wanted = [];
    for (let page = this.pages.pageOf("row", first); page < this.pages.starts.length && this.pages.starts[page].row < end; page += 1) {
      if (!this.#rowsOf(page)) wanted.push(page);
    }
    this.wanted = wanted;
    this.#fetchWanted();
  }

  // The row, as soon as it is here. Null if it cannot be had.
  async rowSoon(number) {
    const page = this.pages.pageOf("row", number);
    await this.#fetched(page);
    return this.row(number);
  }

  // The number of the row that the line begins in; null beyond the end.
  async rowOfLine(line) {
    if (line < 0 || line >= this.pages.lines) return null;
    for (let page = this.pages.pageOfLine(line); page < this.pages.starts.length && this.pages.starts[page].line <= line; page += 1) {
      await this.#fetched(page);
      const found = this.#rowsOf(page)?.findIndex((row) => row.line === line && !row.continued) ?? -1;
      if (found >= 0) return this.pages.starts[page].row + found;
    }
    return null;
  }

  // The number of the row that has this byte; null if it cannot be had.
  async rowOfByte(offset) {
    const page = this.pages.pageOf("offset", offset);
    await this.#fetched(page);
    const rows = this.#rowsOf(page);
    const found = rows?.findLastIndex((row) => row.offset <= offset) ?? -1;
    return found < 0 ? null : this.pages.starts[page].row + found;
  }

  // The text of some lines as people see them.
  async text(first, last) {
    const from = await this.rowOfLine(first);
    if (from === null) return "";
    let text = "";
    for (let number = from; number < this.rows; number += 1) {
      const row = await this.rowSoon(number);
      if (row === null || row.line > last) break;
      text += plainText(row.text) + (row.broken ? "" : "\n");
    }
    return text;
  }

  #rowsOf(page) {
    if (this.tail && this.pages.starts[page].offset === this.tail.offset) {
      this.tail.rows ??= this.#styledRows(page, this.tail.bytes);
      return this.tail.rows;
    }
    const kept = this.kept.get(page);
    if (kept) {
      this.kept.delete(page);
      this.kept.set(page, kept);
    }
    return kept?.end === this.pages.endOf(page) ? kept.rows : undefined;
  }

  #styledRows(page, bytes) {
    const start = this.pages.starts[page];
    let style = start.colours ? styled(PLAIN, start.colours) : PLAIN;
    const rows = rowsOf(bytes, start);
    for (const row of rows) ({ pieces: row.pieces, style } = parseRow(row.text, style));
    return rows;
  }

  #keep(page, bytes) {
    this.kept.delete(page);
    this.kept.set(page, { rows: this.#styledRows(page, bytes), end: this.pages.endOf(page) });
    while (this.kept.size > MOST_KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  #fetchWanted() {
    while (this.wanted.length && this.coming.size < AT_ONCE) this.#fetched(this.wanted.shift()).then(() => this.#fetchWanted());
  }

  #fetched(page) {
    if (this.#rowsOf(page)) return Promise.resolve();
    if (!this.coming.has(page)) this.coming.set(page, this.#fetch(page).finally(() => this.coming.delete(page)));
    return this.coming.get(page);
  }

  async #fetch(page) {
    const start = this.pages.starts[page];
    const end = this.pages.endOf(page);
    const answer = await this.#get(`${this.url}?offset=${start.offset}&limit=${Math.max(1, end - start.offset)}`);
    if (answer === null) return;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if (this.pages.starts[page] !== start || this.pages.endOf(page) !== end) return;
    if (bytes.length < end - start.offset) await new Promise((wake) => setTimeout(wake, PAUSE)); // told live, not stored yet
    else this.#keep(page, bytes);
    this.changed();
  }

  // Null after telling why.
  async #get(url) {
    for (let pause = PAUSE; ; pause = Math.min(pause * 2, 10_000)) {
      const answer = await fetch(url, { cache: "no-store" }).catch(() => null);
      if (answer?.ok) return answer;
      if (answer && answer.status < 500 && answer.status !== 429) {
        this.#refused(answer.status);
        return null;
      }
      this.told("waiting");
      await new Promise((wake) => setTimeout(wake, pause));
    }
  }

  async #json(url) {
    const answer = await this.#get(url);
    return answer && answer.json();
  }

  #refused(status) {
    this.told(status === 401 ? "signed-out" : status === 410 ? "gone" : "failed");
  }

  #streamTold(state, status) {
    if (state === "refused") this.#refused(status);
    else this.told(state);
  }

  #take(event) {
    const data = JSON.parse(event.data);
    if (event.name === "log") return this.#append(data.offset, bytesOf(data.data));
    if (event.name === "reset") return this.#reset(data.offset);
    if (event.name === "status") this.statusTold(data);
    if (event.name === "end") {
      this.told("ended");
      this.stream.stop();
      return false;
    }
    return true;
  }

  #append(offset, data) {
    if (this.tail === null || offset !== this.pages.length) {
      if (offset !== this.pages.last.offset) return this.#again(offset);
      this.#openLast();
    }
    this.tail.bytes = joined(this.tail.bytes, data);
    this.tail.rows = undefined;
    this.pages.feed(data, (text, place) => this.#saw(text, place));
    this.#closePages();
    this.changed();
    return true;
  }

  // The last page is built anew from what the stream tells.
  #openLast() {
    const offset = this.pages.cutAt(this.pages.last.offset);
    this.stages.cutAt(this.pages.rows);
    if (this.firstError && this.firstError.offset >= offset) this.firstError = null;
    this.tail = { offset, bytes: new Uint8Array(0), rows: undefined };
  }

  #closePages() {
    for (let page = this.pages.pageOf("offset", this.tail.offset); page < this.pages.starts.length - 1; page += 1) {
      const size = this.pages.endOf(page) - this.tail.offset;
      this.#keep(page, this.tail.bytes.subarray(0, size));
      this.tail = { offset: this.tail.offset + size, bytes: this.tail.bytes.slice(size), rows: undefined };
    }
  }

  #saw(text, place) {
    const mark = markOf(text);
    if (mark) this.stages.add(mark, place.row);
    else if (this.firstError === null && isError(text)) this.firstError = place;
  }

  // What was told from this byte on was not what is stored. It comes again, behind what is right of the last page.
  #reset(offset) {
    const good = this.tail && offset >= this.tail.offset ? this.tail.bytes.slice(0, offset - this.tail.offset) : null;
    this.pages.cutAt(offset);
    for (const [page] of this.kept) if (page >= this.pages.starts.length - 1) this.kept.delete(page);
    this.#openLast();
    if (good === null) return this.#again(offset);
    if (good.length) this.#append(this.pages.length, good);
    this.changed();
    return true;
  }

  // From the last page's begin on, by the stream.
  #again() {
    this.tail = null;
    this.pages.cutAt(this.pages.last.offset);
    queueMicrotask(() => this.stream.start(this.pages.last.offset));
    return false;
  }
}
