// What is said in passing: that something was done, here or on the page before, or that it went wrong.
(() => {
  "use strict";
  function toast(words, tone) {
    const open = tone === "bad" && document.querySelector("dialog[open] .form-error");
    if (open) { // what lies behind an open dialog is neither seen nor heard
      [open.textContent, open.hidden] = [words, false];
      return;
    }
    const place = document.getElementById(tone === "bad" ? "alerts" : "toasts");
    const made = Object.assign(document.createElement("div"), { className: `toast toast-${tone}`, textContent: words });
    const away = Object.assign(document.createElement("button"), { className: "toast-close", type: "button", textContent: "×" });
    away.setAttribute("aria-label", "Dismiss");
    away.addEventListener("click", () => made.remove());
    made.append(away);
    place.append(made);
    while (place.children.length > 4) place.firstElementChild.remove();
    if (tone !== "bad") setTimeout(() => made.remove(), 6000); // what went wrong stays until it is read
  }
  document.addEventListener("toast", (event) => toast(event.detail.says, event.detail.tone));
  // What is said on the page that one is led to.
  const SAID = "iac-said";
  document.addEventListener("later", (event) => {
    try {
      const { says, tone } = event.detail;
      sessionStorage.setItem(SAID, JSON.stringify({ says, tone }));
    } catch { /* Then the page has to say it alone. */ }
  });
  try {
    const said = JSON.parse(sessionStorage.getItem(SAID));
    sessionStorage.removeItem(SAID);
    if (said) toast(said.says, said.tone);
  } catch { /* Nothing was said. */ }
  document.addEventListener("htmx:sendError", () => toast("The server cannot be reached. Nothing was changed; try again.", "bad"));
  document.addEventListener("htmx:timeout", () => toast("The server does not answer. Look whether it was done before trying again.", "bad"));
})();
