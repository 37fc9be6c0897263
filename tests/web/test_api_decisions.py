"""What people decide about tasks, over HTTP; and who wins when two want different things."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.web.clients import OCTETS, PLAIN, REAL, SILENT, STUCK_APPLY, STUCK_PLAN, Served
from tests.web.requests_of import state
from tests.web.tasks_of import MAIN, applies, cancelled, finished_plan, idle, lost, planned, verbs

# Confirming


def test_confirm_task_200(api: Served, terraform_dir: Path) -> None:
    ws, task = planned(api)
    digest = api.viewer.get(f"/tasks/{task}")["plan"]["digest"]
    before = applies(terraform_dir)
    body = {"comment": "looks right", "plan_digest": digest}
    confirmed = api.operator.post(f"/tasks/{task}/confirm", json=body)
    assert confirmed["phase"] == "apply"
    by = confirmed["confirmation"]
    assert (by["by"], by["comment"], by["plan_digest"]) == ("operator", "looks right", digest)
    done = api.operator.until(task, "succeeded")
    assert (done["outcome"], done["confirmation"]) == ("applied", by)
    assert applies(terraform_dir) == before + 1
    assert verbs(api, task) == ["task.create", "task.confirm"]
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None


def test_confirm_task_409_illegal_transition(api: Served) -> None:
    error = api.operator.post(
        f"/tasks/{api.operator.task(idle(api), 'plan_and_apply')}/confirm", 409, code="illegal_transition"
    )
    assert (error["status"], error["allowed"]) == ("queued", ["planned"])


def test_confirm_task_409_already_final(api: Served) -> None:
    assert api.operator.post(f"/tasks/{cancelled(api)}/confirm", 409, code="already_final")["status"] == "cancelled"


def test_confirm_task_409_plan_stale(api: Served) -> None:
    ws, task = planned(api)
    # Somebody looked at another plan than the one that is there.
    api.operator.post(f"/tasks/{task}/confirm", 409, code="plan_stale", json={"plan_digest": "0" * 64})
    # Somebody moved the state below the plan, which takes the lock away from it first.
    api.admin.post(f"/workspaces/{ws}/unlock", json={"force": True})
    api.admin.post(f"/workspaces/{ws}/state-versions", 201, content=state(6), headers=OCTETS)
    error = api.operator.post(f"/tasks/{task}/confirm", 409, code="plan_stale")
    assert (error["planned_serial"], error["current_serial"]) == (None, 6)
    shown = api.viewer.get(f"/tasks/{task}")
    assert (shown["status"], shown["confirmation"]) == ("planned", None)
    assert verbs(api, task) == ["task.create"]
    api.operator.post(f"/tasks/{task}/discard")


def test_confirm_task_409_workspace_locked(api: Served) -> None:
    ws, task = planned(api)
    # Somebody breaks the lock of the waiting plan and takes the workspace: no lock, no apply.
    api.admin.post(f"/workspaces/{ws}/unlock", json={"force": True})
    api.admin.post(f"/workspaces/{ws}/lock", json={"reason": "surgery"})
    error = api.operator.post(f"/tasks/{task}/confirm", 409, code="workspace_locked")
    assert (error["kind"], error["reason"]) == ("user", "surgery")
    assert api.viewer.get(f"/tasks/{task}")["status"] == "planned"
    # Given back, the task takes it again with its confirmation.
    api.admin.post(f"/workspaces/{ws}/unlock")
    api.operator.post(f"/tasks/{task}/confirm")
    assert api.viewer.until(task, "succeeded")["outcome"] == "applied"


def test_of_many_who_confirm_at_once_exactly_one_is_heard_and_one_apply_runs(api: Served, terraform_dir: Path) -> None:
    for _ in range(3):
        _, task = planned(api)
        before = applies(terraform_dir)

        def confirm(_: int, task: int = task) -> int:
            return api.operator.send("POST", f"/tasks/{task}/confirm").status_code

        with ThreadPoolExecutor(6) as threads:
            statuses = sorted(threads.map(confirm, range(6)))
        assert statuses == [200] + [409] * 5
        assert api.operator.until(task, "succeeded")["outcome"] == "applied"
        assert applies(terraform_dir) == before + 1
        assert verbs(api, task) == ["task.create", "task.confirm"]


def test_of_confirm_and_discard_at_once_exactly_one_is_heard(api: Served, terraform_dir: Path) -> None:
    _, task = planned(api)
    before = applies(terraform_dir)
    with ThreadPoolExecutor(2) as threads:
        answers = threads.map(lambda verb: api.operator.send("POST", f"/tasks/{task}/{verb}"), ("confirm", "discard"))
        confirmed, discarded = (answer.status_code for answer in answers)
    assert sorted((confirmed, discarded)) == [200, 409]
    api.operator.until(task, "succeeded", "cancelled")
    assert applies(terraform_dir) == before + (confirmed == 200)


# Discarding, cancelling


def test_discard_task_200(api: Served) -> None:
    ws, task = planned(api)
    done = api.operator.post(f"/tasks/{task}/discard", json={"comment": "not today"})
    assert (done["status"], done["outcome"], done["detail"]) == ("cancelled", "discarded", "not today")
    assert done["finished_at"] is not None
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None
    assert verbs(api, task) == ["task.create", "task.discard"]


def test_discard_task_409_illegal_transition(api: Served) -> None:
    task = api.operator.task(idle(api), "plan_and_apply")
    api.operator.post(f"/tasks/{task}/discard", 409, code="illegal_transition")


def test_discard_task_409_already_final(api: Served) -> None:
    api.operator.post(f"/tasks/{cancelled(api)}/discard", 409, code="already_final")


def test_cancel_task_200_while_it_waits_for_its_workspace(api: Served) -> None:
    ws, first = planned(api)
    task = api.operator.task(ws, "destroy")
    assert api.viewer.get(f"/tasks/{task}")["status"] == "pending"
    done = api.operator.post(f"/tasks/{task}/cancel")
    assert (done["status"], done["reason"], done["wait"]) == ("cancelled", "user", None)
    assert (done["cancel"]["by"], done["cancel"]["force"]) == ("operator", False)
    assert api.viewer.get(f"/workspaces/{ws}")["lock"]["owner"] == str(first)  # not its lock, so it stays
    api.operator.post(f"/tasks/{first}/discard")


def test_cancel_task_200_while_it_waits_for_a_runner(api: Served) -> None:
    ws = idle(api)
    task = api.operator.task(ws, "plan_and_apply")
    next_one = api.operator.task(ws, "plan_and_apply")
    assert api.operator.post(f"/tasks/{task}/cancel")["status"] == "cancelled"
    assert api.viewer.get(f"/tasks/{next_one}")["status"] == "queued"  # the lock went on to it at once
    assert api.viewer.get(f"/workspaces/{ws}")["lock"]["owner"] == str(next_one)
    assert verbs(api, task) == ["task.create", "task.cancel"]


def test_cancel_task_200_while_it_waits_for_a_confirmation(api: Served) -> None:
    ws, task = planned(api)
    done = api.operator.post(f"/tasks/{task}/cancel")
    assert (done["status"], done["outcome"]) == ("cancelled", None)
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None


def test_cancel_task_200_while_it_plans(api: Served) -> None:
    task = api.operator.task(api.admin.workspace(MAIN, terraform_version=STUCK_PLAN), "plan")
    api.operator.until_stuck(task)
    assert api.viewer.get(f"/tasks/{task}")["status"] == "running"
    asked = api.operator.post(f"/tasks/{task}/cancel")
    assert asked["status"] in ("cancelling", "cancelled")
    done = api.operator.until(task, "cancelled")
    assert done["cancel"]["id"] == asked["cancel"]["id"]
    assert (done["reason"], done["exit_code"]) == ("user", 1)


def test_cancel_task_200_again_with_force_is_one_cancellation_that_hurries(api: Served) -> None:
    task = api.operator.task(api.admin.workspace(MAIN, terraform_version=STUCK_PLAN), "plan")
    api.operator.until_stuck(task)
    asked = [api.operator.post(f"/tasks/{task}/cancel")]
    if asked[0]["status"] == "cancelling":  # else it was quicker than we are
        again = api.admin.send("POST", f"/tasks/{task}/cancel", json={"force": True})
        assert again.status_code == 200 or again.json()["error"]["code"] == "already_final"
    done = api.operator.until(task, "cancelled")
    assert (done["cancel"]["id"], done["cancel"]["by"]) == (asked[0]["cancel"]["id"], "operator")


def test_cancel_task_200_while_its_terraform_is_looked_for(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=SILENT)
    task = api.operator.task(ws, "plan_and_apply")
    stream = api.operator.events(task)
    assert any(event.name == "status" and event.data["stage"] == "preparing" for event in stream)
    api.operator.post(f"/tasks/{task}/cancel")
    done = api.operator.until(task, "cancelled")
    assert (done["reason"], done["outcome"]) == ("user", None)
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None


def test_cancel_task_200_at_any_moment_of_its_beginning(api: Served) -> None:
    for _ in range(4):
        ws = api.admin.workspace(MAIN, terraform_version=PLAIN)
        task = api.operator.task(ws, "plan_and_apply")
        api.operator.post(f"/tasks/{task}/cancel")
        assert api.operator.until(task, "cancelled")["reason"] == "user"
        assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None


def test_cancel_task_200_while_it_applies_keeps_what_was_done(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=STUCK_APPLY)
    task = api.operator.task(ws, "plan_and_apply", auto_apply=True)
    api.operator.until_stuck(task)
    api.operator.post(f"/tasks/{task}/cancel")
    done = api.operator.until(task, "cancelled")
    assert (done["phase"], done["reason"]) == ("apply", "user")
    assert api.viewer.get(f"/workspaces/{ws}/state-versions/current")["task_id"] == task
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None


def test_cancel_task_409_already_final(api: Served) -> None:
    task = cancelled(api)
    assert api.operator.post(f"/tasks/{task}/cancel", 409, code="already_final")["status"] == "cancelled"
    _, done = finished_plan(api)
    assert api.operator.post(f"/tasks/{done}/cancel", 409, code="already_final")["status"] == "succeeded"
    assert verbs(api, done) == ["task.create"]


# Again


def test_retry_task_201(api: Served) -> None:
    ws = idle(api)
    asked = {"targets": ["terraform_data.a"], "priority": 2, "message": "again"}
    old = api.operator.task(ws, "plan_and_apply", **asked)
    api.operator.post(f"/tasks/{old}/cancel")
    made = api.admin.post(f"/tasks/{old}/retry", 201)
    assert {key: made[key] for key in asked} == asked
    assert (made["action"], made["retry_of"], made["created_by"]) == ("plan_and_apply", old, "admin")
    assert (made["status"], made["id"] > old) == ("queued", True)
    assert api.viewer.get(f"/tasks/{old}")["status"] == "cancelled"


def test_retry_task_201_is_made_once_under_one_key(api: Served) -> None:
    old = api.operator.task(idle(api), "plan")
    api.operator.post(f"/tasks/{old}/cancel")
    key = {"Idempotency-Key": "once more"}
    first, second = (api.operator.post(f"/tasks/{old}/retry", 201, headers=key)["id"] for _ in range(2))
    assert first == second


def test_retry_task_409_illegal_transition(api: Served) -> None:
    task = api.operator.task(idle(api), "plan")
    assert api.operator.post(f"/tasks/{task}/retry", 409, code="illegal_transition")["status"] == "queued"


def test_retry_task_409_no_plan(api: Served) -> None:
    ws, plan = finished_plan(api)
    task = api.operator.task(ws, "apply", plan_task_id=plan)
    api.operator.until(task, "succeeded")
    error = api.operator.post(f"/tasks/{task}/retry", 409, code="no_plan")
    assert str(plan) in error["message"]


def test_retry_task_409_no_configuration(api: Served) -> None:
    ws = api.admin.workspace(execution_mode="agent")
    body = {"type": "terraform_data", "name": "a", "body": {}}
    resource = api.operator.post(f"/workspaces/{ws}/resources", 201, json=body)
    task = api.operator.task(ws, "plan")
    api.operator.post(f"/tasks/{task}/cancel")
    api.operator.delete(f"/workspaces/{ws}/resources/{resource['id']}")
    api.operator.post(f"/tasks/{task}/retry", 409, code="no_configuration")


# Applying a plan that was made before


def test_a_finished_plan_is_applied_as_it_is(api: Served, terraform_dir: Path) -> None:
    ws, plan = finished_plan(api)
    before = applies(terraform_dir)
    task = api.operator.post(f"/workspaces/{ws}/tasks", 201, json={"action": "apply", "plan_task_id": plan})
    assert (task["phase"], task["plan_task_id"]) == ("apply", plan)
    assert task["plan"]["digest"] == api.viewer.get(f"/tasks/{plan}")["plan"]["digest"]
    assert api.operator.until(task["id"], "succeeded")["outcome"] == "applied"
    assert applies(terraform_dir) == before + 1
    assert api.viewer.get(f"/tasks/{task['id']}/plan") == api.viewer.get(f"/tasks/{plan}/plan")
    # Its plan is used up now: the state it was made from is no longer the current one.
    body = {"action": "apply", "plan_task_id": plan}
    api.operator.post(f"/workspaces/{ws}/tasks", 409, code="plan_stale", json=body)


def test_a_plan_that_goes_stale_while_its_apply_waits_is_not_applied(api: Served, terraform_dir: Path) -> None:
    ws, plan = finished_plan(api)
    api.admin.post(f"/workspaces/{ws}/lock")
    before = applies(terraform_dir)
    task = api.operator.task(ws, "apply", plan_task_id=plan)
    api.admin.post(f"/workspaces/{ws}/state-versions", 201, content=state(5), headers=OCTETS)
    api.admin.post(f"/workspaces/{ws}/unlock")
    assert api.operator.until(task, "failed")["reason"] == "plan_stale"
    assert applies(terraform_dir) == before
    assert api.viewer.get(f"/workspaces/{ws}")["state_serial"] == 5


def test_an_apply_without_a_plan_plans_and_does_not_ask(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version=PLAIN)
    done = api.operator.until(api.operator.task(ws, "apply"), "succeeded")
    assert (done["outcome"], done["confirmation"]["by"]) == ("applied", "auto-apply")


# Resolving


def test_resolve_task_200(api: Served) -> None:
    ws, task = lost(api)
    assert api.operator.get(f"/tasks/{task}")["wait"]["code"] == "needs_resolution"
    body = {"comment": "nothing was made", "unlock": True}
    done = api.admin.post(f"/tasks/{task}/resolve", json=body)
    assert (done["status"], done["reason"]) == ("failed", "server_restarted")
    assert "admin" in done["detail"]
    assert "nothing was made" in done["detail"]
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None
    entry = api.admin.get("/audit", params={"subject": f"task-{task}"})["items"][0]
    assert (entry["verb"], entry["facts"]["unlock"]) == ("task.resolve", True)


def test_resolve_task_200_leaves_the_workspace_locked_unless_told_otherwise(api: Served) -> None:
    ws, task = lost(api)
    assert api.admin.post(f"/tasks/{task}/resolve")["status"] == "failed"
    lock = api.viewer.get(f"/workspaces/{ws}")["lock"]
    assert (lock["kind"], lock["owner"]) == ("task", str(task))
    api.admin.post(f"/workspaces/{ws}/unlock", json={"force": True})


def test_resolve_task_409_illegal_transition(api: Served) -> None:
    _, task = planned(api)
    assert api.admin.post(f"/tasks/{task}/resolve", 409, code="illegal_transition")["allowed"] == ["lost"]
    api.operator.post(f"/tasks/{task}/discard")


def test_resolve_task_409_already_final(api: Served) -> None:
    api.admin.post(f"/tasks/{cancelled(api)}/resolve", 409, code="already_final")


# What goes wrong


def test_a_terraform_version_that_is_nowhere_fails_the_task_and_says_where_was_looked(api: Served) -> None:
    ws = api.admin.workspace(MAIN, terraform_version="0.0.7")
    done = api.operator.until(api.operator.task(ws, "plan"), "failed")
    assert done["reason"] == "terraform_not_found"
    assert "0.0.7" in done["detail"]
    assert PLAIN in done["detail"]
    assert b"0.0.7" in api.viewer.log(done["id"])


def test_a_configuration_that_terraform_refuses_fails_the_task_and_its_log_says_why(api: Served) -> None:
    ws = api.admin.workspace({"main.tf": 'resource "terraform_data" "a" { nonsense = 1 }'}, terraform_version=REAL)
    task = api.operator.task(ws, "plan_and_apply")
    done = api.operator.until(task, "failed")
    assert (done["phase"], done["reason"], done["exit_code"]) == ("plan", "plan_failed", 1)
    assert b"Unsupported argument" in api.viewer.log(task)
    assert api.viewer.get(f"/workspaces/{ws}")["lock"] is None
