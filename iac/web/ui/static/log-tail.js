// The end of a log that grows: what its stream tells is put behind what is known, and taken back where it was wrong.

import { joined } from "./log-rows.js";
import { refusal } from "./log-shelf.js";
import { isError, markOf } from "./log-stages.js";
import { leave, ride } from "./live.js";

export class Tail {
  // `log` has pages, stages, shelf and firstError, and hears `changed()` and `told(state)`. It rides on the page's stream.
  constructor(log) {
    this.log = log;
    this.following = false;
  }

  // From where it was, or else from the begin of the last page on: that one is built anew.
  follow() {
    if (this.following) return;
    const { pages, shelf } = this.log;
    this.following = true;
    this.#ride(shelf.tail ? pages.length : pages.last.offset);
  }

  // `place`: the byte to begin with; the stream itself knows where to go on after a break.
  #ride(place) {
    this.place = place;
    ride(this);
  }

  told(state, status) {
    if (state === "refused") this.following = false;
    this.log.told(state === "refused" ? refusal(status) : state);
  }

  take(event) {
    if (!this.following) return;
    const data = JSON.parse(event.data);
    if (event.name === "log") this.#append(data.offset, bytesOf(data.data));
    else if (event.name === "reset") this.#reset(data.offset);
    else if (event.name === "end") {
      this.following = false;
      leave(this);
      this.log.told("ended");
    }
  }

  #append(offset, data) {
    const { pages, shelf } = this.log;
    if (shelf.tail === null || offset !== pages.length) {
      if (offset !== pages.last.offset) return this.#again();
      this.#open();
    }
    shelf.tail.bytes = joined(shelf.tail.bytes, data);
    shelf.tail.rows = undefined;
    pages.feed(data, (text, place) => this.#saw(text, place));
    this.#close();
    this.log.changed();
  }

  // The last page is built anew from what the stream tells.
  #open() {
    const { pages, stages, shelf } = this.log;
    const offset = pages.cutAt(pages.last.offset);
    stages.cutAt(pages.rows);
    if (this.log.firstError?.offset >= offset) this.log.firstError = null;
    shelf.tail = { offset, bytes: new Uint8Array(0), rows: undefined };
  }

  // Pages that are complete are kept like those that were fetched.
  #close() {
    const { pages, shelf } = this.log;
    for (let page = pages.pageOf("offset", shelf.tail.offset); page < pages.starts.length - 1; page += 1) {
      const { offset, bytes } = shelf.tail;
      const size = pages.endOf(page) - offset;
      shelf.keep(page, bytes.subarray(0, size));
      shelf.tail = { offset: offset + size, bytes: bytes.slice(size), rows: undefined };
    }
  }

  #saw(text, place) {
    const mark = markOf(text);
    if (mark) this.log.stages.add(mark, place.row);
    else if (this.log.firstError === null && isError(text)) this.log.firstError = place;
  }

  // What was told from this byte on was not what is stored. It comes again, behind what is right of the last page.
  #reset(offset) {
    const { pages, shelf } = this.log;
    const { tail } = shelf;
    const good = tail && offset >= tail.offset ? tail.bytes.slice(0, offset - tail.offset) : null;
    pages.cutAt(offset);
    shelf.forget(pages.starts.length - 1);
    this.#open();
    if (good === null) return this.#again();
    if (good.length) this.#append(pages.length, good);
    this.log.changed();
  }

  // From the last page's begin on, by the stream.
  #again() {
    const { pages, shelf } = this.log;
    shelf.tail = null;
    pages.cutAt(pages.last.offset);
    this.#ride(pages.last.offset);
  }
}

// Base64 as bytes.
export function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let n = 0; n < raw.length; n += 1) bytes[n] = raw.charCodeAt(n);
  return bytes;
}
