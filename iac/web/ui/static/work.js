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
  // One form may lead to another, which takes its place.
  let opener = "";
  document.addEventListener("htmx:beforeRequest", (event) => {
    const href = event.target.closest("[hx-target='#sheet-place']")?.getAttribute("hx-get");
    if (href && !event.target.closest("dialog")) opener = href;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    const dialog = event.detail.target.closest?.("dialog[data-sheet]");
    if (!dialog || dialog.querySelector(".once")) return;
    if (!dialog.open) dialog.showModal();
    else if (dialog.contains(document.activeElement) && document.activeElement !== dialog) return;
    const first = "input:not([type=hidden]):not([hidden]), textarea, select";
    (dialog.querySelector("[autofocus]") ?? dialog.querySelector(first) ?? dialog.querySelector("footer [data-closes]"))?.focus();
  });
  document.addEventListener("close", (event) => {
    if (!event.target.matches("dialog[data-sheet]")) return;
    event.target.querySelector("[data-sheet-body]").replaceChildren();
    // The browser gives the focus back, unless what had it was drawn anew meanwhile.
    if (document.activeElement === document.body) document.querySelector(`[hx-get="${CSS.escape(opener)}"]`)?.focus();
  }, true);

  // Files to upload: what is never kept is not sent, what is too much is said before it is sent, and then how far it is.
  const NEVER = /(^|\/)(\.terraform|\.git)\//;
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (!input.matches("input[webkitdirectory]")) return;
    const kept = new DataTransfer();
    for (const file of input.files) if (!NEVER.test(file.webkitRelativePath)) kept.items.add(file);
    if (kept.files.length < input.files.length) input.files = kept.files;
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    const form = event.target.closest("form[data-most]");
    if (!form) return;
    const size = [...form.querySelectorAll("input[type=file]")].flatMap((input) => [...input.files]).reduce((sum, file) => sum + file.size, 0);
    if (size <= Number(form.dataset.most)) return;
    event.preventDefault();
    const says = `That is ${(size / 2 ** 20).toFixed(1)} MiB; at most ${Math.floor(form.dataset.most / 2 ** 20)} MiB are taken. Leave out what Terraform does not need.`;
    form.dispatchEvent(new CustomEvent("refused", { bubbles: true, detail: { form: form.id, field: "files", says } }));
  });
  document.addEventListener("htmx:xhr:progress", (event) => {
    const bar = event.target.querySelector?.("[data-sending]");
    if (!bar || !event.detail.lengthComputable) return;
    [bar.hidden, bar.value] = [false, event.detail.loaded / event.detail.total];
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const bar = event.target.querySelector?.("[data-sending]");
    if (bar) bar.hidden = true;
  });

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
    const loaded = event.target;
    for (const form of loaded.matches?.("form") ? [loaded] : loaded.querySelectorAll?.("form") ?? []) follow(form);
  });
})();
