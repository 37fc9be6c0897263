"""What passes between a task's Terraform on an agent and its user: log bytes, live lines, a cancellation."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

from bench import usage
from bench.bare import configuration
from bench.host import Host, running_agent, until
from bench.pool import new_pool, workspace_in
from bench.rows import Row, at_least, at_most, noted, percentile
from bench.server import Server
from bench.stand_in import BEGIN
from iac.cli.client import LogBytes
from iac.domain.bodies import TaskCreate, TaskView
from iac.executor.binaries import Binary

BLOCK = 10_000_000
PIECE = 8 * 1024 * 1024
MB = 1e6


def pipeline(server: Server, directory: Path, terraform: Binary, *, tasks: int, megabytes: int) -> list[Row]:
    """So many tasks, one after the other, print so much text each: until it is durable on the server.

    From the first byte in the agent's raw log to the task's end, which the server accepts only when the whole log is
    stored and has the agent's sha256.
    """
    pool, times = new_pool(server), int(megabytes * MB) // BLOCK
    workspace_in(server, pool, "flood", configuration(1))
    with running_agent(server, pool, directory / "host", terraform, "flood") as host:
        block = _text(BLOCK)
        (host.place / "block").write_bytes(block)
        (host.place / "times").write_text(str(times))
        before = usage.cpu_seconds(server.pid), usage.cpu_seconds(host.pid)
        seconds, done = 0.0, list[TaskView]()
        for _ in range(tasks):
            done.append(_planned(server, "flood"))
            seconds += _seconds_until_end(done[-1], host.noted("began"))
        size, name = tasks * times * BLOCK / MB, f"log pipeline, {tasks} x {megabytes} MB"
        found = [
            at_least(60, f"{name}: from the agent's file to durable on the server", size / seconds, "MB/s"),
            at_most(150, f"{name}: peak memory of the agent", usage.peak_memory(host.pid) / MB, "MB"),
            at_most(250, f"{name}: peak memory of the server", usage.peak_memory(server.pid) / MB, "MB"),
            noted(f"{name}: CPU of the server", (usage.cpu_seconds(server.pid) - before[0]) / size * 1000, "s per GB"),
            noted(f"{name}: CPU of the agent", (usage.cpu_seconds(host.pid) - before[1]) / size * 1000, "s per GB"),
        ]
    expected = hashlib.sha256(block * times).hexdigest()
    same = sum(_sha256_of(server, task, times * BLOCK) == expected for task in done)
    return [*found, at_least(tasks, f"{name}: logs with the sha256 of what was printed", same, "")]


def live(server: Server, directory: Path, terraform: Binary) -> list[Row]:
    """Lines that say when they were written, and when somebody who follows the log had them."""
    pool, found = new_pool(server), []
    workspace_in(server, pool, "live", configuration(1))
    with running_agent(server, pool, directory / "host", terraform, "tick"):
        task = server.client.create_task("live", TaskCreate(action="plan"))
        for line, at in _lines(server, task):
            match line.split():
                case [b"tick", _, written]:
                    found.append((at - float(written)) * 1000)
    name = "live log of a task on an agent"
    return [
        noted(f"{name}: from the write to the reader, median", percentile(found, 50), "ms"),
        at_most(300, f"{name}: 95th percentile of {len(found)} lines", percentile(found, 95), "ms"),
        noted(f"{name}: the slowest", max(found), "ms"),
    ]


def cancel(server: Server, directory: Path, terraform: Binary, *, times: int) -> list[Row]:
    """From the request to cancel a running task to the SIGTERM that its process gets."""
    pool, found = new_pool(server), []
    workspace_in(server, pool, "cancel", configuration(1))
    with running_agent(server, pool, directory / "host", terraform, "wait") as host:
        for _ in range(times):
            found.append(_cancelled(server, host) * 1000)
    name = "cancel on an agent"
    return [
        noted(f"{name}: from the request to SIGTERM, median", percentile(found, 50), "ms"),
        at_most(100, f"{name}: 99th percentile of {times}", percentile(found, 99), "ms"),
    ]


def _cancelled(server: Server, host: Host) -> float:
    task = server.client.create_task("cancel", TaskCreate(action="plan"))
    host.noted("ready")
    asked = time.monotonic()
    server.client.cancel_task(task.id)
    stopped = host.noted("stopped")
    until(lambda: server.client.task(task.id).finished_at is not None)
    return stopped - asked


def _planned(server: Server, workspace: str) -> TaskView:
    """A task that was planned to its end. Raises RuntimeError unless it succeeded."""
    task = server.client.create_task(workspace, TaskCreate(action="plan"))
    until(lambda: server.client.task(task.id).finished_at is not None)
    task = server.client.task(task.id)
    if task.status != "succeeded":
        raise RuntimeError(f"Task {task.id} is {task.status}: {task.reason} {task.detail}")
    return task


def _seconds_until_end(task: TaskView, began: float) -> float:
    assert task.finished_at is not None
    return task.finished_at.timestamp() - began


def _lines(server: Server, task: TaskView) -> Iterator[tuple[bytes, float]]:
    """The lines of a task's live log, with the time at which each was there."""
    rest = b""
    for event in server.client.follow_log(task.id):
        if isinstance(event, LogBytes):
            at = time.monotonic()
            *lines, rest = (rest + event.data).split(b"\n")
            yield from ((line, at) for line in lines)


def _sha256_of(server: Server, task: TaskView, size: int) -> str:
    """Of so many bytes of the stored log, from where the flood begins."""
    head = server.client.log(task.id, 0, PIECE)
    offset = head.index(BEGIN) + len(BEGIN)
    digest, end = hashlib.sha256(), offset + size
    while offset < end:
        data = server.client.log(task.id, offset, min(PIECE, end - offset))
        if not data:
            break
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def _text(size: int) -> bytes:
    """Lines as Terraform prints them, with ids that do not repeat, so that packing them is real work."""
    chance, lines, length = random.Random(3), [], 0  # noqa: S311
    while length < size:
        name = chance.choice(("aws_instance.web", "module.network.aws_subnet.private", "google_storage_bucket.assets"))
        line = (
            f"{name}[{chance.randrange(1000)}]: Still creating... "
            f"[id=i-{chance.getrandbits(68):017x}, {chance.randrange(60):02}m{chance.randrange(60):02}s elapsed]\n"
        ).encode()
        lines.append(line)
        length += len(line)
    return b"".join(lines)[:size]
