"""How a Terraform process starts: its files, its environment, its record, and every way in which a start fails."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from iac.domain.ladder import LadderStep
from iac.executor.leftovers import start_time_of
from iac.executor.process import PidRecord, ProcessFacts, read_pid_file, write_pid_file
from iac.executor.shimming import ProcessStartFailed
from tests.executor.bench import Bench
from tests.fakes.fake_terraform import ledger_of


async def test_output_is_appended_and_stderr_goes_along(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lines=["out"], error_lines=["err"])
    bench.log.write_text("before\n")

    await bench.run(ProcessFacts())

    assert bench.log.read_text() == "before\nout\nerr\n"


async def test_stdout_and_stderr_can_go_to_different_files_that_only_we_may_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lines=["{}"], error_lines=["warning"])
    plan = tmp_path / "plan.json"

    await bench.run(ProcessFacts(), output=plan, stderr=bench.log)

    assert (plan.read_text(), bench.log.read_text()) == ("{}\n", "warning\n")
    assert plan.stat().st_mode & 0o777 == 0o600


async def test_a_descriptor_stays_open_and_nothing_that_was_opened_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lines=["once"])
    before = os.listdir("/proc/self/fd")
    fd = os.open(bench.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        await bench.run(ProcessFacts(), output=fd)
        await bench.run(ProcessFacts())
        os.write(fd, b"ours\n")
    finally:
        os.close(fd)

    assert bench.log.read_text() == "once\nonce\nours\n"
    assert os.listdir("/proc/self/fd") == before


async def test_the_environment_is_exactly_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    monkeypatch.setenv("IAC_SECRET_KEY", "never")
    bench.argv = ["/usr/bin/env"]
    bench.env = {"TMPDIR": str(bench.tmpdir), "TF_VAR_a": "b c"}

    await bench.run(ProcessFacts())

    assert bench.log.read_text() == f"TMPDIR={bench.tmpdir}\nTF_VAR_a=b c\n"


async def test_stdin_is_empty(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.argv = ["/bin/cat"]

    assert (await bench.run(ProcessFacts())).exit_code == 0


async def test_a_scope_that_is_cancelled_already_starts_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    facts = ProcessFacts()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bench.run(facts)

    assert (facts.pid, facts.ended, bench.events()) == (None, None, [])


def missing_program(bench: Bench) -> None:
    bench.argv = ["/no/such/terraform"]


def missing_directory(bench: Bench) -> None:
    bench.root = bench.root / "gone"


def not_executable(bench: Bench) -> None:
    Path(bench.argv[0]).chmod(0o600)


def not_a_program(bench: Bench) -> None:
    Path(bench.argv[0]).write_bytes(b"\x7fELF, but not really")


def too_large_an_environment(bench: Bench) -> None:
    bench.env["TF_VAR_large"] = "x" * 2**20


def a_zero_in_an_argument(bench: Bench) -> None:
    bench.argv.append("a\0b")


def a_directory_as_log(bench: Bench) -> None:
    bench.log.mkdir()


def a_fifo_as_log(bench: Bench) -> None:
    os.mkfifo(bench.log)


def a_link_as_log(bench: Bench) -> None:
    bench.log.symlink_to(bench.root / "victim")


def a_shared_tmpdir(bench: Bench) -> None:
    bench.env["TMPDIR"] = "/"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (missing_program, "/no/such/terraform: No such file or directory"),
        (missing_directory, "the working directory .*/gone does not exist"),
        (not_executable, "Permission denied"),
        (not_a_program, "Exec format error"),
        (too_large_an_environment, "Argument list too long"),
        (a_zero_in_an_argument, "embedded null byte"),
        (a_directory_as_log, "Is a directory"),
        (a_fifo_as_log, "raw.log: No such device or address"),
        (a_link_as_log, "Too many levels of symbolic links"),
        (a_shared_tmpdir, "does not belong to one task alone"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_start_that_fails_says_why(tmp_path: Path, spoil: Callable[[Bench], None], reason: str) -> None:
    bench = Bench(tmp_path)
    spoil(bench)
    facts = ProcessFacts()

    with pytest.raises(ProcessStartFailed, match=reason) as failure:
        await bench.run(facts)

    assert (failure.value.code, failure.value.retryable) == ("process_start_error", False)
    assert (facts.pid, facts.ended) == (None, None)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR | os.O_TRUNC])
async def test_a_descriptor_that_does_not_append_is_refused(tmp_path: Path, flags: int) -> None:
    bench = Bench(tmp_path)
    fd = os.open(tmp_path / "x", flags | os.O_CREAT)
    try:
        with pytest.raises(ProcessStartFailed, match="must be a regular file opened for appending"):
            await bench.run(ProcessFacts(), output=fd)
    finally:
        os.close(fd)


async def test_a_pipe_is_refused_as_output(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    reading, writing = os.pipe()
    try:
        with pytest.raises(ProcessStartFailed, match="must be a regular file opened for appending"):
            await bench.run(ProcessFacts(), output=writing)
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, limits[1]))
    try:
        with suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("already_open", [False, True])
async def test_a_start_without_descriptors_fails_and_may_be_tried_again(tmp_path: Path, already_open: bool) -> None:
    bench = Bench(tmp_path)
    fd = os.open(bench.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        with no_descriptors_left(), pytest.raises(ProcessStartFailed, match="Too many open files") as failure:
            await bench.run(ProcessFacts(), output=fd if already_open else bench.log)
    finally:
        os.close(fd)

    assert failure.value.retryable
    assert (await bench.run(ProcessFacts())).exit_code == 0


async def test_exit_codes_are_known_even_where_nobody_was_meant_to_hear_of_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path, exit=3)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # inherited from a careless parent
    try:
        assert (await bench.run(ProcessFacts())).exit_code == 3
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_the_pid_file_names_the_process_while_it_runs_and_nobody_afterwards(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever")
    pid_file = tmp_path / "terraform.pid"
    seen: list[bool] = []

    def look(step: LadderStep) -> None:
        record = read_pid_file(pid_file)
        seen.append(record is not None and record.pid == ledger_of(bench.ledger)[0]["pid"] and record.running())

    facts = await bench.run_and_cancel(bench.ready, on_step=look)

    record = read_pid_file(pid_file)
    assert record is not None
    assert (record.pid, record.start_time) == (facts.pid, facts.start_time)
    assert not record.running()
    assert len(seen) == 1


async def test_a_pid_file_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "terraform.pid.new").mkdir()

    ended = await bench.run(ProcessFacts())

    assert ended.exit_code == 0
    assert "terraform.pid" in (tmp_path / "shim.log").read_text()


def test_a_pid_file_of_another_boot_names_nobody(tmp_path: Path) -> None:
    write_pid_file(tmp_path / "pids", os.getpid(), start_time_of(os.getpid()) or 0)
    record = read_pid_file(tmp_path / "pids")
    assert record is not None
    assert record.running()
    assert not PidRecord(record.pid, record.start_time, "another boot").running()
    assert os.listdir(tmp_path) == ["pids"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pid":1', b"[1,2]", b"\0" * 64])
def test_a_pid_file_that_makes_no_sense_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pids").write_bytes(content)
    assert read_pid_file(tmp_path / "pids") is None
    assert read_pid_file(tmp_path / "none") is None
