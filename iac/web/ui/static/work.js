// What pages of workspaces and plans do besides ui.js: fold and unfold, dialogs that are fetched, choosing two versions.
(() => {
  "use strict";
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-unfold], [data-fold]");
    if (!button) return;
    const open = "unfold" in button.dataset;
    for (const each of document.getElementById(button.dataset.unfold ?? button.dataset.fold).querySelectorAll("details.change")) each.open = open;
  });

  // On a narrow screen the present tab is in sight; and a menu closes when what was chosen in it opens.
  document.querySelector(".tabs [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  document.addEventListener("click", (event) => {
    const menu = event.target.closest("details.menu [data-opens]")?.closest("details.menu");
    if (menu) menu.open = false;
  });

  // A form that is fetched into a dialog: the link that leads to its page opens it here instead.
  // After it has settled: htmx moves the focus when it does, and by then somebody could have begun to type.
  document.addEventListener("htmx:afterSettle", (event) => {
    const dialog = event.detail.target.closest?.("dialog[data-sheet]");
    if (!dialog || dialog.open) return;
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? dialog.querySelector("input:not([type=hidden]), textarea, select"))?.focus();
  });
  document.addEventListener("close", (event) => {
    if (event.target.matches("dialog[data-sheet]")) event.target.querySelector("[data-sheet-body]").replaceChildren();
  }, true);

  // What is chosen shows what belongs to it: elements with data-if="name=value" follow the field of that name in their form.
  function follow(form) {
    for (const element of form.querySelectorAll("[data-if]")) {
      const [name, value] = element.dataset.if.split("=");
      const field = form.elements.namedItem(name);
      element.hidden = (field?.type === "checkbox" ? String(field.checked) : field?.value) !== value;
    }
  }
  document.addEventListener("change", (event) => { if (event.target.form) follow(event.target.form); });
  document.addEventListener("htmx:load", (event) => {
    for (const form of event.target.querySelectorAll?.("form") ?? []) follow(form);
  });
})();
