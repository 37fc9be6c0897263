// Server-sent events over fetch: unlike EventSource it says why it was refused, and comes back with exactly the id it had.

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;
const SILENCE = 40_000;

// Events out of text that comes in pieces of any size.
export class EventParser {
  constructor() {
    this.rest = "";
  }

  feed(text) {
    const blocks = (this.rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop();
    return blocks.map(eventOf).filter((event) => event !== null);
  }
}

function eventOf(block) {
  const event = { name: "message", data: "", id: null };
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") event.name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") event.id = value;
  }
  event.data = data.join("\n");
  return data.length ? event : null;
}

// Follows a stream until `stop()`, or until `take` says false; reconnects where it was. `told` hears "live", "waiting", or
// "refused" with the status.
export class Stream {
  constructor(url, { take, told }) {
    this.url = url;
    this.take = take;
    this.told = told;
    this.abort = null;
    this.stopped = true;
    this.pause = FIRST_PAUSE;
    this.turn = 0;
  }

  // Goes on behind `offset`; `id` is the last event's, if there was one.
  start(offset, id = "") {
    this.stop();
    this.stopped = false;
    this.id = id;
    this.offset = offset;
    this.turn += 1;
    this.#run(this.turn);
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
    clearTimeout(this.timer);
  }

  async #run(turn) {
    const going = () => !this.stopped && turn === this.turn;
    while (going()) {
      try {
        if (!(await this.#follow(going))) return;
      } catch {
        // The network: it is tried again.
      }
      if (!going()) return;
      this.told("waiting");
      await new Promise((wake) => {
        this.timer = setTimeout(wake, this.pause);
      });
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    }
  }

  // Whether to come back.
  async #follow(going) {
    this.abort = new AbortController();
    const headers = this.id ? { "Last-Event-ID": this.id } : {};
    const answer = await fetch(`${this.url}?stay=true&offset=${this.offset}`, { headers, signal: this.abort.signal, cache: "no-store" });
    if (!answer.ok) {
      const again = answer.status >= 500 || answer.status === 429;
      if (!again) this.told("refused", answer.status);
      return again;
    }
    this.told("live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const quiet = setTimeout(() => this.abort.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(quiet));
      if (done || !going()) return true;
      this.pause = FIRST_PAUSE;
      for (const event of parser.feed(value)) {
        if (!going()) return false;
        if (event.id !== null) this.id = event.id;
        if (this.take(event) === false) return false;
      }
    }
  }
}

// Base64 as bytes.
export function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let n = 0; n < raw.length; n += 1) bytes[n] = raw.charCodeAt(n);
  return bytes;
}
