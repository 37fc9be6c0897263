// The page's one stream of events: it brings the parts that changed, and the order of lists that changed; and the log of the
// page that has one (log-tail.js), which rides along. The address is in #live, which a swap may replace; `since` in it tells
// the server what is shown already.

import { apply } from "./patch.js";
import { Stream } from "./stream.js";

const HIDDEN_FOR = 30_000; // a page that nobody sees gives its connection back: browsers have six for each server
const OFFLINE_AFTER = 3000;
let address = "", hiding = 0, lost = 0, over = false;
let rider = null; // what else goes along: { place, take(event), told(state, status) }

const live = () => document.getElementById("live")?.dataset.live ?? "";
const picture = () => stream.id.split("~")[0];

const stream = new Stream({
  url() {
    const url = new URL(address, location.href);
    if (rider) url.searchParams.set("log", rider.place);
    return url;
  },
  take,
  told(state, status) {
    if (state === "live") {
      lost = 0;
      show("live");
      banner("");
    } else if (state === "waiting") away();
    else if (rider) { // it may be the log that is refused
      const refused = rider;
      rider = null;
      refused.told(state, status);
      return stream.start(picture());
    } else end("This page cannot be kept up to date.", { href: location.href, words: "Load it again" });
    rider?.told(state);
  },
});

function show(state) {
  const place = document.getElementById("connection");
  if (!place || place.dataset.state === state) return;
  place.dataset.state = state;
  place.querySelector("[data-words]").textContent = {
    live: "Live", connecting: "Connecting", offline: "Offline", trouble: "Delayed", ended: "Stopped",
  }[state];
  document.documentElement.classList.toggle("stale", state === "offline" || state === "trouble");
}

function banner(words, link) {
  const place = document.getElementById("banner");
  place.hidden = !words;
  place.replaceChildren(words ?? "");
  if (link) {
    const made = Object.assign(document.createElement("a"), { href: link.href, textContent: link.words });
    place.append(" ", made);
  }
}

function open(id = "") {
  address = live();
  if (!address || over) return;
  show("connecting");
  stream.start(id);
}

function end(words, link) {
  over = true;
  stream.stop();
  show("ended");
  banner(words, link);
}

function away() {
  lost ||= Date.now();
  const long = Date.now() - lost > OFFLINE_AFTER;
  show(long ? "offline" : "connecting");
  if (long) banner("The server cannot be reached. What you see may be old; it is tried again all the time.");
}

// The log goes along from its place on, from now until `leave`.
export function ride(log) {
  rider = log;
  if (stream.running) stream.start(picture());
  else stream.id = picture();
}

export function leave(log) {
  if (rider === log) rider = null;
}

function take(event) {
  const does = {
    patch() {
      show("live");
      banner("");
      apply(JSON.parse(event.data));
    },
    trouble() {
      show("trouble");
      banner("The server cannot reach its database. What you see may be old; it is tried again all the time.");
    },
    calm() {
      show("live");
      banner("");
    },
    gone: () => end("What this page shows was deleted."),
    "signed-out"() {
      const here = encodeURIComponent(location.pathname + location.search);
      end("You are signed out.", { href: `/login?next=${here}`, words: "Sign in again" });
    },
  }[event.name];
  if (does) does();
  else rider?.take(event);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => stream.stop(), HIDDEN_FOR);
  else if (!stream.running) open(stream.id);
});
document.addEventListener("htmx:afterSettle", () => { if (live() !== address) open(); });
document.addEventListener("iac:signed-in", () => {
  over = false;
  banner("");
  open(stream.id);
});
window.addEventListener("offline", () => stream.interrupt());
window.addEventListener("online", () => { if (stream.running) stream.wake(); else open(stream.id); });
window.addEventListener("pagehide", () => stream.stop());
window.addEventListener("pageshow", (event) => { if (event.persisted) open(stream.id); });
open();
