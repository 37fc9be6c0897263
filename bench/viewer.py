"""Reads logs in a Chromium, as somebody at a laptop does, and tells how long everything took; a process of its own.

It is told what to do (`Asked`) on standard input and tells what it found (`Looked`) on standard output, both as JSON.
"""

from __future__ import annotations

import sys

import msgspec
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench.chromium import arguments

PATIENCE = 60_000
"""Milliseconds after which it gives up."""
SIZE = (1280, 800)
SETTLED = """v => new Promise((done) => {
  const still = () => v.viewer?.begun && !v.viewer.view.pending && !v.querySelector('.log-coming');
  const look = () => still() && v.querySelector('.log-row') ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""
TIMED = """async (v, [does, argument]) => {
  const places = {
    top: (v) => v.toTop(),
    scroll: (v, part) => { v.frame.scrollTop = v.frame.scrollHeight * part; },
    line: (v, line) => { history.replaceState(null, "", `#L${line}`); return v.goToHash(); },
    search: (v, text) => v.search(text),
  };
  const settled = SETTLED;
  if (does === "search") {
    v.viewer.toTop();
    await settled(v);
  }
  const began = performance.now();
  await places[does](v.viewer, argument);
  await new Promise((wake) => requestAnimationFrame(wake));
  await settled(v);
  const took = performance.now() - began;
  if (does === "search" && v.viewer.find.matches.length === 0) throw new Error(`${argument} is not found`);
  return took;
}""".replace("SETTLED", SETTLED)
PAINTED = """() => new Promise((told) => new PerformanceObserver((seen) => {
  for (const entry of seen.getEntriesByName("first-contentful-paint")) told(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""


class Step(msgspec.Struct, frozen=True):
    """`name` of a row; `does` is one of `places` above."""

    name: str
    does: str
    argument: str = ""


class Log(msgspec.Struct, frozen=True):
    """A task whose page is opened so often by somebody who was never there; then the steps, so often."""

    task: int
    visits: int
    steps: list[Step]
    times: int


class Asked(msgspec.Struct, frozen=True):
    chromium: str
    url: str
    token: str
    logs: list[Log]


class Looked(msgspec.Struct, frozen=True):
    """Milliseconds: of each visit until something was painted, and until the log's rows stood there; of each step.

    `bytes` came over the wire until then in the first visit, with everything.
    """

    painted: list[float]
    rows: list[float]
    steps: dict[str, list[float]]
    bytes: int


def main() -> None:
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=asked.chromium, args=arguments())
        try:
            told = [_look(browser, asked, log) for log in asked.logs]
        finally:
            browser.close()
    sys.stdout.buffer.write(msgspec.json.encode(told))


def _look(browser: Browser, asked: Asked, log: Log) -> Looked:
    found = Looked([], [], {step.name: [] for step in log.steps}, 0)
    for visit in range(log.visits):
        context = _signed_in(browser, asked)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        weighed = _weigh(context, page)
        page.goto(f"/tasks/{log.task}", wait_until="commit")
        viewer = page.locator("#log")
        found.rows.append(viewer.evaluate(SETTLED))
        found.painted.append(page.evaluate(PAINTED))
        if visit == 0:
            found = msgspec.structs.replace(found, bytes=sum(weighed))
        if visit == log.visits - 1:
            for turn in range(log.times):
                for step in log.steps:
                    took = viewer.evaluate(TIMED, [step.does, step.argument.replace("TURN", str(turn))])
                    found.steps[step.name].append(took)
        context.close()
    return found


def _signed_in(browser: Browser, asked: Asked) -> BrowserContext:
    """Somebody new, who has nothing of the server's in the cache."""
    width, height = SIZE
    context = browser.new_context(base_url=asked.url, viewport={"width": width, "height": height})
    answer = context.request.post("/login", form={"token": asked.token}, headers={"Origin": asked.url}, max_redirects=0)
    if answer.status != 303:
        raise RuntimeError(f"Signing in was answered with {answer.status}: {answer.text()[:500]}")
    return context


def _weigh(context: BrowserContext, page: Page) -> list[int]:
    """The sizes of what comes over the wire, as it comes."""
    sizes: list[int] = []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    return sizes


if __name__ == "__main__":
    main()
