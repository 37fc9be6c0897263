"""The program's own log: one record, one line; facts beside the phrase; no secret by accident."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import trio

from iac import telemetry
from iac.telemetry import Console, JsonLines, bound


def a_record(message: str = "migrated", **facts: object) -> logging.LogRecord:
    return logging.getLogger("iac.test").makeRecord(
        "iac.test", logging.WARNING, "f", 1, message, (), None, extra=dict(facts) or None
    )


@pytest.fixture
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_a_json_line_has_the_phrase_and_its_facts() -> None:
    line = json.loads(JsonLines().format(a_record(task_id=7, path="/x\ny")))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "iac.test", "migrated")
    assert (line["task_id"], line["path"]) == (7, "/x\ny")
    assert line["at"].endswith("+00:00")


def test_one_record_is_one_json_line_even_with_a_traceback() -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        record = a_record()
        record.exc_info = sys.exc_info()
    text = JsonLines().format(record)
    assert "\n" not in text
    assert "RuntimeError: two\nlines" in json.loads(text)["exception"]
    assert "RuntimeError" in Console().format(record)


def test_a_console_line_is_for_people() -> None:
    text = Console().format(a_record(task_id=7, path="/x\n12:00 INFO all is well\x1b[2J"))
    assert text[12:] == r" WARNING migrated  task_id=7 path=/x\n12:00 INFO all is well\x1b[2J"


@pytest.mark.parametrize("name", ["token", "IAC_ADMIN_TOKEN", "secret_key", "db_password", "Authorization"])
@pytest.mark.parametrize("style", [JsonLines(), Console()])
def test_a_fact_with_the_name_of_a_secret_is_not_printed(style: logging.Formatter, name: str) -> None:
    text = style.format(a_record(**{name: "hunter2"}))
    assert "hunter2" not in text
    assert "***" in text


async def test_what_is_bound_goes_with_the_tasks_that_are_started_inside() -> None:
    found: list[dict[str, object]] = []

    async def speak() -> None:
        found.append(json.loads(JsonLines().format(a_record())))

    async with trio.open_nursery() as nursery:
        with bound(task_id=7), bound(phase="plan"):
            nursery.start_soon(speak)
        nursery.start_soon(speak)
    told = sorted((line.get("task_id"), line.get("phase")) for line in found if "task_id" in line)
    assert told == [(7, "plan")]
    assert len(found) == 2


def test_a_records_own_facts_stand_before_those_that_are_bound() -> None:
    with bound(task_id=7):
        assert json.loads(JsonLines().format(a_record(task_id=8)))["task_id"] == 8


@pytest.mark.usefixtures("restored_root")
def test_the_chosen_level_and_form_are_used_and_chatty_libraries_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("info", "json")
    logging.getLogger("iac.test").debug("too fine")
    logging.getLogger("httpx").info("HTTP Request: GET https://x?token=hunter2")
    logging.getLogger("iac.test").info("serving", extra={"url": "http://h"})
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert json.loads(line)["url"] == "http://h"
