"""A log that grows while it is read: following it, and coming back after the server was killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Request, expect

from tests.browser.people import AWAY, PATIENCE, Person, Site
from tests.browser.scenery import Scenery
from tests.browser.task_scenery import aside, plain
from tests.harness.killable import PROJECT, processes_of
from tests.harness.postgres import fresh_database
from tests.harness.server import TOKEN
from tests.web.requests_of import fresh

pytestmark = pytest.mark.slow_browser
STREAMING = ("fetch", "xhr", "eventsource")


@dataclass
class Server:
    """`python -m iac.server` at an address that it keeps when it is started again."""

    root: Path
    database_url: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "IAC_BIND": f"127.0.0.1:{self.port}",
            "IAC_DATA_DIR": str(self.root / "data"),
            "IAC_ADMIN_TOKEN": TOKEN,
            "IAC_DATABASE_URL": self.database_url,
        }
        with (self.root / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "iac.server"], env=environment, cwd=self.root, stdout=output, stderr=output
            )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / "server.log").read_text()
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def call(self, method: str, path: str, **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.request(method, f"{self.url}/api/v1{path}", headers=headers, timeout=30, **request)
        assert answer.is_success, answer.text
        return answer.json() if answer.headers["Content-Type"] == "application/json" else answer.content


def until(true: Callable[[], bool]) -> None:
    deadline = monotonic() + 3 * PATIENCE / 1000
    while not true():
        assert monotonic() < deadline
        Event().wait(0.05)  # who looks all the time slows down what is looked at


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("server")
    made = Server(root, fresh_database(postgres), free_port())
    made.start()
    try:
        yield made
    finally:
        made.kill()
        for pid in processes_of(root / "data"):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def site(server: Server) -> Site:
    return Site(server, Scenery({}, {}))  # type: ignore[arg-type]  # of the server a person needs its address alone


def talkative(server: Server, gate: Path) -> int:
    """An apply that prints numbered lines until its gate is there."""
    loop = f"i=0; while [ ! -e {gate} ]; do i=$((i+1)); echo line $i of a log that goes on; sleep 0.01; done"
    main = f'resource "terraform_data" "a" {{\n  provisioner "local-exec" {{\n    command = "{loop}"\n  }}\n}}\n'
    name = fresh("talkative")
    server.call("POST", "/workspaces", json={"name": name, "terraform_version": ">= 1.5, < 9"})
    server.call("PUT", f"/workspaces/{name}/configuration", json={"files": {"main.tf": main}})
    return int(server.call("POST", f"/workspaces/{name}/tasks", json={"action": "apply"})["id"])


def line_in_sight(log: Locator) -> int:
    """The number of the last row that shows."""
    last = log.locator("a.log-number").last
    return int(last.evaluate("(a) => a.textContent")) if last.count() else 0


def _is_beyond(log: Locator, line: int) -> bool:
    return line_in_sight(log) > line


def test_log_and_page_share_one_stream(chromium: Browser, site: Site, server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = talkative(server, gate)
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        page, open_ones = someone.page, list[Request]()
        page.on("request", lambda request: open_ones.append(request) if request.resource_type in STREAMING else None)
        for over in ("requestfinished", "requestfailed"):
            page.on(over, lambda request: open_ones.remove(request) if request in open_ones else None)
        page.goto(f"/tasks/{task}")
        log = page.locator("#log")
        expect(log.locator("[data-log-state]")).to_have_text("Live")
        until(lambda: _is_beyond(log, 20))
        assert [urlsplit(request.url).path for request in open_ones] == [f"/ui/live/tasks/{task}"]
        gate.touch()
        expect(page.locator("#task-head .badge")).to_have_text("Applied")
        expect(log.locator("[data-log-state]")).not_to_have_text("Live")
        assert [urlsplit(request.url).path for request in open_ones] == [f"/ui/live/tasks/{task}"]


def test_the_newest_line_is_followed_until_one_scrolls_up(
    chromium: Browser, site: Site, server: Server, tmp_path: Path
) -> None:
    task = talkative(server, tmp_path / "gate")
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{task}")
        log = someone.page.locator("#log")
        expect(log.locator("[data-log-state]")).to_have_text("Live")
        until(partial(_is_beyond, log, 120))
        follow, end = log.locator("[data-log-follow]"), log.locator("[data-log-end]")
        expect(follow).to_have_attribute("aria-pressed", "true")
        expect(end).to_be_hidden()
        log.locator(".log-frame").hover()
        someone.page.mouse.wheel(0, -900)
        expect(follow).to_have_attribute("aria-pressed", "false")
        expect(end).to_be_visible()
        lines = log.locator("[data-log-lines]")
        there, before = line_in_sight(log), lines.inner_text()
        expect(lines).not_to_have_text(before)
        assert line_in_sight(log) == there, "the reader is left alone"
        end.click()
        expect(follow).to_have_attribute("aria-pressed", "true")
        until(partial(_is_beyond, log, there + 50))
        follow.click()
        expect(follow).to_have_attribute("aria-pressed", "false")
        (tmp_path / "gate").touch()
        expect(someone.page.locator("#task-head")).to_contain_text("Applied")
        assert someone.complaints == []


def test_after_the_server_was_killed_no_line_is_missing_and_none_is_doubled(
    chromium: Browser, site: Site, server: Server, tmp_path: Path
) -> None:
    task = talkative(server, tmp_path / "gate")
    with Person.arrives(chromium, site) as someone:
        someone.forgives(*AWAY)
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{task}")
        log = someone.page.locator("#log")
        for line in (60, 160):
            until(partial(_is_beyond, log, line))
            server.kill()
            expect(log.locator("[data-log-state]")).to_have_text("Reconnecting")
            aside(server.start)
            expect(log.locator("[data-log-state]")).to_have_text("Live", timeout=3 * PATIENCE)
        told = log.locator("[data-log-lines]").inner_text()
        expect(log.locator("[data-log-lines]")).not_to_have_text(told, timeout=3 * PATIENCE)
        (tmp_path / "gate").touch()
        expect(someone.page.locator("#task-head")).to_contain_text("Applied", timeout=3 * PATIENCE)
        expect(log.locator("[data-log-state]")).to_have_text("", timeout=3 * PATIENCE)
        whole = server.call("GET", f"/tasks/{task}/logs", params={"limit": 8 * 1024 * 1024})
        seen = log.evaluate("(v) => v.viewer.source.text(0, 1e9)")
        assert seen == plain(whole)
        numbers = [int(number) for number in re.findall(r"line (\d+) of a log", seen)]
        assert numbers == list(range(1, len(numbers) + 1))
