"""What agents bring: logs, results, states and plans; repeating changes nothing, and nothing is taken that is not whole."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import pytest

from iac.domain.lifecycle import Lose
from iac.domain.messages import RunTaskOrder
from iac.settings import LogSettings
from iac.store import standings
from iac.store.database import open_database
from tests.fakes.scripted_agent import packed, sha256
from tests.web.agent_scene import a_scene, a_state, error

# The log


async def test_a_chunk_is_stored_once_however_often_it_comes(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        for _ in range(3):
            assert (await scene.agent.log(order, b"one\n")).json() == {"status": "ok", "next_offset": 4}
        assert (await scene.agent.log(order, b"one\ntwo\n")).json()["next_offset"] == 8
        gap = error(await scene.agent.log(order, b"x", offset=9, expect=409))
        assert (gap["code"], gap["next_offset"]) == ("log_gap", 8)
        other = error(await scene.agent.log(order, b"eins", expect=409))
        assert (other["code"], other["conflict_at"], other["next_offset"]) == ("log_conflict", 0, 8)
        position = (await scene.agent.task(order, "GET", "/logs/chunk")).json()
        assert position == {"next_offset": 8, "closed": False}
        empty = {"offset": 8, "data": "", "checksum": sha256(b""), "length": 0, "final": True}
        assert (await scene.agent.task(order, "POST", "/logs/chunk", json=empty)).json()["next_offset"] == 8
        await scene.agent.status(order, "failed", log=b"one\ntwo\n")
        assert error(await scene.agent.log(order, b"more", offset=8, expect=409))["code"] == "log_closed"
        assert (await scene.agent.log(order, b"one\n")).json()["next_offset"] == 8
        assert (await scene.agent.task(order, "GET", "/logs/chunk")).json()["closed"] is True
        assert await scene.server.log(order.task_id) == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("chunk", "status", "code"),
    [
        ({"data": "!!", "checksum": sha256(b"x")}, 400, "bad_encoding"),
        ({"data": base64.b64encode(b"x").decode(), "checksum": sha256(b"x")}, 400, "bad_encoding"),
        ({"data": packed(b"x"), "checksum": sha256(b"y")}, 400, "checksum_mismatch"),
        ({"data": packed(b"x"), "checksum": sha256(b"x"), "length": 2}, 400, "checksum_mismatch"),
        ({"data": packed(b"\0" * (9 << 20)), "checksum": sha256(b"x")}, 413, "chunk_too_large"),
        ({"data": packed(b"x"), "checksum": "A"}, 422, "invalid"),
        ({"offset": -1, "data": packed(b"x"), "checksum": sha256(b"x")}, 422, "invalid"),
    ],
)
async def test_a_chunk_that_is_not_what_it_says_is_refused(
    tmp_path: Path, database_url: str, chunk: dict[str, object], status: int, code: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.agent.log(order, b"before")
        response = await scene.agent.task(order, "POST", "/logs/chunk", json={"offset": 6, **chunk}, expect=status)
        assert error(response)["code"] == code
        if status == 400:
            assert error(response)["next_offset"] == 6
        assert await scene.server.log(order.task_id) == b"before"


async def test_too_many_chunks_of_one_task_are_told_429(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order, other = await scene.ordered(), await scene.ordered()
        codes = []
        for offset in range(70):
            body = {"offset": offset, "data": packed(b"x"), "checksum": sha256(b"x")}
            headers = {"Authorization": f"Bearer {order.task_token}"}
            url = f"/api/v1/agents/tasks/{order.task_id}/logs/chunk"
            codes.append((await scene.agent.http.post(url, json=body, headers=headers)).status_code)
            if codes[-1] == 429:
                break
        assert codes[-1] == 429
        await scene.agent.log(other, b"x")


async def test_a_large_log_is_not_held_up_by_the_number_of_its_chunks(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        data = bytes(1 << 20)
        body = {"offset": 0, "data": packed(data), "checksum": sha256(data), "length": len(data)}
        for _ in range(70):
            await scene.agent.task(order, "POST", "/logs/chunk", json=body)
        # One that only says so is counted as soon as that is seen.
        lies = {**body, "data": packed(b"x"), "checksum": sha256(b"x")}
        headers = {"Authorization": f"Bearer {order.task_token}"}
        url = f"/api/v1/agents/tasks/{order.task_id}/logs/chunk"
        codes = [(await scene.agent.http.post(url, json=lies, headers=headers)).status_code for _ in range(70)]
        assert set(codes) == {400, 429}


async def test_the_cap_of_a_log_is_the_servers_setting(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url, logs=LogSettings(max_bytes=1 << 20)) as scene:
        order = await scene.ordered()
        assert (await scene.agent.claim(order)).assignment.log_max_bytes == 1 << 20
        for offset in (0, 4 << 20):
            await scene.agent.log(order, bytes(4 << 20), offset=offset)
        over = error(await scene.agent.log(order, bytes(2 << 20), offset=8 << 20, expect=413))
        assert (over["code"], over["limit"]) == ("log_limit", 9 << 20)  # the fuse is a chunk above the cap


# The result


async def test_a_result_can_be_repeated_and_not_be_changed(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        for _ in range(2):
            answer = await scene.agent.status(order, "failed", reason="terraform_failed", exit_code=1)
            assert answer.json() == {"status": "failed", "final": True}
        response = await scene.agent.status(order, "planned", result_id="another", expect=409)
        assert error(response)["code"] == "already_final"
        shown = await scene.task(order)
        assert (shown["status"], shown["reason"], shown["exit_code"]) == ("failed", "terraform_failed", 1)


async def test_a_result_whose_answer_was_lost_is_taken_although_the_task_has_gone_on(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered("plan_and_apply", auto_apply=True)
        await scene.agent.plan(order, await scene.agent.claim(order))
        await scene.agent.status(order, "planned")
        await scene.link.get(RunTaskOrder, task_id=order.task_id, action="apply")
        assert (await scene.agent.status(order, "planned")).json()["final"] is True
        response = await scene.agent.status(order, "failed", result_id="another", expect=409)
        assert error(response)["code"] == "fenced"
        assert (await scene.task(order))["status"] == "assigned"


async def test_the_log_has_to_be_whole_before_the_result_is_taken(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.agent.log(order, b"first ")
        missing = error(await scene.agent.status(order, "failed", log=b"first second", expect=409))
        assert (missing["code"], missing["next_offset"]) == ("log_incomplete", 6)
        await scene.agent.log(order, b"second", offset=6)
        await scene.agent.status(order, "failed", log=b"first second")
        assert (await scene.task(order))["status"] == "failed"


async def test_another_log_than_the_stored_one_is_told_once_and_then_accepted(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.agent.log(order, b"stored")
        refused = error(await scene.agent.status(order, "failed", log=b"meant!", expect=409))
        assert refused["code"] == "log_mismatch"
        assert refused["blocks"] == [sha256(b"stored")]
        await scene.agent.status(order, "failed", log=b"meant!")
        assert await scene.log_state(order) == "diverged"
        assert await scene.server.log(order.task_id) == b"stored"


async def test_a_result_may_come_without_its_log(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.agent.status(order, "failed", log=None)
        await scene.agent.log(order, b"late")
        assert await scene.server.log(order.task_id) == b"late"


async def test_a_log_that_is_still_arriving_does_not_hold_up_the_result_and_is_closed_when_it_is_whole(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.agent.log(order, b"first ")
        digest = {"length": 12, "sha256": sha256(b"first second")}
        pending = {"status": "failed", "result_id": f"r-{order.fence}", "log": {**digest, "state": "pending"}}
        await scene.agent.task(order, "PUT", "/status", json=pending)
        assert (await scene.task(order))["status"] == "failed"
        early = error(await scene.agent.status(order, "failed", log=b"first second", expect=409))
        assert (early["code"], early["next_offset"]) == ("log_incomplete", 6)
        assert await scene.log_state(order) == "open"
        await scene.agent.log(order, b"second", offset=6)
        await scene.agent.status(order, "failed", log=b"first second")
        assert await scene.log_state(order) == "complete"
        assert error(await scene.agent.log(order, b"more", offset=12, expect=409))["code"] == "log_closed"


async def test_a_result_needs_an_id(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        response = await scene.agent.task(order, "PUT", "/status", json={"status": "failed"}, expect=422)
        assert error(response)["path"] == "$.result_id"


async def test_a_plan_that_was_stopped_because_its_lease_was_over_is_tried_again(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        for _ in range(2):
            answer = await scene.agent.status(order, "failed", reason="lease_expired")
            assert answer.json()["final"] is True
        again = await scene.link.get(RunTaskOrder, task_id=order.task_id)
        assert (again.attempt, again.fence > order.fence) == (2, True)
        await scene.agent.claim(again)
        await scene.agent.status(again, "failed", reason="lease_expired")
        assert (await scene.task(order))["status"] == "failed"  # a third attempt is not made


async def test_the_log_of_a_plan_that_is_given_back_ends_with_it(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.agent.log(order, b"so far\n")
        await scene.agent.status(order, "failed", reason="lease_expired", log=b"so far\n")
        assert (await scene.agent.task(order, "GET", "/logs/chunk")).json() == {"next_offset": 7, "closed": True}


async def test_a_log_that_comes_when_the_task_was_given_up_is_whole_all_the_same(
    tmp_path: Path, database_url: str
) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        await scene.server.call("POST", f"/api/v1/tasks/{order.task_id}/cancel", json={})
        lost = Lose(fence=order.fence, reason="agent_lost", detail="")
        async with open_database(database_url, pool_size=1) as database:
            assert (await database.tx(standings.move, order.task_id, lost)).task.status == "cancelled"
        await scene.agent.log(order, b"late")
        late = await scene.agent.status(order, "failed", reason="agent_crashed", log=b"late", expect=409)
        assert error(late)["code"] == "already_final"
        assert (await scene.agent.task(order, "GET", "/logs/chunk")).json() == {"next_offset": 4, "closed": True}


async def test_that_a_task_was_never_begun_is_not_believed_of_the_program_that_claimed_it(
    tmp_path: Path, database_url: str
) -> None:
    """Its words, said at its start, were so long on their way that the order came, and was claimed, before them."""
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        told: dict[str, Any] = {"reason": "never_started", "result_id": "r-never"}
        assert error(await scene.agent.status(order, "failed", **told, expect=409))["code"] == "illegal_transition"
        await scene.agent.task(order, "GET", "/data", headers={"X-IAC-Boot-Id": "second life"})
        late = {"status": "failed", **told, "log": {"length": 0, "sha256": sha256(b"")}}
        for boot, expect in (("second life", 409), ("third life", 200)):
            await scene.agent.task(order, "PUT", "/status", json=late, headers={"X-IAC-Boot-Id": boot}, expect=expect)
        again = await scene.link.get(RunTaskOrder, task_id=order.task_id)
        assert again.attempt == 2


async def test_progress_and_stages_are_shown(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        entry = {"address": "a.b", "action": "create", "status": "started", "elapsed_s": 1.0}
        body = {"status": "running", "stage": "plan", "progress": [entry]}
        answer = await scene.agent.task(order, "PUT", "/status", json=body)
        assert answer.json() == {"status": "running", "final": False}
        assert (await scene.task(order))["stage"] == "plan"


# States and plans


async def test_a_state_is_current_then_a_duplicate_and_never_refused(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        checkpoint = await scene.agent.state(order, a_state(1), body={"partial": True}, expect=201)
        assert checkpoint.json()["verdict"] == "checkpoint"
        assert (await scene.agent.state(order, a_state(2), expect=201)).json()["verdict"] == "current"
        assert (await scene.agent.state(order, a_state(2), expect=200)).json()["verdict"] == "duplicate"
        assert error(await scene.agent.state(order, b"not a state at all", expect=422))["code"] == "state_invalid"
        for odd in (a_state(2, "lin-2"), a_state(1)):
            answer = await scene.agent.state(order, odd, expect=202)
            assert (answer.json()["verdict"], bool(answer.json()["reason"])) == ("quarantined", True)
        wrong = await scene.agent.state(order, a_state(3), body={"sha256": sha256(b"x")}, expect=400)
        assert error(wrong)["code"] == "checksum_mismatch"
        await scene.agent.status(order, "succeeded", outcome="applied")
        assert (await scene.agent.state(order, a_state(3), expect=201)).json()["verdict"] == "current"


async def test_a_plan_leaves_no_state(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered()
        await scene.agent.claim(order)
        response = await scene.agent.state(order, a_state(1), expect=403)
        assert error(response)["code"] == "wrong_scope"


async def test_after_a_human_resolved_the_apply_its_state_is_kept_apart(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        await scene.agent.state(order, a_state(1), expect=201)
        lost = await scene.agent.status(order, "failed", state_safe=False, reason="state_not_stored")
        assert lost.json()["status"] == "lost"
        await scene.server.call("POST", f"/api/v1/tasks/{order.task_id}/resolve", json={"unlock": True})
        answer = await scene.agent.state(order, a_state(2), expect=202)
        assert answer.json()["verdict"] == "quarantined"
        assert error(await scene.agent.log(order, b"x", expect=409))["code"] == "fenced"
        assert error(await scene.agent.task(order, "GET", "/data", expect=409))["code"] == "fenced"
        current = await scene.server.call("GET", "/api/v1/workspaces/w/state-versions/current")
        assert current["serial"] == 1


async def test_what_a_revoked_agent_still_sends_is_kept_apart(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        await scene.server.call("DELETE", f"/api/v1/agents/{scene.agent.id}", params={"force": "true"}, expect=204)
        answer = await scene.agent.state(order, a_state(1), expect=202)
        assert "revoked" in answer.json()["reason"]
        assert error(await scene.agent.status(order, "succeeded", expect=409))["code"] == "fenced"
        await scene.server.call("GET", "/api/v1/workspaces/w/state-versions/current", expect=404)


async def test_a_plan_is_stored_by_whoever_may(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.ordered("plan_and_apply")
        data = await scene.agent.claim(order)
        for _ in range(2):
            await scene.agent.plan(order, data)
        await scene.agent.status(order, "planned")
        assert (await scene.task(order))["plan"]["summary"] == {"add": 1}
        response = await scene.agent.http.post(
            f"/api/v1/agents/tasks/{order.task_id}/plan",
            headers={"Authorization": f"Bearer {order.task_token}"},
            json={"facts": {}, "sha256": "x"},
        )
        assert response.status_code == 422


async def test_a_bomb_is_refused(tmp_path: Path, database_url: str) -> None:
    async with a_scene(tmp_path, database_url) as scene:
        order = await scene.applying()
        bomb = base64.b64encode(gzip.compress(b"\0" * (300 << 20), 9)).decode()
        body = {"state": bomb, "sha256": sha256(b"")}
        response = await scene.agent.task(order, "POST", "/state", json=body, expect=413)
        assert error(response)["code"] == "state_too_large"
