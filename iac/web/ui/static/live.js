// One stream of events for the page: it brings the parts that changed, and the order of lists that changed.
// The address is in #live, which a swap may replace; `since` tells the server what is shown already.
(() => {
  "use strict";
  const HIDDEN_FOR = 30_000; // a page that nobody sees gives its connection back: browsers have six for each server
  const SLOWEST = 15_000;
  let source = null, address = "", last = "", delay = 1000, timer = 0, hiding = 0, lost = 0;

  const live = () => document.getElementById("live")?.dataset.live ?? "";

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

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function open() {
    close();
    address = live();
    if (!address) return;
    const url = new URL(address, location.href);
    if (last) url.searchParams.set("since", last);
    show("connecting");
    source = new EventSource(url);
    source.onopen = () => {
      [delay, lost] = [1000, 0];
      show("live");
      banner("");
    };
    source.onerror = broken;
    source.addEventListener("patch", (event) => {
      last = event.lastEventId;
      show("live");
      banner("");
      apply(JSON.parse(event.data));
    });
    source.addEventListener("trouble", () => {
      show("trouble");
      banner("The server cannot reach its database. What you see may be old; it is tried again all the time.");
    });
    source.addEventListener("calm", () => { show("live"); banner(""); });
    source.addEventListener("gone", () => end("What this page shows was deleted."));
    source.addEventListener("signed-out", () => {
      const here = encodeURIComponent(location.pathname + location.search);
      end("You are signed out.", { href: `/login?next=${here}`, words: "Sign in again" });
    });
  }

  function end(words, link) {
    close();
    show("ended");
    banner(words, link);
  }

  function broken() {
    lost ||= Date.now();
    close(); // our own pace, with some chance in it: after a restart not everybody comes at once
    show(Date.now() - lost > 3000 ? "offline" : "connecting");
    if (Date.now() - lost > 3000) banner("The server cannot be reached. What you see may be old; it is tried again all the time.");
    timer = setTimeout(open, delay * (0.5 + Math.random()));
    delay = Math.min(delay * 1.6, SLOWEST);
  }

  function apply({ lists, parts }) {
    const made = new Map();
    for (const [id, html] of Object.entries(parts)) {
      const template = document.createElement("template");
      template.innerHTML = html;
      const fresh = template.content.firstElementChild;
      const old = document.getElementById(id);
      if (old?.dataset.digest === fresh.dataset.digest) continue;
      if (old) replace(old, fresh);
      else made.set(id, fresh);
      fresh.classList.add("changed");
    }
    for (const [id, order] of Object.entries(lists)) arrange(document.getElementById(id), order, made);
    document.dispatchEvent(new CustomEvent("iac:patched"));
  }

  function replace(old, fresh) {
    const focused = old.contains(document.activeElement) ? [...focusable(old)].indexOf(document.activeElement) : -1;
    for (const [at, menu] of old.querySelectorAll("details").entries()) {
      const same = fresh.querySelectorAll("details")[at];
      if (same) same.open = menu.open;
    }
    old.replaceWith(fresh);
    htmx.process(fresh);
    if (focused >= 0) focusable(fresh)[focused]?.focus({ preventScroll: true });
  }

  const focusable = (element) => element.querySelectorAll("a[href], button, input, select, summary");

  function arrange(list, order, made) {
    if (!list) return;
    order.forEach((id, at) => {
      const element = made.get(id) ?? document.getElementById(id);
      const there = list.children[at] ?? null;
      if (!element || element === there) return;
      if (element.isConnected && list.moveBefore) list.moveBefore(element, there); // keeps focus and selection
      else list.insertBefore(element, there);
      if (made.has(id)) htmx.process(element);
    });
    while (list.children.length > order.length) {
      if (list.lastElementChild.contains(document.activeElement)) list.closest("section, main")?.focus({ preventScroll: true });
      list.lastElementChild.remove();
    }
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(close, HIDDEN_FOR);
    else if (!source && document.getElementById("connection")?.dataset.state !== "ended") open();
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (live() === address) return;
    last = "";
    open();
  });
  window.addEventListener("offline", () => { if (source) broken(); });
  window.addEventListener("online", () => { if (!source) open(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  open();
})();
