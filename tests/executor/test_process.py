"""How a Terraform process ends, by itself or by cancellation: real processes, the real clock, a stand-in for Terraform."""

import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from iac.domain.ladder import APART, Ladder, LadderStep
from iac.executor.leftovers import alive, start_time_of
from iac.executor.process import DIE_WITHIN, ProcessFacts, Wishes, _note, _stop
from tests.executor.bench import Bench, appears, child
from tests.fakes.fake_terraform import ledger_of

IMPATIENT = Ladder(grace=0.2, second=0.2)
FIRST, SECOND, KILL = LadderStep.FIRST_SIGTERM, LadderStep.SECOND_SIGTERM, LadderStep.SIGKILL


async def test_a_process_that_ends_by_itself_reports_its_exit_code_and_was_not_signalled(tmp_path: Path) -> None:
    bench = Bench(tmp_path, exit=1)
    facts = ProcessFacts()

    ended = await bench.run(facts)

    assert (ended.exit_code, ended.signalled, ended.killed) == (1, False, False)
    assert facts.ended == ended
    assert facts.steps == []
    assert 0 < ended.seconds < 60
    assert facts.pid == ledger_of(bench.ledger)[0]["pid"]


async def test_a_process_that_a_signal_ended_reports_it_as_a_negative_exit_code(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.argv = ["/bin/sh", "-c", "kill -SEGV $$"]

    assert (await bench.run(ProcessFacts())).exit_code == -signal.SIGSEGV


async def test_cancelling_sends_one_sigterm_and_waits_for_the_state(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", finish_sleep=0.3)

    facts = await bench.run_and_cancel(bench.ready)

    assert facts.ended is not None
    assert (facts.ended.exit_code, facts.ended.signalled, facts.ended.killed) == (1, True, False)
    assert facts.steps == [FIRST]
    assert bench.events() == ["start", "sigterm", "stop"]
    assert (tmp_path / "terraform.tfstate").exists()


async def test_a_stubborn_process_gets_a_second_sigterm_and_then_sigkill(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", ignore_sigterm=-1)
    told: list[LadderStep] = []

    facts = await bench.run_and_cancel(bench.ready, ladder=IMPATIENT, on_step=told.append)

    assert facts.ended is not None
    assert (facts.ended.exit_code, facts.ended.signalled, facts.ended.killed) == (-signal.SIGKILL, True, True)
    assert facts.steps == told == [FIRST, SECOND, KILL]
    assert bench.events() == ["start", "sigterm", "sigterm"]
    assert facts.ended.seconds > IMPATIENT.grace + IMPATIENT.second


async def test_a_process_that_heeds_the_second_sigterm_is_not_killed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", finish_sleep="forever")

    facts = await bench.run_and_cancel(bench.ready, ladder=Ladder(grace=0.2, second=30))

    assert facts.steps == [FIRST, SECOND]
    assert bench.log.read_text().endswith("data loss may have occurred.\n")


async def test_hurry_cuts_the_grace_short(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", ignore_sigterm=1)
    hurry = trio.Event()

    facts = await bench.run_and_cancel(bench.ready, wishes=Wishes(hurry), on_step=lambda step: hurry.set())

    assert facts.steps == [FIRST, SECOND]
    assert facts.ended is not None
    assert facts.ended.exit_code == 1


async def test_a_listener_that_fails_does_not_stop_the_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, sleep="forever", finish_sleep=0.1)

    def fail(step: LadderStep) -> None:
        raise RuntimeError(f"no {step}")

    facts = await bench.run_and_cancel(bench.ready, on_step=fail)

    assert facts.ended is not None
    assert facts.ended.exit_code == 1
    assert "the listener failed at step first_sigterm" in caplog.text


async def test_a_success_that_crosses_the_cancellation_stays_a_success(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sleep="forever", exit_on_sigterm=0)

    facts = await bench.run_and_cancel(bench.ready)

    assert facts.ended is not None
    assert (facts.ended.exit_code, facts.ended.signalled) == (0, True)


async def test_the_graceful_signal_reaches_terraform_alone(tmp_path: Path) -> None:
    heard = tmp_path / "child-heard-sigterm"
    plugin = child(tmp_path, "background", sigterm_file=str(heard))
    bench = Bench(tmp_path, sleep="forever", finish_sleep=0.5, children=[plugin])

    await bench.run_and_cancel(bench.ready)

    assert bench.events() == ["start", "sigterm", "stop"]
    assert not heard.exists()
    assert bench.nobody_left()


@pytest.mark.parametrize("kind", ["background", "setsid", "double_fork"])
@pytest.mark.parametrize("manners", [{}, {"sleep": "forever"}, {"sleep": "forever", "ignore_sigterm": -1}])
async def test_no_child_outlives_terraform(tmp_path: Path, kind: str, manners: dict[str, object]) -> None:
    bench = Bench(tmp_path, children=[child(tmp_path, kind)], **manners)

    if manners:
        facts = await bench.run_and_cancel(bench.ready, ladder=IMPATIENT)
    else:
        facts = ProcessFacts()
        await bench.run(facts)

    pid = int((tmp_path / f"{kind}.pid").read_text())
    assert not alive(pid, start_time_of(pid) or 0)
    assert bench.nobody_left()
    assert facts.swept >= (kind != "background")


async def test_a_child_with_another_tmpdir_dies_with_the_group(tmp_path: Path) -> None:
    marked_otherwise = child(tmp_path, "background", env={"TMPDIR": "/elsewhere"})
    bench = Bench(tmp_path, children=[marked_otherwise])

    await bench.run(ProcessFacts())

    pid = int((tmp_path / "background.pid").read_text())
    with trio.fail_after(60):
        while alive(pid, start_time_of(pid) or 0):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_the_stop_of_one_task_leaves_the_processes_of_another_alone(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "11").mkdir()
    mine, other = Bench(tmp_path / "1", sleep="forever"), Bench(tmp_path / "11", sleep="forever")
    async with trio.open_nursery() as nursery:
        facts = ProcessFacts()
        nursery.start_soon(other.run, facts)
        await appears(other.ready)

        await mine.run_and_cancel(mine.ready)

        assert (facts.pid, facts.ended) == (ledger_of(other.ledger)[0]["pid"], None)
        assert alive(facts.pid or 0, facts.start_time or 0)
        nursery.cancel_scope.cancel()


async def test_a_flood_of_output_is_complete_although_the_process_is_being_stopped(tmp_path: Path) -> None:
    size, line = 200 * 2**20, 50 * 2**20
    started = tmp_path / "started"
    bench = Bench(
        tmp_path, lines=[], started_file=str(started), flood_bytes=size, giant_line_bytes=line, sleep="forever"
    )

    facts = await bench.run_and_cancel(started)

    assert facts.steps == [FIRST]
    tail = b"\n\nInterrupt received.\nPlease wait for Terraform to exit or data loss may occur.\n"
    assert bench.log.stat().st_size == size + line + len(tail)
    with bench.log.open("rb") as log:
        log.seek(size + line)
        assert log.read() == tail
    assert (tmp_path / "terraform.tfstate").exists()
    bench.log.unlink()


async def test_a_cancellation_at_any_moment_of_the_start_leaks_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.argv = ["/bin/sleep", "100"]
    started = 0
    for attempt in range(300):
        facts = ProcessFacts()
        with trio.move_on_after(attempt * 20e-6) as scope:
            await bench.run(facts)
        assert scope.cancelled_caught
        assert (facts.pid is None) == (facts.ended is None)
        started += facts.pid is not None
    assert 0 < started < 300, "the delays must cover both sides of the start"
    assert bench.nobody_left()


class Undying:
    """Stands in for a process that is stuck in the kernel, which no test can arrange; its pid is nobody's."""

    def __init__(self) -> None:
        with subprocess.Popen(["/bin/true"]) as gone:
            self.pid = gone.pid
        self.over = False
        self.sigterms: list[float] = []
        self.kills: list[float] = []

    async def signal(self, number: int) -> None:
        assert number == signal.SIGTERM
        self.sigterms.append(trio.current_time())

    async def kill(self) -> None:
        self.kills.append(trio.current_time())

    async def wait(self) -> int:
        await trio.sleep_forever()


async def test_a_process_that_survives_sigkill_is_given_up_in_the_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    undying, facts = Undying(), ProcessFacts()
    note = partial(_note, facts, lambda step: None)
    start = trio.current_time()
    await _stop(undying, Ladder(grace=300, second=10), Wishes(), note)

    assert facts.steps == [FIRST, SECOND, KILL, LadderStep.GAVE_UP]
    assert [time - start for time in undying.sigterms] == [0, 300]
    assert [time - start for time in undying.kills] == [310]
    assert trio.current_time() - start == 310 + DIE_WITHIN
    assert "did not die of SIGKILL" in caplog.text


@pytest.mark.parametrize("grace", [300.0, 0.0])
async def test_two_sigterms_are_never_so_close_that_the_kernel_merges_them(
    autojump_clock: MockClock, grace: float
) -> None:
    undying, hurry = Undying(), trio.Event()
    hurry.set()
    start = trio.current_time()

    await _stop(undying, Ladder(grace), Wishes(hurry), lambda step: None)

    assert [time - start for time in undying.sigterms] == [0, APART]
