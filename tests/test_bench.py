"""The benchmark's own parts. How fast anything is, is not a matter of tests."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from bench import phases
from bench.bare import Bare, configuration, find_terraform
from bench.rows import Row, at_least, at_most, noted, table, write
from bench.server import running_server

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
        {"name": "ratio", "value": 1.2, "unit": "x", "aim": "≤ 1.15", "ok": False},
        {"name": "requests", "value": 1234.5, "unit": "/s", "aim": "≥ 500", "ok": True},
        {"name": "plain", "value": 0.5, "unit": "s", "aim": None, "ok": None},
    ]


def test_a_plan_and_an_apply_are_measured_against_terraform_alone(tmp_path: Path) -> None:
    bare = Bare(tmp_path / "bare", trio.run(find_terraform).argv, configuration(2))
    with running_server(tmp_path) as server:
        found: list[Row] = []
        for what, measure in (("plan", phases.plan_pair), ("apply", phases.apply_pair)):
            found += phases.rows(server, bare, 1, what=what, resources=2, measure=measure)
    values = {row.name: row.value for row in found}
    assert len(values) == len(found) == 9
    assert all(value > 0 for name, value in values.items() if "overhead" not in name)
    assert not any((tmp_path / "bare").iterdir())
