"""Rows 3, 43, 54: nobody saw how an apply ended. What it did until then is kept, and a human decides."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.faults.oracle import journal_of
from tests.faults.scene import Scene, a_scene
from tests.harness.agent_process import AgentProcess
from tests.harness.killable import processes_of
from tests.harness.scaled import NOTICES
from tests.harness.server import PATIENT
from tests.system.scenes import Gate, becomes, state_of, statuses

REAL = {"PATH": "/usr/bin:/bin"}
"""Without a stand-in on it, Terraform comes from the wheel."""

FATES = ["adopt", pytest.param("quarantine", marks=pytest.mark.slow_fault)]


async def kill_all(agent: AgentProcess) -> None:
    """What loss of power, or of its container, is for an agent: nothing of it runs on."""
    agent.signal(signal.SIGSTOP)  # or it would see its Terraform die, and report that
    # A killed shim takes nothing with it, and what a killed Terraform started would go on.
    while found := processes_of(agent.data_dir, shims=True):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await trio.sleep(0.01)
    await agent.kill()


def partway(scene: Scene) -> dict[str, Any]:
    """An apply that has written a first state, and works until `go`."""
    return {"early_state": {}, **scene.waiting}


async def known(scene: Scene, task: int) -> dict[str, Any]:
    found: dict[str, Any] = await scene.call("GET", f"/tasks/{task}/known")
    return found


async def checkpointed(scene: Scene, task: int) -> dict[str, Any]:
    """The task's checkpoint, as soon as there is one."""
    with trio.fail_after(PATIENT):
        while True:
            if found := (await known(scene, task))["checkpoint"]:
                version: dict[str, Any] = found["version"]
                return version
            await trio.sleep(0.02)


