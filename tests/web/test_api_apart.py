"""States that were kept apart, over HTTP: seen, promoted by an admin, adopted or put aside when a task is resolved."""

from __future__ import annotations

import pytest

from tests.web.clients import Json, Served
from tests.web.requests_of import LINEAGE, state
from tests.web.tasks_of import lost
from tests.web.test_api_states import OTHER, download, serials, upload


def apart(api: Served, ws: str, version: str, verdict: str = "quarantined") -> str:
    """What a fenced push leaves is put there by hand."""
    reason = "State from an abandoned apply." if verdict == "quarantined" else None
    api.sql("UPDATE state_version SET verdict = $2, reason = $3 WHERE id = $1", version, verdict, reason)
    return version


def quarantined(api: Served, serial: int = 4, lineage: str = LINEAGE, now: int = 5) -> tuple[str, str]:
    """A workspace at serial `now`, and the id of a quarantined state in it."""
    ws = api.admin.workspace()
    version = upload(api, ws, state(serial, lineage, resources=1))["id"]
    upload(api, ws, state(now), force="true")
    return ws, apart(api, ws, version)


def promote(api: Served, ws: str, version: str, status: int = 201, code: str | None = None, **body: object) -> Json:
    return api.admin.post(f"/workspaces/{ws}/state-versions/{version}/promote", status, code=code, json=body)


# Seen


def test_a_workspace_tells_that_states_are_kept_apart_until_they_are_promoted(api: Served) -> None:
    ws, version = quarantined(api)
    assert api.viewer.get(f"/workspaces/{ws}")["states_apart"] == 1
    assert next(each for each in api.viewer.get("/workspaces", params={"search": ws})["items"])["states_apart"] == 1
    promote(api, ws, version)
    assert api.viewer.get(f"/workspaces/{ws}")["states_apart"] == 0


def test_list_states_200_only_those_with_a_verdict(api: Served) -> None:
    ws, version = quarantined(api)
    path = f"/workspaces/{ws}/state-versions"
    [shown] = api.viewer.get(path, params={"verdict": "quarantined,checkpoint"})["items"]
    assert (shown["id"], shown["reason"], shown["promoted_at"]) == (version, "State from an abandoned apply.", None)
    apart(api, ws, version, "checkpoint")
    assert serials(api, ws) == [(5, "current")]
    [shown] = api.viewer.get(path, params={"verdict": "checkpoint"})["items"]
    assert shown["id"] == version
    assert api.viewer.get(path, 422, params={"verdict": "strange"})["path"] == "$.verdict"


# Promoted


@pytest.mark.parametrize(("serial", "becomes"), [(4, 6), (5, 6), (9, 9)])
def test_promote_state_201_counts_on_where_its_serial_is_not_above(api: Served, serial: int, becomes: int) -> None:
    ws, version = quarantined(api, serial, now=5)
    # Made by upload, the current one counts on from it; as if it had been pushed to quarantine instead.
    api.sql("UPDATE workspace SET current_serial = 5 WHERE name = $1", ws)
    scope = "workspace_id = (SELECT id FROM workspace WHERE name = $1)"
    api.sql(f"UPDATE state_version SET serial = 5 WHERE verdict = 'current' AND {scope}", ws)  # noqa: S608
    made = promote(api, ws, version, expected_serial=5)
    assert (made["serial"], made["verdict"], made["promotion_of"]) == (becomes, "current", version)
    assert (made["resource_count"], made["created_by"]) == (1, "admin")
    raised = state(serial, resources=1).replace(f'"serial": {serial}'.encode(), f'"serial": {becomes}'.encode())
    assert download(api, ws) == raised
    old = api.viewer.get(f"/workspaces/{ws}/state-versions/{version}")
    assert (old["verdict"], old["promoted_at"] is not None) == ("quarantined", True)
    assert download(api, ws, version) == state(serial, resources=1)
    subject = api.admin.get(f"/workspaces/{ws}")["id"]
    entries = api.admin.get("/audit", params={"subject": subject})["items"]
    facts = next(entry for entry in entries if entry["verb"] == "state.promote")["facts"]
    assert (facts["version"], facts["serial"], facts["force"]) == (version, becomes, False)


