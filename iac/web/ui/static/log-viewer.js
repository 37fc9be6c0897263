// The log of a task on its page. It begins where the server left: an element `data-log` with the last lines as plain text.

import { listen } from "./log-keys.js";
import { Reader } from "./log-reader.js";

class LogViewer extends Reader {
  fold(row) {
    const section = this.source.stages.beginning(row);
    section.folded = !section.folded;
    this.view.following = false;
    this.view.repaint();
    this.view.draw();
    this.frame.querySelector(`[data-fold-at="${row}"]`)?.focus({ preventScroll: true });
    this.showTools();
  }

  foldAll() {
    const { sections } = this.source.stages;
    const folded = !sections.some((section) => section.folded);
    for (const section of sections) section.folded = folded;
    this.view.following = false;
    this.view.repaint();
    this.view.draw();
    this.showTools();
    this.say(folded ? "All stages folded" : "All stages unfolded");
  }

  wrap() {
    this.view.wrap(!this.view.wrapping);
    this.part("wrap").setAttribute("aria-pressed", String(this.view.wrapping));
  }

  unfollow() {
    this.view.following = false;
    this.showTools();
  }

  async copy() {
    const text = await this.source.text(this.range[0] - 1, this.range[1] - 1);
    await navigator.clipboard?.writeText(text);
    document.dispatchEvent(new CustomEvent("toast", { detail: { says: "Copied.", tone: "good" } }));
  }

  // The page's own stream has told that the task moves: its log may grow again.
  patched() {
    const status = document.querySelector("[data-log-follows]")?.dataset.logFollows;
    if (status === undefined || status === this.root.dataset.follows) return;
    this.root.dataset.follows = status;
    if (status === "yes") {
      this.view.following ||= this.view.window.atEnd;
      this.source.follow();
    }
    this.showTools();
  }
}

for (const root of document.querySelectorAll("[data-log]")) {
  root.viewer = new LogViewer(root);
  listen(root.viewer);
  root.viewer.begin();
}
