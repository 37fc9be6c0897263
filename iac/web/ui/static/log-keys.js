// Buttons, clicks and keys of the log.

export function listen(log) {
  const click = (name, does) => log.part(name).addEventListener("click", does);
  click("follow", () => (log.view.following ? log.unfollow() : log.toEnd()));
  click("end", () => log.toEnd());
  click("error", () => log.toError());
  click("folds", () => log.foldAll());
  click("wrap", () => log.wrap());
  click("next", () => log.step(1));
  click("previous", () => log.step(-1));
  click("copy", () => log.copy());
  const input = log.part("search");
  let timer = 0;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => log.search(input.value), 180);
  });
  input.addEventListener("keydown", (event) => keyInSearch(log, event, () => clearTimeout(timer)));
  log.frame.addEventListener("click", (event) => clicked(log, event));
  log.frame.addEventListener("keydown", (event) => keyInFrame(log, event));
  document.addEventListener("keydown", (event) => key(log, event));
  window.addEventListener("hashchange", () => log.goToHash());
  document.addEventListener("iac:patched", () => log.patched());
}

function clicked(log, event) {
  const number = event.target.closest("a.log-number");
  const fold = event.target.closest("[data-fold-at]");
  if (number) {
    event.preventDefault();
    log.clickLine(Number(number.textContent), event.shiftKey);
  } else if (fold) log.fold(Number(fold.dataset.foldAt));
}

function keyInSearch(log, event, settle) {
  if (event.key === "Enter") {
    event.preventDefault();
    settle();
    if (log.find.text === event.target.value) log.step(event.shiftKey ? -1 : 1);
    else log.search(event.target.value);
  } else if (event.key === "Escape") {
    event.target.value = "";
    settle();
    log.search("");
    log.frame.focus();
  }
}

function keyInFrame(log, event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "f") {
    event.preventDefault();
    log.part("search").focus();
  }
  if (event.key === "Home" && !event.ctrlKey) log.toTop();
  if (event.key === "End" && !event.ctrlKey) log.toEnd();
}

// Keys that work anywhere on the page, but not where somebody types.
function key(log, event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const keys = {
    f: () => log.part("search").focus(), "/": () => log.part("search").focus(), n: () => log.step(1), N: () => log.step(-1),
    g: () => log.toTop(), G: () => log.toEnd(), e: () => log.toError(), w: () => log.wrap(),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}