def test_promote_state_201_a_checkpoint_too(api: Served) -> None:
    ws, version = quarantined(api)
    assert promote(api, ws, apart(api, ws, version, "checkpoint"))["serial"] == 6


def test_promote_state_201_twice_is_the_same_current_state(api: Served) -> None:
    ws = api.admin.workspace()
    version = upload(api, ws, state(3))["id"]
    apart(api, ws, version)
    api.sql("UPDATE workspace SET current_serial = NULL, lineage = NULL WHERE name = $1", ws)
    first = promote(api, ws, version)
    assert first["serial"] == 3
    assert promote(api, ws, version)["id"] == first["id"]


def test_promote_state_201_of_another_lineage_by_force(api: Served) -> None:
    ws, version = quarantined(api, 4, OTHER)
    made = promote(api, ws, version, force=True)
    assert (made["serial"], made["lineage"]) == (6, OTHER)


def test_promote_state_409_state_lineage_differs(api: Served) -> None:
    ws, version = quarantined(api, 4, OTHER)
    error = promote(api, ws, version, 409, "state_lineage_differs")
    assert (error["lineage"], error["current_lineage"]) == (OTHER, LINEAGE)
    assert serials(api, ws)[0] == (5, "current")
    assert api.viewer.get(f"/workspaces/{ws}")["states_apart"] == 1


def test_promote_state_409_state_moved(api: Served) -> None:
    ws, version = quarantined(api)
    assert promote(api, ws, version, 409, "state_moved", expected_serial=4)["current_serial"] == 5
    assert promote(api, ws, version, expected_serial=5)["serial"] == 6


def test_promote_state_409_not_apart(api: Served) -> None:
    ws = api.admin.workspace()
    old, new = upload(api, ws, state(1)), upload(api, ws, state(2))
    for version, verdict in ((old, "superseded"), (new, "current")):
        assert promote(api, ws, version["id"], 409, "not_apart")["verdict"] == verdict


def test_promote_state_409_workspace_locked(api: Served) -> None:
    ws, version = quarantined(api)
    token = api.operator.post(f"/workspaces/{ws}/lock", json={"reason": "mine"})["lock"]["token"]
    promote(api, ws, version, 409, "workspace_locked")
    assert promote(api, ws, version, lock_token=token)["serial"] == 6


# What is known, and what becomes of a checkpoint


def with_checkpoint(api: Served, serial: int = 6, lineage: str = LINEAGE) -> tuple[str, int, str]:
    """A workspace at serial 5, its lost task, and the id of that task's checkpoint."""
    ws, task = lost(api)
    api.admin.post(f"/workspaces/{ws}/unlock", json={"force": True})
    upload(api, ws, state(serial, lineage, resources=2))
    version = upload(api, ws, state(serial + 1, lineage, resources=2))["id"]
    upload(api, ws, state(5), force="true")
    scope = "workspace_id = (SELECT id FROM workspace WHERE name = $1)"
    api.sql(f"UPDATE state_version SET serial = 5 WHERE verdict = 'current' AND {scope}", ws)  # noqa: S608
    api.sql("UPDATE workspace SET current_serial = 5, state_uncertain = true WHERE name = $1", ws)
    fence = "(SELECT fence FROM task WHERE id = $2)"
    api.sql(
        f"UPDATE state_version SET verdict = 'checkpoint', partial = true, task_id = $2, fence = {fence}, "  # noqa: S608
        "serial = $3 WHERE id = $1", version, task, serial,
    )  # fmt: skip
    return ws, task, version


