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

  // The page's own stream has told that the task moves: its log may grow again, or has already, where a whole apply came
  // and went between two looks.
  patched() {
    const { logFollows: follows, logFence: fence } = document.querySelector("[data-log-follows]")?.dataset ?? {};
    const known = this.root.dataset;
    if (follows === undefined || (follows === known.follows && fence === known.fence)) return;
    const grows = follows === "yes" || fence !== known.fence;
    Object.assign(known, { follows, fence });
    if (grows) {
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
