// A session that ends while a page is open: one signs in again within the page, so what was typed stays in its form. Nothing
// of it is kept anywhere else.
(() => {
  "use strict";
  const dialog = document.getElementById("again");
  const meta = (name) => document.querySelector(`meta[name="${name}"]`);
  let late = null; // what came too late

  function ask(element) {
    late = element;
    if (!dialog.open) dialog.showModal();
  }

  // Told by the answer to a request.
  document.addEventListener("signed_out", (event) => ask(event.target));

  // Told by the page's stream, which makes a link of it. Another tab may have signed in meanwhile.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("#banner a[href^='/login']");
    if (!link) return;
    event.preventDefault();
    htmx.ajax("get", "/login", { source: link, swap: "none" });
  });

  document.addEventListener("signed_in", (event) => {
    const { csrf, name } = event.detail;
    if (name !== meta("who").content) return location.reload(); // somebody else sees other things
    meta("csrf").content = csrf;
    for (const input of document.querySelectorAll('input[name="csrf"]')) input.value = csrf;
    document.dispatchEvent(new CustomEvent("iac:signed-in"));
    const [element, form] = [late, late?.closest("form")];
    late = null;
    dialog.close();
    if (form?.hasAttribute("hx-post")) remind(form);
    else if (element?.isConnected && element.matches("a[hx-get], button[hx-get], button[hx-post]")) element.click();
    else if (form?.isConnected) htmx.trigger(form, "submit");
  });

  function remind(form) {
    const place = form.querySelector(".form-error");
    if (place) [place.textContent, place.hidden, place.dataset.tone] = ["You are signed in again. Send it once more.", false, "good"];
    form.querySelector("button[type=submit]")?.focus();
  }
})();
