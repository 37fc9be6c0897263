"""The benchmark's own parts. How fast anything is, is not a matter of tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from bench import channel, fleet, pages, phases, usage
from bench.bare import Bare, configuration, find_terraform
from bench.furnishing import furnish
from bench.rows import Row, at_least, at_most, missed, noted, percentile, table, write
from bench.server import Server, running_server
from iac.executor.binaries import Binary

ROWS = [at_most(1.15, "ratio", 1.2, "x"), at_least(500, "requests", 1234.5, "/s"), noted("plain", 0.5, "s")]


def test_a_row_knows_whether_it_met_its_aim() -> None:
    assert [(row.aim, row.ok) for row in ROWS] == [("≤ 1.15", False), ("≥ 500", True), (None, None)]


def test_the_table_shows_every_row_under_its_heading() -> None:
    lines = table(ROWS).splitlines()
    assert lines[0].split() == ["what", "value", "unit", "aim"]
    assert [line.split() for line in lines[2:]] == [
        ["ratio", "1.2", "x", "≤", "1.15", "MISSED"],
        ["requests", "1,234", "/s", "≥", "500", "ok"],
        ["plain", "0.5", "s"],
    ]


def test_the_json_has_one_object_for_each_row(tmp_path: Path) -> None:
    write(tmp_path / "results.json", ROWS)
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"name": "ratio", "value": 1.2, "unit": "x", "aim": "≤ 1.15", "ok": False, "missing": None},
        {"name": "requests", "value": 1234.5, "unit": "/s", "aim": "≥ 500", "ok": True, "missing": None},
        {"name": "plain", "value": 0.5, "unit": "s", "aim": None, "ok": None, "missing": None},
    ]


def test_what_could_not_be_measured_says_why() -> None:
    row = missed(1, "first paint", "s", "There is no Chromium.")
    assert (row.value, row.ok, row.aim) == (None, None, "≤ 1")
    assert table([row]).splitlines()[2].split("  ")[-1] == "There is no Chromium."


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([3, 1, 2], percent) for percent in (0, 50, 99)] == [1, 2, 3]


def test_what_a_process_takes_is_read_from_the_kernel() -> None:
    pid = os.getpid()
    assert usage.cpu_seconds(pid) > 0
    assert 1e6 < usage.memory(pid) <= usage.peak_memory(pid)


AGENTS: dict[str, tuple[Callable[[Server, Path], list[Row]], int]] = {
    "dispatch": (lambda server, place: fleet.dispatch(server, place, agents=3, tasks=2), 4),
    "all at once": (lambda server, place: fleet.all_at_once(server, place, agents=3), 3),
    "connected": (lambda server, place: fleet.connected(server, place, agents=3, seconds=0.2), 5),
}


@pytest.mark.parametrize("name", AGENTS)
def test_agents_are_measured_from_outside_with_a_stub_for_terraform(tmp_path: Path, name: str) -> None:
    measure, rows = AGENTS[name]
    with running_server(tmp_path) as server:
        found = measure(server, tmp_path)
    assert len({row.name for row in found}) == len(found) == rows
    assert all(row.value is not None and row.value >= 0 for row in found)


CHANNEL: dict[str, Callable[[Server, Path, Binary], list[Row]]] = {
    "log": lambda server, place, terraform: channel.pipeline(server, place, terraform, tasks=1, megabytes=10),
    "cancel": lambda server, place, terraform: channel.cancel(server, place, terraform, times=1),
}


@pytest.mark.parametrize("name", CHANNEL)
def test_logs_and_cancellations_are_measured_through_an_agent_with_a_real_terraform(tmp_path: Path, name: str) -> None:
    with running_server(tmp_path) as server:
        found = CHANNEL[name](server, tmp_path, trio.run(find_terraform))
    assert all(row.value for row in found)
    same = [row.ok for row in found if "sha256" in row.name]
    assert same == ([True] if name == "log" else []), "the stored log is what was printed"


def test_a_plan_and_an_apply_are_measured_against_terraform_alone(tmp_path: Path) -> None:
    bare = Bare(tmp_path / "bare", trio.run(find_terraform).argv, configuration(2))
    with running_server(tmp_path) as server:
        found: list[Row] = []
        for what, measure in (("plan", phases.plan_pair), ("apply", phases.apply_pair)):
            found += phases.rows(server, bare, 1, what=what, resources=2, measure=measure)
    values = {row.name: row.value for row in found}
    assert len(values) == len(found) == 9
    assert all(value for name, value in values.items() if "overhead" not in name)
    assert not any((tmp_path / "bare").iterdir())


def test_each_page_is_asked_for_and_weighed_where_there_is_much_to_show(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        there = furnish(server, resources=2)
        found = pages.rows(server, there, times=1)
        assert server.client.task(there.planned.id + 10_000).workspace_name.startswith(
            ("payments", "checkout", "search")
        )
    assert len({row.name for row in found}) == len(found) == 4 * len(pages.paths(there))
    weights = [row.value or 0 for row in found if row.unit == "KB"]
    assert all(weight > 20 for weight in weights), "with what a page loads"
