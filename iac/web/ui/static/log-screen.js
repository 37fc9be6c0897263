// The log's part of the page: its rows, and tools that say how it is.

import { Find } from "./log-find.js";
import { LogSource } from "./log-source.js";
import { LogView } from "./log-view.js";

const SAID = {
  loading: "Loading", live: "Live", waiting: "Reconnecting", ended: "", gone: "This log is not kept any more",
  failed: "The log cannot be read", "signed-out": "Signed out",
};

export class Screen {
  constructor(root) {
    this.root = root;
    this.words = JSON.parse(root.dataset.stages);
    this.frame = this.part("frame");
    this.range = null;
    this.source = new LogSource(root.dataset.log, { changed: () => this.changed(), told: (state) => this.told(state) });
    this.view = new LogView(this.frame, this.source, { look: (number, row) => this.look(number, row), moved: () => this.moved() });
    this.find = new Find(`${root.dataset.log}/search`, { changed: () => this.showFind() });
    this.begun = false;
  }

  part(name) {
    return this.root.querySelector(`[data-log-${name}]`);
  }

  get follows() {
    return this.root.dataset.follows === "yes";
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
    this.frame.style.setProperty("--log-digits", String(this.source.pages.lines).length);
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
}
