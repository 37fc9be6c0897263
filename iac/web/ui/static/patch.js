// Puts into the page what has changed: parts that say something else, and lists whose order is another. Focus stays where it is.

export function apply({ lists, parts }) {
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
