"""What the shim is for: Terraform, its exit code and its leftovers, after the program that started it was killed."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from iac.executor.leftovers import alive, start_time_of
from iac.executor.process import ProcessFacts, read_pid_file, run_terraform
from iac.executor.shimming import EndRecord, open_shim, read_end
from tests.executor.bench import IMPATIENT, PATIENT, Bench, appears, child
from tests.harness.tmpfs import fill, small_disk

STARTER = """
import os, sys, trio
from pathlib import Path
from iac.domain.ladder import Ladder
from iac.executor.process import run_terraform
from iac.executor.shimming import open_shim

async def main(root, *argv):
    async with open_shim(Path(root)) as shim:
        env = {"TMPDIR": root + "/tmp", "PATH": "/usr/bin:/bin"}
        ladder = Ladder(grace=0.2, second=0.2)
        await run_terraform(shim, argv, cwd=Path(root), env=env, output=Path(root, "raw.log"), ladder=ladder)

trio.run(main, *sys.argv[1:])
"""


@asynccontextmanager
async def started_by_another(bench: Bench) -> AsyncIterator[trio.Process]:
    """A program of its own runs the bench's Terraform, and is killed at the end at the latest."""
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-c", STARTER, str(bench.place), *bench.argv]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    process = await trio.lowlevel.open_process(argv, cwd=root, env=env)
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def ended(bench: Bench) -> EndRecord:
    """How it ended, as soon as that is written."""
    await appears(bench.place / "ended.json")
    record = read_end(bench.place)
    assert record is not None
    return record


async def gone(pid: int, started: int | None) -> None:
    """Until a process that is not ours has ended."""
    with trio.fail_after(20):
        while started is not None and alive(pid, started):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_terraform_and_its_exit_code_outlive_the_program_that_started_it(tmp_path: Path) -> None:
    go = tmp_path / "go"
    told = {"seed": 1, "bytes": 100_000, "reached": str(tmp_path / "there"), "go": str(go)}
    bench = Bench(tmp_path, chapters=[told], exit=3)
    async with started_by_another(bench) as program:
        await appears(tmp_path / "there")
        program.kill()
        await program.wait()
    running = read_pid_file(tmp_path / "terraform.pid")
    assert running is not None
    assert running.running()
    go.touch()

    record = await ended(bench)

    assert (record.label, record.exit_code, record.signals) == ("apply", 3, ())
    assert bench.events() == ["start", "stop"]
    assert bench.log.stat().st_size > 100_000


async def test_what_terraform_leaves_running_is_ended_although_nobody_is_there_any_more(tmp_path: Path) -> None:
    go = tmp_path / "go"
    bench = Bench(tmp_path, children=[child(tmp_path, "double_fork", env={"TMPDIR": "/elsewhere"})])
    bench.argv = ["/bin/sh", "-c", f"{bench.argv[0]} apply; while [ ! -e {go} ]; do sleep 0.02; done"]
    async with started_by_another(bench):
        await appears(tmp_path / "double_fork.pid")
        await appears(bench.ready)
    escaped = int((tmp_path / "double_fork.pid").read_text())
    born = start_time_of(escaped)
    assert born is not None
    go.touch()

    await ended(bench)

    await gone(escaped, born)


async def test_a_lease_that_nobody_prolongs_stops_terraform_step_by_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", ignore_sigterm=-1)
    (tmp_path / "lease").write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) + 3600))
    async with started_by_another(bench):
        await appears(bench.ready)
    (tmp_path / "lease").write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) - 1))

    record = await ended(bench)

    assert (record.exit_code, record.signals) == (-signal.SIGKILL, (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL))
    assert bench.events() == ["start", "sigterm", "sigterm"]


async def test_a_plan_whose_directory_was_taken_away_is_stopped_as_if_its_lease_were_over(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    bench = Bench(tmp_path / "place", sleep="forever")
    bench.place = tmp_path / "place"
    (bench.place / "lease").write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) + 3600))
    async with started_by_another(bench):
        await appears(bench.ready)
        running = read_pid_file(bench.place / "terraform.pid")
        assert running is not None
    (tmp_path / "place").rename(tmp_path / "elsewhere")

    await gone(running.pid, running.start_time)


