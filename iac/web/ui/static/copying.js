// Buttons with data-copy copy that text, and say so where it is seen and heard: in the dialog that they are in, if in one.
(() => {
  "use strict";
  const tell = (says, tone) => document.dispatchEvent(new CustomEvent("toast", { detail: { says, tone } }));

  // Over plain HTTP scripts have no clipboard; the old way still works.
  function copyByHand(button) {
    const place = Object.assign(document.createElement("textarea"), { value: button.dataset.copy, className: "heard" });
    button.after(place);
    place.select();
    const done = document.execCommand("copy");
    place.remove();
    button.focus();
    return done;
  }

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      if (!copyByHand(button)) return tell("The browser lets nobody copy here; select it yourself.", "bad");
    }
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 2000);
    const told = button.closest("dialog")?.querySelector("[role=status]");
    if (told) told.textContent = "Copied.";
    else tell("Copied.", "good");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
})();
