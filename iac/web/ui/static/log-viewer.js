// The log of a task on its page: puts rows, search, folds, links to lines and the keyboard together.
// It begins where the server left: an element `data-log` with the last lines as plain text in it.

import { Find } from "./log-find.js";
import { LogSource } from "./log-source.js";
import { LogView } from "./log-view.js";

const SAID = {
  loading: "Loading", live: "Live", waiting: "Reconnecting", ended: "", gone: "This log is not kept any more",
  failed: "The log cannot be read", "signed-out": "Signed out",
};

class LogViewer {
  constructor(root) {
    this.root = root;
    this.words = JSON.parse(root.dataset.stages);
    this.frame = this.part("frame");
    this.range = null;
    this.source = new LogSource(root.dataset.log, { changed: () => this.changed(), told: (state) => this.told(state) });
    this.view = new LogView(this.frame, this.source, { look: (number, row) => this.look(number, row), moved: () => this.moved() });
    this.find = new Find(`${root.dataset.log}/search`, { changed: () => this.showFind() });
    this.begun = false;
    this.listen();
  }

  part(name) {
    return this.root.querySelector(`[data-log-${name}]`);
  }

  get follows() {
    return this.root.dataset.follows === "yes";
  }

  async begin() {
    // Where reading begins: at the line of the address, at what went wrong, else at the end.
    this.view.following = !location.hash.startsWith("#L");
    this.view.wrap(matchMedia("(max-width: 720px)").matches);
    this.part("wrap").setAttribute("aria-pressed", String(this.view.wrapping));
    await this.source.load(this.follows);
    if (location.hash.startsWith("#L")) await this.goToHash();
    else if (this.root.dataset.failed === "yes" && this.source.firstError) await this.goToRow(this.source.firstError.row, true);
  }

  // What happens to it from outside

  changed() {
    if (!this.begun && this.source.rows) {
      this.begun = true;
      this.view.begin();
    }
    this.view.refresh();
    this.showTools();
  }

  told(state) {
    this.state = state;
    const place = this.part("state");
    place.textContent = SAID[state];
    place.dataset.state = state;
    if (state === "ended") this.ended();
    if (state === "gone") this.frame.replaceChildren(Object.assign(document.createElement("p"), { className: "log-empty", textContent: SAID.gone }));
    this.showTools();
  }

  // The last rows are shown once more, and then the reader is left alone.
  ended() {
    if (this.begun && this.view.following) this.view.toEnd();
    this.view.following = false;
  }

  moved() {
    this.showTools();
  }

  showTools() {
    const live = this.state === "live" || this.state === "waiting" || this.state === "loading";
    const follow = this.part("follow");
    follow.hidden = !live || !this.follows;
    follow.setAttribute("aria-pressed", String(this.view.following));
    this.part("end").hidden = !this.begun || this.view.window.atEnd;
    this.part("error").hidden = this.source.firstError === null;
    this.part("folds").hidden = this.source.stages.sections.length === 0;
    const folded = this.source.stages.sections.some((section) => section.folded);
    this.part("folds").setAttribute("aria-pressed", String(folded));
    this.part("lines").textContent = this.source.pages.lines ? `${this.source.pages.lines.toLocaleString("en")} lines` : "";
    this.part("copy").hidden = this.range === null;
    if (this.range) this.part("copy-words").textContent = this.range[0] === this.range[1] ? "Copy line" : `Copy ${this.range[1] - this.range[0] + 1} lines`;
  }

  look(number, row) {
    const { stages } = this.source;
    const section = stages.beginning(number);
    const ending = section ? undefined : stages.ends.get(number);
    const stage = (section ?? ending)?.stage;
    const line = row === null ? -1 : row.line + 1;
    return {
      marked: this.range !== null && line >= this.range[0] && line <= this.range[1],
      current: number === this.currentRow,
      query: this.find.text,
      section, ending,
      words: stage === undefined ? "" : this.words[stage] ?? stage,
    };
  }

  say(words) {
    this.part("says").textContent = words;
  }

  // Going to places

