// Looking for a text in the whole log: the server reads it, piece by piece, and tells where; here the matches are kept.

const MOST = 50_000;
const FIRST_SPAN = 4 * 1024 * 1024;
const MOST_SPAN = 64 * FIRST_SPAN; // it answers sooner when it has found something

export class Find {
  // `changed()` whenever there is more to show; `first()` once, when there is a match to go to.
  constructor(url, { changed }) {
    this.url = url;
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.abort?.abort();
    this.text = "";
    this.matches = [];
    this.at = -1;
    this.busy = this.cut = this.failed = false;
    this.searched = 0;
  }

  // Searches all of it; resolves when the first match is known, or that there is none. `from`: the byte to look from on.
  async look(text, from = 0) {
    this.clear();
    if (!text) return this.changed();
    this.text = text;
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.busy = true;
    this.changed();
    return new Promise((found) => {
      this.#all(text, signal, () => this.#settle(from) && found(true)).finally(() => {
        if (!signal.aborted) {
          this.busy = false;
          this.at = this.at < 0 && this.matches.length ? 0 : this.at;
          this.changed();
        }
        found(this.matches.length > 0);
      });
    });
  }

  // The first match at or behind a byte becomes the one that is shown.
  #settle(from) {
    if (this.at < 0) this.at = this.matches.findIndex((offset) => offset >= from);
    return this.at >= 0;
  }

  async #all(text, signal, more) {
    // Little at first, so that there is something to show at once; then more with each step.
    for (let [offset, span] = [0, FIRST_SPAN]; offset !== null && !this.cut; span = MOST_SPAN) {
      const answer = await fetch(`${this.url}?text=${encodeURIComponent(text)}&offset=${offset}&span=${span}`, { signal, cache: "no-store" }).catch(() => null);
      const told = answer?.ok ? await answer.json().catch(() => null) : null;
      if (signal.aborted) return;
      if (told === null) {
        this.failed = true;
        return;
      }
      this.matches = this.matches.concat(told.matches);
      this.cut = this.matches.length >= MOST;
      this.searched = told.next_offset ?? told.total;
      offset = told.next_offset;
      more();
      this.changed();
    }
  }

  // The byte of the next match, or of the one before; null if there is none. They go round.
  step(by) {
    if (!this.matches.length) return null;
    this.at = (this.at + by + this.matches.length) % this.matches.length;
    this.changed();
    return this.matches[this.at];
  }

  get current() {
    return this.matches[this.at] ?? null;
  }

  get words() {
    if (!this.text) return "";
    if (this.failed) return "Search failed";
    const many = `${this.matches.length.toLocaleString("en")}${this.cut || (this.busy && this.matches.length) ? "+" : ""}`;
    if (this.matches.length) return `${(this.at + 1).toLocaleString("en")} of ${many}`;
    return this.busy ? "Searching" : "Not found";
  }
}
