"""Rows 35 to 38 and 59: logs that are large, strange, or have secrets in them, and one who reads slowly.

IAC_TEST_LOG_MIB makes the large ones larger: 1024 is what the table asks for.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from iac.domain.redaction import needles
from tests.fakes.terraform.output import chapter
from tests.harness.agent_process import AgentProcess, agent_process
from tests.harness.agents import a_pool, a_workspace
from tests.harness.killable import Killable, killable_server
from tests.harness.server import RunningServer
from tests.system.scenes import Stage, becomes
from tests.web.browsers import Browser, watching

MIB = 1024 * 1024
SIZE = int(os.environ.get("IAC_TEST_LOG_MIB", "64")) * MIB
GIANT = SIZE // 4
SECRET = 'correct-horse"battery/staple&14'


@dataclass
class Site:
    """A server and an agent, both processes of their own, and what Terraform does there."""

    program: Killable
    agent: AgentProcess
    stage: Stage

    @property
    def server(self) -> RunningServer:
        return self.program.server

    def agents_memory(self) -> int:
        """The most that the agent has ever had, in bytes."""
        lines = Path(f"/proc/{self.agent.process.pid}/status").read_text().splitlines()
        [line] = [line for line in lines if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def a_site(tmp_path: Path, database_url: str, *, limit: int = 1024 * MIB, **plan: object) -> AsyncIterator[Site]:
    stage = Stage(tmp_path).set(plan={"print_env": ["CANARY"], **plan})
    env = {"IAC_LOG_MAX_BYTES": str(limit)}
    async with killable_server(tmp_path / "server", database_url, env=env) as program:
        token = await a_pool(program.server)
        await a_workspace(program.server)
        variable = {"key": "CANARY", "value": SECRET, "category": "environment", "sensitive": True}
        await program.server.call("POST", "/api/v1/workspaces/w/variables", json=variable)
        endpoint, path = program.server.url, stage.env["PATH"]
        async with agent_process(tmp_path / "agents", endpoint, token, path=path, program="iac.agent") as agent:
            yield Site(program, agent, stage)


def told_at_once(tmp_path: Path, size: int) -> list[dict[str, object]]:
    """The stand-in prints so much, and waits for nobody."""
    (tmp_path / "go").touch()
    return [{"seed": 1, "bytes": size, "reached": str(tmp_path / "reached"), "go": str(tmp_path / "go")}]


@pytest.mark.slow_fault
async def test_row_35_a_large_log_is_whole_where_it_may_be_so_long(tmp_path: Path, database_url: str) -> None:
    chapters = told_at_once(tmp_path, SIZE)
    async with a_site(tmp_path, database_url, limit=2 * SIZE, chapters=chapters) as site:
        task = await site.server.task("w", "plan")
        await site.server.until(task, "succeeded")
        log = await site.server.log(task)
        printed = chapter(1, SIZE)
        start = log.index(printed[:100])
        assert log[start : start + len(printed)] == printed
        assert b"bytes left out" not in log
        assert site.agents_memory() < 150 * MIB
        assert site.program.memory() < 200 * MIB


@pytest.mark.parametrize("size", [16 * MIB, pytest.param(SIZE, marks=pytest.mark.slow_fault)])
async def test_row_35_a_log_over_its_limit_keeps_its_head_and_its_tail(
    tmp_path: Path, database_url: str, size: int
) -> None:
    chapters = told_at_once(tmp_path, size)
    async with a_site(tmp_path, database_url, limit=size // 8, chapters=chapters) as site:
        task = await site.server.task("w", "plan")
        await site.server.until(task, "succeeded")
        log, printed = await site.server.log(task), chapter(1, size)
        assert size // 8 - 1024 <= len(log) <= size // 8
        start, marker = log.index(printed[:100]), log.index(b"[iac: ")
        assert printed.startswith(log[start : marker - 1].rstrip(b"\n"))
        assert b"bytes left out" in log[marker : marker + 100]
        assert printed[-500_000:] in log[marker:]
        assert site.agents_memory() < 150 * MIB
        assert site.program.memory() < 200 * MIB


async def test_row_36_one_line_of_many_chunks_arrives_as_it_is(tmp_path: Path, database_url: str) -> None:
    async with a_site(tmp_path, database_url, giant_line_bytes=GIANT) as site:
        task = await site.server.task("w", "plan")
        await site.server.until(task, "succeeded")
        log = await site.server.log(task)
        assert b"\n" + b"y" * GIANT + b"\n" in log
        assert site.agents_memory() < 150 * MIB


async def test_row_37_bytes_of_any_kind_arrive_as_they_are(tmp_path: Path, database_url: str) -> None:
    noise = random.Random(37).randbytes(300_000)  # noqa: S311 - a test's noise
    strange = (
        b"\x00\x00 NUL \xff\xfe\xc3( \x1b[31mred\x1b[0m \x1b]0;title\x07 \r\r\n \xe2\x80\xa8 \xed\xa0\x80\n" + noise
    )
    pieces = [base64.b64encode(strange[at : at + 20_000]).decode() for at in range(0, len(strange), 20_000)]
    async with a_site(tmp_path, database_url, pieces=pieces) as site:
        task = await site.server.task("w", "plan")
        async with watching(site.server.url, task) as browser:
            await browser.until_event("end")
        await site.server.until(task, "succeeded")
        log = await site.server.log(task)
        assert strange in log
        assert browser.log == log, "and live they were the same"


@pytest.mark.parametrize("filler", [0, pytest.param(5 * MIB - 700, marks=pytest.mark.slow_fault)])
async def test_row_38_a_secret_never_leaves_the_agent_in_any_form(
    tmp_path: Path, database_url: str, filler: int
) -> None:
    """In two writes, in two chunks, quoted, encoded: neither live nor stored, nor in what the programs say."""
    forms = [
        SECRET,
        json.dumps(SECRET),
        json.dumps({"a": json.dumps(SECRET)}),
        quote(SECRET, safe=""),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ]
    text = b"x" * filler + "".join(f"{form} and {form}\n" for form in forms).encode()
    cuts = [0, filler, *range(filler + 7, len(text), 11), len(text)]
    pieces = [base64.b64encode(text[one:two]).decode() for one, two in pairwise(cuts)]
    async with a_site(tmp_path, database_url, pieces=pieces) as site:
        task = await site.server.task("w", "plan")
        async with watching(site.server.url, task) as browser:
            await browser.until_event("end")
        await site.server.until(task, "succeeded")
        log = await site.server.log(task)
        assert log.count(b"***") >= 2 * len(forms)
        assert browser.log == log
        said = site.agent.log_file.read_bytes() + site.program.log_file.read_bytes()
        for form in needles([SECRET]):
            assert form not in log
            assert form not in said


async def test_row_59_one_who_reads_slowly_holds_up_nobody_and_misses_nothing(
    tmp_path: Path, database_url: str
) -> None:
    chapters = told_at_once(tmp_path, SIZE // 4)
    async with a_site(tmp_path, database_url, chapters=chapters) as site:
        task = await site.server.task("w", "plan")
        async with watching(site.server.url, task) as slow, watching(site.server.url, task) as quick:
            await slow.next()  # and then he does something else
            await quick.until_event("end")
            await site.server.until(task, "succeeded")
            log = await site.server.log(task)
            assert quick.log == log
            assert site.program.memory() < 200 * MIB
            await slow.until_event("end")
            assert slow.log == log
            assert not any(name in ("reset", "gap") for name, _ in slow.events)


@pytest.mark.slow_fault
async def test_row_59_many_who_watch_see_the_same(tmp_path: Path, database_url: str) -> None:
    chapters = told_at_once(tmp_path, 3 * MIB)
    async with a_site(tmp_path, database_url, chapters=chapters) as site:
        task = await site.server.task("w", "plan")
        seen: list[Browser] = []

        async def watch() -> None:
            async with watching(site.server.url, task) as browser:
                seen.append(browser)
                await browser.until_event("end")

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(watch)
        log = await site.server.log(task)
        await becomes(lambda: len(seen) == 20)
        assert all(browser.log == log for browser in seen)