  async goToRow(number, always = false) {
    if (number === null) return;
    this.view.following = false;
    if (this.source.stages.reveal(number)) this.view.elements.clear();
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

  // Buttons and keys

  listen() {
    const click = (name, does) => this.part(name).addEventListener("click", does);
    click("follow", () => (this.view.following ? this.unfollow() : this.toEnd()));
    click("end", () => this.toEnd());
    click("error", () => this.toError());
    click("folds", () => this.foldAll());
    click("wrap", () => this.wrap());
    click("next", () => this.step(1));
    click("previous", () => this.step(-1));
    click("copy", () => this.copy());
    const input = this.part("search");
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.search(input.value), 180);
    });
    input.addEventListener("keydown", (event) => this.keyInSearch(event, () => clearTimeout(timer)));
    this.frame.addEventListener("click", (event) => this.clicked(event));
    this.frame.addEventListener("keydown", (event) => this.keyInFrame(event));
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.goToHash());
    document.addEventListener("visibilitychange", () => this.hidden());
    document.addEventListener("iac:patched", () => this.patched());
  }

  clicked(event) {
    const number = event.target.closest("a.log-number");
    const fold = event.target.closest("[data-fold]");
    if (number) {
      event.preventDefault();
      this.clickLine(Number(number.textContent), event.shiftKey);
    } else if (fold) this.fold(Number(fold.dataset.fold));
  }

  fold(row) {
    const section = this.source.stages.beginning(row);
    section.folded = !section.folded;
    this.view.following = false;
    this.view.repaint();
    this.view.draw();
    this.frame.querySelector(`[data-fold="${row}"]`)?.focus({ preventScroll: true });
    this.showTools();
  }

  foldAll() {
    const { sections } = this.source.stages;
    const folded = !sections.some((section) => section.folded);
    for (const section of sections) section.folded = folded;
    this.view.following = false;
    this.view.repaint();
    this.view.draw();
    this.showTools();
    this.say(folded ? "All stages folded" : "All stages unfolded");
  }

  wrap() {
    this.view.wrap(!this.view.wrapping);
    this.part("wrap").setAttribute("aria-pressed", String(this.view.wrapping));
  }

  unfollow() {
    this.view.following = false;
    this.showTools();
  }

  async copy() {
    const text = await this.source.text(this.range[0] - 1, this.range[1] - 1);
    await navigator.clipboard?.writeText(text);
    document.dispatchEvent(new CustomEvent("toast", { detail: { says: "Copied.", tone: "good" } }));
  }

  keyInSearch(event, settle) {
    if (event.key === "Enter") {
      event.preventDefault();
      settle();
      if (this.find.text === event.target.value) this.step(event.shiftKey ? -1 : 1);
      else this.search(event.target.value);
    } else if (event.key === "Escape") {
      event.target.value = "";
      settle();
      this.search("");
      this.frame.focus();
    }
  }

  keyInFrame(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "f") {
      event.preventDefault();
      this.part("search").focus();
    }
    if (event.key === "Home" && !event.ctrlKey) this.toTop();
    if (event.key === "End" && !event.ctrlKey) this.toEnd();
  }

  // Keys that work anywhere on the page, but not where somebody types.
  key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const keys = {
      f: () => this.part("search").focus(), "/": () => this.part("search").focus(), n: () => this.step(1), N: () => this.step(-1),
      g: () => this.toTop(), G: () => this.toEnd(), e: () => this.toError(), w: () => this.wrap(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  // Life

  hidden() {
    if (!this.follows || !this.begun) return;
    if (document.hidden) this.leaving = setTimeout(() => this.source.pause(), 30_000);
    else {
      clearTimeout(this.leaving);
      if (this.state !== "ended") this.source.follow();
    }
  }

  // The page's own stream has told that the task moves: its log may grow again.
  patched() {
    const status = document.querySelector("[data-log-follows]")?.dataset.logFollows;
    if (status === undefined || status === this.root.dataset.follows) return;
    this.root.dataset.follows = status;
    if (status === "yes") {
      this.view.following ||= this.view.window.atEnd;
      this.source.follow();
    }
    this.showTools();
  }
}

for (const root of document.querySelectorAll("[data-log]")) {
  root.viewer = new LogViewer(root);
  root.viewer.begin();
}