async def test_what_a_service_manager_sends_to_everybody_does_not_end_the_shim(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever")
    async with open_shim(tmp_path) as shim:
        async with trio.open_nursery() as nursery:
            facts = ProcessFacts()
            run = {"cwd": tmp_path, "env": bench.env, "output": bench.log, "ladder": PATIENT, "facts": facts}
            nursery.start_soon(lambda: run_terraform(shim, bench.argv, **run))  # type: ignore[arg-type]
            await appears(bench.ready)
            [parent] = [pid for pid in os.listdir("/proc") if pid.isdigit() and _is_shim(pid, tmp_path)]
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(int(parent), number)
            nursery.cancel_scope.cancel()
        assert facts.ended is not None
        assert (facts.ended.exit_code, facts.ended.signalled) == (1, True)


async def test_without_its_shim_a_command_is_still_stopped_and_its_end_counts_as_the_worst(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", finish_sleep=0.1)
    async with open_shim(tmp_path) as shim:
        async with trio.open_nursery() as nursery:
            facts = ProcessFacts()
            run = {"cwd": tmp_path, "env": bench.env, "output": bench.log, "ladder": PATIENT, "facts": facts}
            nursery.start_soon(lambda: run_terraform(shim, bench.argv, **run))  # type: ignore[arg-type]
            await appears(bench.ready)
            [parent] = [pid for pid in os.listdir("/proc") if pid.isdigit() and _is_shim(pid, tmp_path)]
            os.kill(int(parent), signal.SIGKILL)
            await gone(int(parent), start_time_of(int(parent)))
            nursery.cancel_scope.cancel()
    assert facts.ended is not None
    assert (facts.ended.exit_code, facts.ended.signalled) == (-signal.SIGKILL, True)
    assert bench.events() == ["start", "sigterm", "stop"]
    assert bench.nobody_left()


async def test_commands_run_in_turn_and_the_last_one_is_remembered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with open_shim(tmp_path) as shim:
        for command, label in (("init", "init"), ("apply", "apply"), ("workspace", "other")):
            argv = [bench.argv[0], command]
            await run_terraform(shim, argv, cwd=tmp_path, env=bench.env, output=bench.log, ladder=IMPATIENT)
            record = read_end(tmp_path)
            assert record is not None
            assert (record.label, record.exit_code) == (label, 0)


async def test_a_full_disk_does_not_end_the_shim(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        bench, go, facts = Bench(tmp_path, until=str(tmp_path / "go"), exit=3), tmp_path / "go", ProcessFacts()
        bench.place = disk
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.run, facts)
            await appears(bench.ready)
            fill(disk)
            go.touch()
        assert facts.ended is not None
        assert facts.ended.exit_code == 3


async def test_terraform_yields_to_those_who_watch_it_and_its_files_are_nobody_elses(tmp_path: Path) -> None:
    bench, told = Bench(tmp_path), tmp_path / "told"
    script = "umask; cut -d' ' -f19 /proc/$$/stat; cat /proc/$$/oom_score_adj; cat /proc/$PPID/oom_score_adj"
    bench.argv = ["/bin/sh", "-c", f"({script}) > {told}"]
    await bench.run(ProcessFacts())
    umask, nice, terraform, shim = told.read_text().split()
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert (int(umask, 8), told.stat().st_mode & 0o777) == (0o077, 0o600)
    assert int(nice) == min(19, os.nice(0) + 10)
    assert int(terraform) == min(1000, own + 500)
    assert int(shim) in (max(-1000, own - 500), own)  # less is only for those who may


async def test_a_program_with_thousands_of_connections_can_start_terraform_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    held = [os.dup(0) for _ in range(1500)]
    try:
        ended = await bench.run(ProcessFacts())
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert ended.exit_code == 0


def _is_shim(pid: str, place: Path) -> bool:
    try:
        return (
            str(place).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            and b"shim.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    except OSError:
        return False
