"""What a soak says of itself, and what it would notice."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.soak.configurations import compared
from tests.soak.record import Record
from tests.soak.report import Report, counted, outcomes, spread, text
from tests.soak.schedule import Fault


def a_report(*violations: str) -> Report:
    faults = [Fault(at=1, target="agent 1", kind="kill", lasts=2), Fault(at=9, target="agent 2", kind="kill", lasts=1)]
    tasks = [
        {"phase": "plan", "status": "failed", "outcome": None, "reason": "agent_lost"},
        {"phase": "apply", "status": "succeeded", "outcome": "applied", "reason": None},
    ]
    found = spread([0.5, 1.0])
    assert found is not None
    return Report(
        seed="a1",
        seconds=60,
        violations=list(violations),
        faults=counted(faults),
        tasks=outcomes(tasks),
        calls={"200": 7},
        dispatch=found,
        recovery={"agent: kill": found},
        notes={"came to rest after (s)": 3},
    )


def test_a_report_is_read_by_people_and_by_programs() -> None:
    report = a_report()
    told = text(report)
    for part in ("SEED=a1", "agent: kill", "plan failed (agent_lost)", "apply succeeded (applied)", "no violation"):
        assert part in told
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_one_violation_is_enough_to_fail() -> None:
    report = a_report("I1 twice")
    assert not report.passed
    assert "VIOLATION I1 twice" in text(report)


def test_of_nothing_there_is_no_spread_and_of_much_the_worst_is_told() -> None:
    assert spread([]) is None
    found = spread([float(number) for number in range(1, 101)])
    assert found is not None
    assert (found.half, found.most_of_them, found.longest) == (50, 95, 100)


def test_what_was_final_and_is_not_any_more_is_noticed_but_not_in_an_older_answer() -> None:
    record = Record()
    record.saw({"id": 1, "status": "cancelled", "outcome": None}, asked=1, now=2)
    record.saw({"id": 1, "status": "queued", "outcome": None}, asked=1.5, now=3)
    assert record.violations == []
    record.saw({"id": 1, "status": "queued", "outcome": None}, asked=2.5, now=3)
    assert len(record.violations) == 1


def test_a_serial_that_goes_back_and_a_task_that_is_gone_are_noticed() -> None:
    record = Record()
    record.saw_workspace({"name": "w", "state_serial": 5}, asked=1, now=2)
    record.saw_workspace({"name": "w", "state_serial": 4}, asked=3, now=4)
    record.created.add(7)
    record.existed([], 5)
    assert [each[:2] for each in record.violations] == ["I4", "ta"]


def test_what_is_there_and_in_no_state_is_lost_and_what_is_only_in_the_state_is_a_phantom(tmp_path: Path) -> None:
    for name in ("kept", "lost", "tainted"):
        (tmp_path / name).write_text("12-34\n")
    instances: list[dict[str, object]] = [{"attributes": {"id": name}} for name in ("kept", "phantom")]
    instances.append({"attributes": {"id": "tainted"}, "status": "tainted"})
    found = compared({"resources": [{"name": "thing", "instances": instances}]}, tmp_path)
    assert found.lost == {"lost": 12}
    assert found.phantoms == frozenset(["phantom"])
    assert dict(compared(None, tmp_path).lost) == dict.fromkeys(("kept", "lost", "tainted"), 12)
