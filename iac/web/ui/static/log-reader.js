// Reading a log: going to lines and matches, folding, wrapping, copying.

import { Screen } from "./log-screen.js";

export class Reader extends Screen {
  async begin() {
    // Where reading begins: at the line of the address, at what went wrong, else at the end.
    this.view.following = !location.hash.startsWith("#L");
    this.view.wrap(matchMedia("(max-width: 720px)").matches);
    this.part("wrap").setAttribute("aria-pressed", String(this.view.wrapping));
    await this.source.load(this.follows);
    if (location.hash.startsWith("#L")) await this.goToHash();
    else if (this.root.dataset.failed === "yes" && this.source.firstError) await this.goToRow(this.source.firstError.row, true);
  }

  // Going to places

  async goToRow(number, always = false) {
    if (number === null) return;
    this.view.following = false;
    if (this.source.stages.reveal(number)) this.view.shown.clear();
    await this.source.rowSoon(number);
    this.view.toRow(number, { always });
    this.showTools();
  }

  async goToHash() {
    const found = /^#L([1-9]\d{0,14})(?:-L?([1-9]\d{0,14}))?$/.exec(location.hash);
    if (!found) return;
    const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])].sort((a, b) => a - b);
    const row = await this.source.rowOfLine(first - 1);
    if (row === null) return this.say(`There is no line ${first}.`);
    this.mark([first, last]);
    await this.goToRow(row, true);
    this.say(first === last ? `Line ${first}` : `Lines ${first} to ${last}`);
  }

  mark(range) {
    this.range = range;
    this.view.repaint();
    this.showTools();
  }

  clickLine(line, extend) {
    const range = extend && this.range ? [Math.min(this.range[0], line), Math.max(this.range[1], line)] : [line, line];
    history.replaceState(history.state, "", range[0] === range[1] ? `#L${line}` : `#L${range[0]}-L${range[1]}`);
    this.mark(range);
    this.say(range[0] === range[1] ? `Line ${line}; its address is in the address bar` : `Lines ${range[0]} to ${range[1]}`);
  }

  async toError() {
    const error = this.source.firstError;
    if (error === null) return;
    this.clickLine(error.line + 1, false);
    await this.goToRow(error.row, true);
    this.say(`First error, line ${error.line + 1}`);
  }

  toEnd() {
    this.view.following = this.follows && this.state !== "ended";
    this.view.toEnd();
    this.showTools();
    this.say("End of the log");
  }

  toTop() {
    this.view.following = false;
    this.view.toTop();
    this.showTools();
    this.say("Begin of the log");
  }

  // Searching

  async search(text) {
    this.currentRow = undefined;
    const from = await this.topByte();
    if (await this.find.look(text, from)) await this.toMatch();
    else if (text) this.say(`${text}: ${this.find.words}`);
    this.view.repaint();
  }

  async topByte() {
    if (!this.source.rows || this.view.window.atEnd) return 0;
    return this.source.row(this.view.topRow)?.offset ?? 0;
  }

  async step(by) {
    if (this.find.step(by) !== null) await this.toMatch();
  }

  async toMatch() {
    const offset = this.find.current;
    if (offset === null) return;
    const row = await this.source.rowOfByte(offset);
    this.currentRow = row;
    this.view.repaint();
    await this.goToRow(row);
    this.say(`Match ${this.find.words}, line ${(this.source.row(row)?.line ?? 0) + 1}`);
  }

  showFind() {
    this.part("found").textContent = this.find.words;
    for (const name of ["next", "previous"]) this.part(name).disabled = this.find.matches.length === 0;
    this.view.refresh();
  }
}