async def workspace(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = await scene.call("GET", "/workspaces/w")
    return found


async def versions(scene: Scene, **params: str) -> list[dict[str, Any]]:
    """Newest first; checkpoints only if they are asked for."""
    items: list[dict[str, Any]] = (await scene.call("GET", "/workspaces/w/state-versions", params=params))["items"]
    return items


async def alerts(scene: Scene, task: int) -> list[dict[str, Any]]:
    """What the audit has of states of this task that were kept apart."""
    entries = (await scene.call("GET", "/audit", params={"limit": 200}))["items"]
    return [
        entry["facts"]
        for entry in entries
        if (entry["verb"], entry["actor"]) == ("state.push", f"task-{task}")
        and entry["facts"]["verdict"] == "quarantined"
    ]


async def stays_locked(scene: Scene, task: int) -> None:
    """Whatever else is wanted of the workspace waits, and says for what."""
    held = await workspace(scene)
    assert (held["lock"]["kind"], held["lock"]["owner"], held["state_uncertain"]) == ("task", str(task), True)
    other = await scene.server.task("w", "plan_and_apply")
    shown = await scene.shown(other)
    assert (shown["status"], shown["wait"]["code"]) == ("pending", "workspace_busy")
    assert f"task {task}" in shown["wait"]["message"]
    await scene.cancel(other)


@pytest.mark.slow_fault
async def test_row_02_checkpoints_go_on_when_an_agent_that_was_killed_is_back(
    tmp_path: Path, database_url: str
) -> None:
    """2 and R10: Terraform goes on without its agent; the next one sends what it has done since."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply=partway(scene))
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await checkpointed(scene, task)
            await agent.kill()
        [file] = (agent.data_dir / "tasks").glob("*/state/terraform.tfstate")
        file.write_text(file.read_text().replace('"serial": 1', '"serial": 7'))
        async with scene.agent():
            with trio.fail_after(PATIENT):
                while (await checkpointed(scene, task))["serial"] != 7:  # noqa: ASYNC110 - over HTTP nothing tells
                    await trio.sleep(0.02)
            scene.go()
            await scene.server.until(task, "succeeded")
        assert [(each["serial"], each["verdict"]) for each in await versions(scene)] == [(8, "current")]
        assert await versions(scene, verdict="checkpoint") == []


@pytest.mark.slow_fault
async def test_row_03_what_was_on_the_disk_is_pushed_after_agent_shim_and_terraform_were_killed(
    tmp_path: Path, database_url: str
) -> None:
    """3: the on-disk state is pushed, nothing is run again; the task is lost until a human has looked."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply=partway(scene))
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await checkpointed(scene, task)
            await kill_all(agent)
        async with scene.agent() as agent:
            shown = await scene.server.until(task, "lost")
            assert shown["reason"] == "agent_crashed"
            assert "state 1 was stored (current)" in shown["detail"]
            await stays_locked(scene, task)
            assert [(each["verdict"], each["partial"]) for each in await versions(scene)] == [("current", False)]
            assert (await known(scene, task))["checkpoint"] is None
            await becomes(lambda: not any((agent.data_dir / "tasks").iterdir()))
            await scene.call("POST", f"/tasks/{task}/resolve", json={"unlock": True})
        assert len(scene.oracle.events("apply")) == 1
        assert (await workspace(scene))["lock"] is None


async def test_row_03_a_state_that_was_torn_by_the_kill_leaves_the_checkpoint(
    tmp_path: Path, database_url: str
) -> None:
    """3: the kill came while Terraform wrote. Nothing on the disk can be read; what was sent before can."""
    async with a_scene(tmp_path, database_url) as scene:
        scene.acts(apply=partway(scene))
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            sent = await checkpointed(scene, task)
            await kill_all(agent)
        [place] = (agent.data_dir / "tasks").glob("*/state/terraform.tfstate")
        place.write_text('{"version": 4, "ter')
        async with scene.agent() as agent:
            shown = await scene.server.until(task, "lost")
            assert "could not be stored" in shown["detail"]
            found = await known(scene, task)
            assert (found["checkpoint"]["version"]["id"], found["checkpoint"]["not_adoptable"]) == (sent["id"], None)
            assert (found["state_serial"], found["status"]) == (None, "lost")
            assert place.read_text() == '{"version": 4, "ter'  # kept, for whoever can repair it
            done = await scene.call("POST", f"/tasks/{task}/resolve", json={"unlock": True, "checkpoint": "adopt"})
            assert "became the current state" in done["detail"]
        held = await workspace(scene)
        assert (held["state_serial"], held["state_uncertain"], held["lock"]) == (1, True, None)
        # Nobody will ever store it; who wants to repair it finds it, and it is in nobody's way.
        async with scene.agent():
            await becomes(lambda: not journal_of(agent.data_dir))
        [aside] = (agent.data_dir / "undelivered").glob("*/terraform.tfstate")
        assert aside.read_text() == '{"version": 4, "ter'


@pytest.mark.slow_fault
async def test_row_03_of_a_real_apply_that_lost_its_power_all_finished_resources_are_in_the_state(
    tmp_path: Path, database_url: str
) -> None:
    """3 with the real Terraform: its lock file is left, its state has the resource that was finished."""
    async with a_scene(tmp_path, database_url) as scene:
        gate = Gate(tmp_path / "gate")
        await scene.call("PUT", "/workspaces/w/configuration", json={"files": gate.main()})
        async with scene.agent(env=REAL) as agent:
            task = await scene.confirmed_apply()
            await gate.reached()
            await kill_all(agent)
        async with scene.agent(env=REAL):
            await scene.server.until(task, "lost")
            assert statuses(await state_of(scene.server, "w")) == {"first": None}
            await scene.call("POST", f"/tasks/{task}/resolve", json={"unlock": True})
            # What is there is taken up, and only the rest is made.
            gate.open()
            again = await scene.confirmed_apply()
            assert (await scene.server.until(again, "succeeded"))["plan"]["summary"]["add"] == 1
            assert statuses(await state_of(scene.server, "w")) == {"first": None, "second": None}


@pytest.mark.slow_fault
async def test_row_43_a_pod_whose_volume_is_kept_brings_its_state_late(tmp_path: Path, database_url: str) -> None:
    """43, PVC: long after it was given up the pod comes back with its disk, and its state still counts."""
    async with a_scene(tmp_path, database_url, times={"lost_after": 2.0}) as scene:
        scene.acts(apply=partway(scene))
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            await checkpointed(scene, task)
            await kill_all(agent)
        shown = await scene.server.until(task, "lost")
        assert shown["reason"] == "agent_lost"
        await stays_locked(scene, task)
        async with scene.agent():
            await until_detail(scene, task, "state 1 was stored (current)")
            await scene.call("POST", f"/tasks/{task}/resolve", json={"unlock": True})
        assert len(scene.oracle.events("apply")) == 1


async def until_detail(scene: Scene, task: int, text: str) -> None:
    with trio.fail_after(PATIENT):
        while text not in ((await scene.shown(task))["detail"] or ""):  # noqa: ASYNC110 - over HTTP nothing tells
            await trio.sleep(0.02)


@pytest.mark.parametrize("fate", FATES)
async def test_row_43_of_a_pod_whose_disk_is_gone_the_checkpoint_remains(
    tmp_path: Path, database_url: str, fate: str
) -> None:
    """43, emptyDir: nobody will ever tell more. What came while it ran is there, and what becomes of it a human says."""
    async with a_scene(tmp_path, database_url, times={"lost_after": 2.0}) as scene:
        scene.acts(apply={"lines": ["as far as it came"], **partway(scene)})
        async with scene.agent() as agent:
            task = await scene.confirmed_apply()
            sent = await checkpointed(scene, task)
            await kill_all(agent)
        shutil.rmtree(agent.data_dir)
        await scene.server.until(task, "lost")
        await stays_locked(scene, task)
        found = await known(scene, task)
        assert (found["state_serial"], found["checkpoint"]["version"]["serial"]) == (None, 1)
        assert found["checkpoint"]["version"]["resource_count"] == 1
        assert found["last_heard_at"] is not None
        assert [each["address"] for each in found["progress"]] == ["terraform_data.a"]
        body = {"unlock": True, "checkpoint": fate, "comment": "the pod is gone"}
        await scene.call("POST", f"/tasks/{task}/resolve", json=body)
        held = await workspace(scene)
        assert (held["lock"], held["state_uncertain"]) == (None, True)
        if fate == "adopt":
            assert (held["state_serial"], held["states_apart"]) == (1, 0)
        else:
            assert (held["state_serial"], held["states_apart"]) == (None, 1)
            promoted = await scene.call("POST", f"/workspaces/w/state-versions/{sent['id']}/promote", json={})
            assert (promoted["serial"], promoted["promotion_of"]) == (1, sent["id"])


@pytest.mark.slow_fault
async def test_row_43_a_real_apply_whose_disk_is_gone_goes_on_from_its_checkpoint(
    tmp_path: Path, database_url: str
) -> None:
    """43, emptyDir, with the real Terraform: without the checkpoint the first resource would be nobody's."""
    async with a_scene(tmp_path, database_url, times={"lost_after": 6.0}) as scene:
        gate = Gate(tmp_path / "gate")
        await scene.call("PUT", "/workspaces/w/configuration", json={"files": gate.main()})
        async with scene.agent(env=REAL) as agent:
            task = await scene.confirmed_apply()
            await gate.reached()
            await checkpointed(scene, task)
            await kill_all(agent)
        shutil.rmtree(agent.data_dir)
        await scene.server.until(task, "lost")
        await scene.call("POST", f"/tasks/{task}/resolve", json={"unlock": True, "checkpoint": "adopt"})
        assert statuses(await state_of(scene.server, "w")) == {"first": None}
        gate.open()
        async with scene.agent("another", env=REAL):
            again = await scene.confirmed_apply()
            assert (await scene.server.until(again, "succeeded"))["plan"]["summary"]["add"] == 1
        assert statuses(await state_of(scene.server, "w")) == {"first": None, "second": None}
        assert (await workspace(scene))["state_uncertain"] is False


@pytest.mark.parametrize("fate", FATES)
async def test_row_54_after_a_human_resolved_a_lost_apply_its_agent_returns_and_is_fenced(
    tmp_path: Path, database_url: str, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """54: abandon with stop_and_report; Terraform is asked to stop, its state is kept apart, with an alert."""
    async with a_scene(tmp_path, database_url, times={"lost_after": 2.0}) as scene:
        async with scene.agent(times=NOTICES) as agent:
            scene.acts(apply=partway(scene))
            task = await scene.confirmed_apply()
            await checkpointed(scene, task)
            scene.proxy.blackhole()
            await scene.server.until(task, "lost")
            body = {"unlock": True, "checkpoint": fate}
            done = await scene.call("POST", f"/tasks/{task}/resolve", json=body)
            assert done["status"] == "failed"
            scene.proxy.passes()
            await becomes(lambda: len(scene.oracle.events("apply", "stop")) == 1)
            await until_apart(scene, 1 if fate == "adopt" else 2)
            assert scene.oracle.events("apply", "sigterm")
            told = {(alert["reason"], alert["serial"]) for alert in await alerts(scene, task)}
            assert told == {("fenced", 2)}
            await becomes(lambda: "a state was quarantined" in caplog.messages)
            [late] = [each for each in await versions(scene, verdict="quarantined") if each["serial"] == 2]
            assert "State from an abandoned apply" in late["reason"]
            held = await workspace(scene)
            assert (held["state_serial"], held["lock"]) == (1 if fate == "adopt" else None, None)
        # What nobody wanted of it is kept until its agent starts again, and finds that its state is known.
        async with scene.agent():
            await becomes(lambda: not journal_of(agent.data_dir))
        assert (await scene.shown(task))["status"] == "failed"
        assert len(scene.oracle.events("apply")) == 1


async def until_apart(scene: Scene, count: int) -> None:
    with trio.fail_after(PATIENT):
        while (await workspace(scene))["states_apart"] < count:  # noqa: ASYNC110
            await trio.sleep(0.02)
