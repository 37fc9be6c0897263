"""Wherever Terraform left a state, it is found; where none can be read, the task says so and everything is kept."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from iac.executor import left_state
from iac.executor.left_state import Found, StateLost, dumped_state
from iac.executor.workdir import Workdir
from tests.executor.bench import appears
from tests.executor.workbench import POLICY, becomes, fake
from tests.fakes.fake_terraform import ledger_of

LINEAGE = "11111111-2222-3333-4444-555555555555"


def state(serial: int) -> bytes:
    return json.dumps({
        "version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": LINEAGE, "outputs": {}, "resources": [],
    }).encode()  # fmt: skip


def dump(data: bytes, text: str = "Emergency state dump") -> bytes:
    return (
        b'{"@level":"info","@message":"'
        + text.encode()
        + b'","@module":"terraform.ui","state":'
        + data
        + b',"type":"log"}\n'
    )


def find_state(place: Workdir, before: bytes | None) -> bytes | None:
    found = left_state.find_state(place, before)
    return None if found is None else found.data


@pytest.fixture
def place(tmp_path: Path) -> Workdir:
    made = Workdir(tmp_path)
    made.cwd.mkdir()
    made.state.parent.mkdir()
    return made


def test_the_backends_file_is_the_state(place: Workdir) -> None:
    place.state.write_bytes(state(2))

    assert find_state(place, state(1)) == state(2)
    assert find_state(place, None) == state(2)


def test_a_state_that_is_elsewhere_is_astray(place: Workdir) -> None:
    place.state.write_bytes(state(2))
    assert left_state.find_state(place, state(1)) == Found(state(2), astray=False)
    place.errored_state.write_bytes(state(3))
    assert left_state.find_state(place, state(1)) == Found(state(3), astray=True)


def test_a_state_that_did_not_change_is_none(place: Workdir) -> None:
    place.state.write_bytes(state(1))

    assert find_state(place, state(1)) is None


def test_no_state_before_and_none_after_is_no_change(place: Workdir) -> None:
    assert find_state(place, None) is None


def test_without_its_directory_nobody_can_say_that_nothing_changed(place: Workdir) -> None:
    place.state.parent.rmdir()

    with pytest.raises(StateLost, match="is gone"):
        find_state(place, None)


def test_errored_tfstate_is_newer_than_the_backends_file(place: Workdir) -> None:
    place.state.write_bytes(state(1))
    place.errored_state.write_bytes(state(2))

    assert find_state(place, state(1)) == state(2)


@pytest.mark.parametrize("broken", [b"", b"{", state(2)[:-9], b"[]"])
def test_a_broken_errored_tfstate_does_not_hide_a_usable_state(place: Workdir, broken: bytes) -> None:
    place.state.write_bytes(state(2))
    place.errored_state.write_bytes(broken)

    assert find_state(place, state(1)) == state(2)


def test_a_state_that_could_only_be_printed_is_taken_from_the_log(place: Workdir) -> None:
    place.state.write_bytes(state(3)[:50])
    place.errored_state.touch()
    place.raw_log.write_bytes(b"noise\n" + dump(state(2)) + b'cut off he{"@level"' + dump(state(3)) + b"more\n")

    assert find_state(place, state(1)) == state(3)


@pytest.mark.parametrize("log", [b"", b"nothing\n", dump(state(3))[:-9], dump(state(3), "Emergency exit"), dump(b"7")])
def test_a_log_without_a_whole_state_gives_none(place: Workdir, log: bytes) -> None:
    place.raw_log.write_bytes(log)

    assert dumped_state(place.raw_log) in (None, b"7")


@pytest.mark.parametrize("broken", [b"", b"{", state(2)[:-9]])
def test_states_of_which_none_can_be_read_are_lost(place: Workdir, broken: bytes) -> None:
    place.state.write_bytes(broken)
    place.errored_state.write_bytes(broken)

    with pytest.raises(StateLost, match=r"terraform\.tfstate") as lost:
        find_state(place, state(1))
    assert lost.value.reason == "state_unreadable"


def test_a_state_that_is_gone_is_lost(place: Workdir) -> None:
    with pytest.raises(StateLost, match="is gone") as lost:
        find_state(place, state(1))
    assert lost.value.reason == "state_missing"


# The same through the executor


async def apply_with(tmp_path: Path, **manners: Any) -> tuple[Any, Any, Any]:
    bench = fake(tmp_path, apply=manners)
    order = await bench.confirmed()
    result = await bench.run(order)
    assert result is not None
    return bench, order, result


async def test_the_executor_prefers_errored_tfstate(tmp_path: Path) -> None:
    bench, _, result = await apply_with(
        tmp_path, exit=1, write_files={"errored.tfstate": state(9).decode()}, no_state=True
    )

    assert (result.status, result.state_safe) == ("failed", True)
    assert [stored.data for stored in bench.accessor.stored] == [state(9)]


@pytest.mark.parametrize("code", [0, 1])
async def test_an_unreadable_state_makes_the_task_lost_and_keeps_the_directory(tmp_path: Path, code: int) -> None:
    bench, order, result = await apply_with(
        tmp_path, exit=code, no_state=True, write_files={"../state/terraform.tfstate": '{"version": 4, "ser'}
    )

    assert result.state_safe is False
    assert bench.task(order).status == "lost"
    assert "the state was NOT stored" in bench.log(order)
    assert (bench.place(order) / "state" / "terraform.tfstate").read_text() == '{"version": 4, "ser'
    assert bench.accessor.stored == []


async def test_a_state_printed_into_the_log_is_stored_and_its_content_is_not_shown(tmp_path: Path) -> None:
    secret = state(4).replace(b'"resources": []', b'"resources": [], "check_results": "not-for-the-log"')
    bench, order, result = await apply_with(
        tmp_path,
        exit=1,
        no_state=True,
        lines=[dump(secret).decode().rstrip()],
        write_files={"../state/terraform.tfstate": '{"ver', "errored.tfstate": ""},
    )

    assert (result.status, result.state_safe) == ("failed", True)
    assert [stored.data for stored in bench.accessor.stored] == [secret]
    assert "Emergency state dump" in bench.log(order)
    assert "not-for-the-log" not in bench.log(order)


async def test_an_apply_that_changed_nothing_stores_nothing(tmp_path: Path) -> None:
    bench, order, result = await apply_with(tmp_path, exit=1, no_state=True)

    assert (result.status, result.state_safe) == ("failed", True)
    assert bench.accessor.stored == []
    assert "the state did not change" in bench.log(order)
    assert not bench.place(order).exists()


async def test_the_state_is_stored_when_terraform_is_killed_from_outside(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"children": [], "ready_file": str(ready), "sleep": "forever", "no_state": True})
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(ready)
        (bench.place(order) / "state" / "terraform.tfstate").write_bytes(state(1))  # what it had written so far
        [start] = [entry for entry in ledger_of(bench.ledger) if entry["command"] == "apply"]
        os.kill(start["pid"], signal.SIGKILL)

    result = bench.accessor.results[-1]
    assert (result.status, result.signal, result.state_safe) == ("failed", signal.SIGKILL, True)
    assert [(stored.verdict, stored.data) for stored in bench.accessor.stored] == [("current", state(1))]


async def test_a_quarantined_state_is_safe_and_the_log_says_why(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    bench = fake(tmp_path, apply={"ready_file": str(ready), "sleep": 0.5})
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(ready)
        bench.accessor.set_state(state(7))

    result = bench.accessor.results[-1]
    assert (result.status, result.state_safe) == ("succeeded", True)
    assert [stored.verdict for stored in bench.accessor.stored] == ["quarantined"]
    assert "quarantined" in bench.log(order)
    assert "lineage" in bench.log(order)


# Nothing can be read: the newest that could be is sent as a checkpoint, and so is what the apply began with


async def test_when_nothing_can_be_read_the_state_before_the_apply_is_sent_as_a_checkpoint(tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    half = {"../state/terraform.tfstate": '{"half'}
    bench = fake(tmp_path, apply={"no_state": True, "ready_file": str(ready), "until": str(go), "write_files": half})
    bench.accessor.set_state(state(3))
    order = await bench.confirmed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await appears(ready)
        bench.accessor.set_state(state(5))  # somebody replaced it; otherwise it would be known already
        go.touch()

    assert bench.accessor.results[-1].state_safe is False
    assert [(kept.verdict, kept.data) for kept in bench.accessor.stored] == [("checkpoint", state(3))]
    assert "the newest that could be read" in bench.log(order)


async def test_when_nothing_can_be_read_the_newest_state_that_was_not_sent_yet_is(tmp_path: Path) -> None:
    go = tmp_path / "go"
    half = {"../state/terraform.tfstate": '{"half'}
    bench = fake(tmp_path, apply={"no_state": True, "early_state": {}, "until": str(go), "write_files": half})
    bench.policy = replace(POLICY, checkpoint_every=0.02)
    bench.__post_init__()
    order = await bench.confirmed()
    bench.accessor.down["save_state_version"] = 1_000_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, order)
        await becomes(lambda: bench.accessor.called["save_state_version"] > 0)
        go.touch()
        await becomes(lambda: bench.events("apply")[-1] == "stop")
        bench.accessor.down.clear()

    assert [(kept.verdict, kept.serial) for kept in bench.accessor.stored] == [("checkpoint", 1)]
    assert bench.task(order).status == "lost"


async def test_a_disk_that_is_full_is_named_when_terraform_put_its_state_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iac.executor.steps.has_no_room", lambda place, size: True)
    bench, _, result = await apply_with(
        tmp_path, exit=1, write_files={"errored.tfstate": state(9).decode()}, no_state=True
    )
    assert (result.status, result.reason, result.exit_code) == ("failed", "storage_full", 1)
    assert "was full" in result.detail
    assert [kept.verdict for kept in bench.accessor.stored] == ["current"]
