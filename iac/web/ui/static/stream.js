// Server-sent events over fetch: unlike EventSource it says why it was refused, comes back with exactly the id it had, and
// notices when nothing comes any more.

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15_000;
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

// Follows the stream at `url()` until `stop()`; comes back where it was. `take(event)` hears each event, `told` hears "live",
// "waiting" while it is away, and "refused" with the status, which ends it.
export class Stream {
  constructor({ url, take, told }) {
    Object.assign(this, { url, take, told });
    this.id = "";
    this.running = false;
    this.turn = 0;
  }

  // Begins, or begins again, behind the event with this id.
  start(id) {
    this.stop();
    this.id = id;
    this.running = true;
    this.pause = FIRST_PAUSE;
    this.#run(this.turn);
  }

  stop() {
    this.running = false;
    this.turn += 1;
    this.abort?.abort();
    this.wake();
  }

  // Nothing can come any more: it is tried again from now on.
  interrupt() {
    this.abort?.abort();
  }

  // Tries again at once.
  wake() {
    clearTimeout(this.timer);
    this.awake?.();
  }

  async #run(turn) {
    const going = () => turn === this.turn;
    while (going()) {
      try {
        if (!(await this.#follow(going))) return;
      } catch {
        // The network: it is tried again.
      }
      if (!going()) return;
      this.told("waiting");
      // With some chance in it: after a restart of the server not everybody comes at once.
      await new Promise((awake) => {
        this.awake = awake;
        this.timer = setTimeout(awake, this.pause * (0.5 + Math.random()));
      });
      this.pause = Math.min(this.pause * 1.6, LONGEST_PAUSE);
    }
  }

  // Whether to come back.
  async #follow(going) {
    const abort = new AbortController();
    this.abort = abort;
    const headers = { Accept: "text/event-stream", ...(this.id && { "Last-Event-ID": this.id }) };
    const answer = await fetch(this.url(), { headers, signal: abort.signal, cache: "no-store" });
    if (!going()) return false;
    if (!answer.ok) {
      if (answer.status >= 500 || answer.status === 429) return true;
      this.running = false;
      this.told("refused", answer.status);
      return false;
    }
    this.told("live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const quiet = setTimeout(() => abort.abort(), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(quiet));
      if (done || !going()) return true;
      this.pause = FIRST_PAUSE;
      for (const event of parser.feed(value)) {
        if (!going()) return false;
        if (event.id !== null) this.id = event.id;
        this.take(event);
      }
    }
  }
}
