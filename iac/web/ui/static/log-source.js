// A task's log as rows by number: what is stored, by an index, and behind it what comes live.

import { plainText } from "./log-ansi.js";
import { Pages } from "./log-pages.js";
import { Shelf } from "./log-shelf.js";
import { Stages } from "./log-stages.js";
import { Tail } from "./log-tail.js";

export class LogSource {
  // `changed()` is called whenever rows may look different; `told(state)` with loading, live, waiting, ended, gone or failed.
  constructor(url, { changed, told }) {
    this.url = url;
    this.changed = changed;
    this.told = told;
    this.pages = new Pages();
    this.stages = new Stages();
    this.firstError = null;
    this.shelf = new Shelf(url, this.pages, { changed, told });
    this.tail = new Tail(this);
  }

  get rows() {
    return this.pages.rows;
  }

  // Reads the index, then follows the log if it may grow.
  async load(follow) {
    this.told("loading");
    for (let after = -1; ; after = this.pages.last.offset) {
      const answer = await this.shelf.get(`${this.url}/index?after=${after}`);
      if (answer === null) return;
      const index = await answer.json();
      this.pages.add(index);
      this.stages = new Stages();
      for (const mark of index.stages) this.stages.add(mark, mark.row);
      this.firstError = index.first_error;
      this.changed();
      if (index.length >= index.total || index.length === 0) break;
    }
    if (follow) this.follow();
    else this.told("ended");
  }

  follow() {
    this.tail.follow();
  }

  // The row, or null while it is not here; ask for what is needed with `want` first.
  row(number) {
    const page = this.pages.pageOf("row", number);
    return this.shelf.rows(page)?.[number - this.pages.starts[page].row] ?? null;
  }

  want(first, end) {
    this.shelf.want(first, end);
  }

  // The row, as soon as it is here. Null if it cannot be had.
  async rowSoon(number) {
    await this.shelf.fetched(this.pages.pageOf("row", number));
    return this.row(number);
  }

  // The number of the row that the line begins in; null beyond the end.
  async rowOfLine(line) {
    if (line < 0 || line >= this.pages.lines) return null;
    const { starts } = this.pages;
    for (let page = this.pages.pageOfLine(line); page < starts.length && starts[page].line <= line; page += 1) {
      await this.shelf.fetched(page);
      const found = this.shelf.rows(page)?.findIndex((row) => row.line === line && !row.continued) ?? -1;
      if (found >= 0) return starts[page].row + found;
    }
    return null;
  }

  // The number of the row that has this byte; null if it cannot be had.
  async rowOfByte(offset) {
    const page = this.pages.pageOf("offset", offset);
    await this.shelf.fetched(page);
    const found = this.shelf.rows(page)?.findLastIndex((row) => row.offset <= offset) ?? -1;
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
}