def test_show_known_200(api: Served) -> None:
    ws, task, version = with_checkpoint(api)
    known = api.viewer.get(f"/tasks/{task}/known")
    assert (known["status"], known["state_serial"], known["state_uncertain"]) == ("lost", 5, True)
    checkpoint = known["checkpoint"]
    assert (checkpoint["version"]["id"], checkpoint["version"]["serial"]) == (version, 6)
    assert (checkpoint["version"]["resource_count"], checkpoint["version"]["partial"]) == (2, True)
    assert checkpoint["not_adoptable"] is None
    assert [entry["status"] for entry in known["progress"]] == ["pending"]
    assert known["log_lines"]
    assert known["log_length"] > 0
    assert known["last_heard_at"] is None
    assert "data" not in str(known["checkpoint"])
    api.admin.post(f"/tasks/{task}/resolve", json={"unlock": True})
    assert api.viewer.get(f"/tasks/{task}/known")["checkpoint"] is None
    assert [kept["id"] for kept in api.viewer.get(f"/tasks/{task}/known")["states"]] == [version]
    assert api.viewer.get(f"/workspaces/{ws}")["states_apart"] == 1


def test_resolve_task_200_puts_the_checkpoint_aside_unless_told_otherwise(api: Served) -> None:
    ws, task, version = with_checkpoint(api)
    done = api.admin.post(f"/tasks/{task}/resolve", json={"unlock": True})
    assert f"kept apart as {version}" in done["detail"]
    held = api.viewer.get(f"/workspaces/{ws}")
    assert (held["state_serial"], held["state_uncertain"], held["states_apart"]) == (5, True, 1)
    kept = api.viewer.get(f"/workspaces/{ws}/state-versions/{version}")
    assert (kept["verdict"], f"Checkpoint of task {task}" in kept["reason"]) == ("quarantined", True)


def test_resolve_task_200_adopts_the_checkpoint_and_the_state_stays_uncertain(api: Served) -> None:
    ws, task, version = with_checkpoint(api)
    done = api.admin.post(f"/tasks/{task}/resolve", json={"unlock": True, "checkpoint": "adopt"})
    assert (done["status"], "became the current state" in done["detail"]) == ("failed", True)
    held = api.viewer.get(f"/workspaces/{ws}")
    assert (held["state_serial"], held["state_uncertain"], held["states_apart"], held["lock"]) == (6, True, 0, None)
    assert api.viewer.get(f"/workspaces/{ws}/state-versions/current")["id"] == version
    entries = api.admin.get("/audit", params={"subject": held["id"]})["items"]
    assert next(entry for entry in entries if entry["verb"] == "state.adopt")["facts"]["version"] == version
    upload(api, ws, state(12))
    assert api.viewer.get(f"/workspaces/{ws}")["state_uncertain"] is False


def test_resolve_task_409_no_checkpoint(api: Served) -> None:
    _, task = lost(api)
    api.admin.post(f"/tasks/{task}/resolve", 409, code="no_checkpoint", json={"checkpoint": "adopt"})
    assert api.viewer.get(f"/tasks/{task}")["status"] == "lost"


@pytest.mark.parametrize(("serial", "lineage", "why"), [(5, LINEAGE, "already taken"), (3, LINEAGE, "serial is 3"),
                                                        (6, OTHER, "lineage")])  # fmt: skip
def test_resolve_task_409_checkpoint_not_adoptable(api: Served, serial: int, lineage: str, why: str) -> None:
    ws, task, version = with_checkpoint(api, serial, lineage)
    assert why in api.viewer.get(f"/tasks/{task}/known")["checkpoint"]["not_adoptable"]
    error = api.admin.post(f"/tasks/{task}/resolve", 409, code="checkpoint_not_adoptable", json={"checkpoint": "adopt"})
    assert (error["version"], why in error["message"]) == (version, True)
    assert api.viewer.get(f"/tasks/{task}")["status"] == "lost"
    assert api.viewer.get(f"/workspaces/{ws}")["state_serial"] == 5


def test_only_who_may_break_a_lock_may_resolve(api: Served) -> None:
    _, task, _ = with_checkpoint(api)
    assert api.operator.post(f"/tasks/{task}/resolve", 403, json={})["right"] == "force_unlock"
