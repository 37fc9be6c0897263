// The task's dialogs: each is told by the button that opens it what it is about.
(() => {
  "use strict";
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (!opener) return;
    const dialog = document.getElementById(opener.dataset.opens);
    for (const input of dialog.querySelectorAll('[data-fill="plan_digest"]')) input.value = opener.dataset.planDigest;
    for (const place of dialog.querySelectorAll("[data-says]")) place.textContent = opener.dataset.words;
  }, true);

  // Times that come: the server's clock counts, so the difference to ours is taken off.
  const ahead = Date.now() - Date.parse(document.getElementById("stop")?.dataset.now ?? new Date().toISOString());
  const left = (text) => Math.ceil((Date.parse(text) - Date.now() + ahead) / 1000);

  const lasting = (seconds) => (seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`);

  function count() {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const seconds = left(time.dateTime);
      time.textContent = seconds > 0 ? `in ${lasting(seconds)}` : "now";
    }
    for (const button of document.querySelectorAll("button[data-from]")) {
      const seconds = left(button.dataset.from);
      button.disabled = seconds > 0;
      button.querySelector("[data-wait]").textContent = seconds > 0 ? ` in ${seconds} s` : "";
    }
  }
  setInterval(count, 500);
  document.addEventListener("iac:patched", count);
  count();
})();
