// What every page does by itself: times, theme, dialogs, menus, and what forms are told.
(() => {
  "use strict";
  const root = document.documentElement;

  // Times: the words of iac/web/ui/models/times.py, kept right while the page is open.
  const [MINUTE, HOUR, DAY] = [60, 3600, 86400];
  const two = (number) => String(number).padStart(2, "0");

  function ago(seconds, then) {
    if (seconds < 5) return "just now";
    if (seconds < MINUTE) return `${seconds} s ago`;
    if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
    if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
    const days = Math.floor(seconds / DAY);
    if (days < 30) return days === 1 ? "1 day ago" : `${days} days ago`;
    return then.toISOString().slice(0, 10);
  }

  function lasting(seconds) {
    if (seconds < MINUTE) return `${seconds} s`;
    if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ${two(seconds % MINUTE)} s`;
    if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ${two(Math.floor((seconds % HOUR) / MINUTE))} min`;
    return `${Math.floor(seconds / DAY)} d ${Math.floor((seconds % DAY) / HOUR)} h`;
  }

  function tick() {
    for (const time of document.querySelectorAll("time[data-ago], time[data-lasting]")) {
      const then = new Date(time.dateTime);
      const seconds = Math.max(0, Math.floor((Date.now() - then.getTime()) / 1000));
      const words = "ago" in time.dataset ? ago(seconds, then) : lasting(seconds);
      if (time.textContent !== words) time.textContent = words;
    }
  }
  setInterval(() => { if (!document.hidden) tick(); }, 1000);
  document.addEventListener("iac:patched", tick);
  document.addEventListener("htmx:afterSettle", tick);
  document.addEventListener("visibilitychange", tick);
  // Who points at a time gets it in his own zone too.
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("time[datetime]");
    if (!time || time.dataset.local) return;
    time.dataset.local = "true";
    time.title = `${new Date(time.dateTime).toLocaleString()}\n${time.title}`;
  });

  // Theme
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  function name(button) {
    button.setAttribute("aria-label", theme() === "dark" ? "Use the light theme" : "Use the dark theme");
    button.title = button.getAttribute("aria-label");
  }
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    name(button);
    dark.addEventListener("change", () => name(button));
    button.addEventListener("click", () => {
      const wanted = theme() === "dark" ? "light" : "dark";
      const system = dark.matches ? "dark" : "light";
      try {
        if (wanted === system) localStorage.removeItem("iac-theme"); // follows the system again
        else localStorage.setItem("iac-theme", wanted);
      } catch { /* It is forgotten with the page. */ }
      if (wanted === system) delete root.dataset.theme;
      else root.dataset.theme = wanted;
      name(button);
    });
  }

  // Dialogs and menus. Whoever clicks beside a dialog closes it, unless the click began inside (a text that was being
  // selected), something was typed, or it shows what is shown once.
  let pressed = null;
  document.addEventListener("pointerdown", (event) => { pressed = event.target; });
  const typed = (field) => ("checked" in field && field.checked !== field.defaultChecked) || (field.type !== "hidden" && "defaultValue" in field && field.value !== field.defaultValue);
  const stays = (dialog) => dialog.querySelector(".once") || [...dialog.querySelectorAll("input, textarea")].some(typed);
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens).showModal();
    const beside = event.target.matches("dialog[open]") && pressed === event.target && !stays(event.target);
    if (event.target.closest("[data-closes]") || beside) event.target.closest("dialog").close();
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    const search = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  });

  // Forms
  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf"]')?.content ?? "";
  });
  document.addEventListener("htmx:beforeRequest", (event) => { if (event.target.matches("form")) forgive(event.target); });
  document.addEventListener("refused", (event) => {
    const { form: id, field, says } = event.detail;
    const form = document.getElementById(id);
    const input = field ? form.elements.namedItem(field) : null;
    const place = (input && document.getElementById(`${input.id}-error`)) || form.querySelector(".form-error");
    place.textContent = says;
    place.hidden = false;
    input?.setAttribute("aria-invalid", "true");
    (input ?? form.querySelector("[autofocus], input:not([type=hidden]), textarea, select"))?.focus(); // some only ask to be sure
  });
  document.addEventListener("done", (event) => {
    const form = event.target.closest("form");
    form?.reset();
    form?.closest("dialog")?.close();
  });
  function forgive(form) {
    for (const place of form.querySelectorAll(".form-error, .field-error")) {
      [place.textContent, place.hidden] = ["", true];
      delete place.dataset.tone;
    }
    for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  }
  document.addEventListener("reset", (event) => forgive(event.target));
})();
