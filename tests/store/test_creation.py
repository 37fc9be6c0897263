"""A task's inputs are frozen when it is made: whatever is edited afterwards, it runs from what was there then."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from iac.domain.bundles import encode_bundle
from iac.domain.lifecycle import Discard
from iac.domain.records import Action, Task, Workspace
from iac.domain.work import Bundle, SavedPlan
from iac.errors import Conflict, Invalid, NotFound, PlanStale
from iac.store import audit, configurations, creation, plans, resources, statefiles, tasks, variables, workspaces
from iac.store.creation import NewTask
from iac.store.database import Connection, Database
from iac.store.sealing import CannotUnseal, Keyring
from tests.store import given


async def bundle(database: Database, task: Task) -> Bundle:
    return await database.tx(creation.bundle_of, given.KEYS, task.id)


async def a_variable(database: Database, workspace: Workspace, value: str) -> str:
    facts: dict[str, Any] = {"category": "terraform", "hcl": False, "sensitive": True, "description": "", "by": "ann"}
    made = await database.tx(variables.create, given.KEYS, workspace.id, key="size", value=value, **facts)
    return made.id


async def change(database: Database, workspace: Workspace, variable_id: str, value: str) -> None:
    facts: dict[str, Any] = {**dict.fromkeys(("hcl", "sensitive", "description", "version")), "by": "ann"}
    await database.tx(variables.change, given.KEYS, workspace.id, variable_id, value=value, **facts)


async def test_later_edits_of_anything_do_not_leak_into_a_task(database: Database) -> None:
    workspace = await given.a_workspace(database, provider_config={"null": {"a": "old"}}, terraform_version="1.9.0")
    variable = await a_variable(database, workspace, "old")
    block: dict[str, Any] = {"mode": "managed", "type": "terraform_data", "name": "x", "by": "ann"}
    kept = await database.tx(resources.create, workspace.id, body={"input": "old"}, **block)
    task = await given.a_task(database, "w", targets=("terraform_data.x",))
    before = await bundle(database, task)

    await change(database, workspace, variable, "new")
    await database.tx(resources.change, workspace.id, kept.id, body={"input": "new"}, version=None, by="ann")
    newer = await given.a_configuration(database, workspace.id, b"two")
    changes = {"provider_config": {"null": {"a": "new"}}, "terraform_version": "1.10.0", "name": "w2", "engine": "tofu"}
    await database.tx(workspaces.change, workspace.id, changes, by="ann")

    after = await bundle(database, task)
    assert after == before
    assert "new" not in str(after)
    assert [variable.value for variable in after.variables] == ["old"]
    assert task.terraform_version == after.terraform_version == "1.9.0"
    assert after.configuration_digest == hashlib.sha256(b"one").hexdigest()
    archive = await database.tx(configurations.archive_by_digest, workspace.id, str(after.configuration_digest))
    assert archive == b"one", "the old archive is still there"

    fresh = await bundle(database, await given.a_task(database, "w2", "plan"))
    assert fresh.configuration_digest == newer
    assert [variable.value for variable in fresh.variables] == ["new"]
    assert "old" not in str(fresh)
    assert (fresh.engine, fresh.terraform_version, fresh.workspace_name) == ("tofu", "1.10.0", "w2")


async def test_the_bundle_is_sealed_bound_to_its_task_and_named_by_its_digest(database: Database) -> None:
    workspace = await given.a_workspace(database)
    await a_variable(database, workspace, "canary-0451")
    one, other = await given.a_task(database, "w", "plan"), await given.a_task(database, "w", "plan")
    sealed = await given.scalar(database, "SELECT bundle FROM task WHERE id = :id", id=one.id)
    assert b"canary-0451" not in bytes(sealed)
    assert one.bundle_digest == encode_bundle(await bundle(database, one))[1]

    async def swap(c: Connection) -> None:
        await c.run("UPDATE task SET bundle = :data WHERE id = :id", data=sealed, id=other.id)

    await database.tx(swap)
    with pytest.raises(CannotUnseal):
        await bundle(database, other)
    with pytest.raises(CannotUnseal):
        await database.tx(creation.bundle_of, Keyring("another-key-altogether"), one.id)


async def test_a_workspace_without_configuration_says_what_to_do(database: Database) -> None:
    await given.a_workspace(database, empty=True)
    with pytest.raises(Conflict, match="upload one first") as refused:
        await given.a_task(database, "w")
    assert refused.value.code == "no_configuration"
    assert (await database.tx(workspaces.get, "w")).lock is None


async def test_a_workspace_that_does_not_exist_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        await given.a_task(database, "nowhere")


async def test_platform_resources_alone_are_a_configuration(database: Database) -> None:
    workspace = await given.a_workspace(database, empty=True)
    block: dict[str, Any] = {"mode": "managed", "type": "terraform_data", "name": "x", "by": "ann"}
    await database.tx(resources.create, workspace.id, body={"input": 1}, **block)
    made = await bundle(database, await given.a_task(database, "w", "plan"))
    assert made.configuration_digest is None
    assert any(b"terraform_data" in data for data in made.generated.values())


async def test_inputs_that_cannot_be_assembled_make_no_task(database: Database) -> None:
    workspace = await given.a_workspace(database, empty=True)
    block: dict[str, Any] = {"mode": "managed", "type": "terraform_data", "name": "x", "by": "ann"}
    await database.tx(resources.create, workspace.id, body={"input": 1}, **block)

    async def spoil(c: Connection) -> None:
        await c.run("UPDATE resource SET type = 'not a type'")

    await database.tx(spoil)
    with pytest.raises(Invalid):
        await given.a_task(database, "w")
    assert await database.tx(tasks.counts, tasks.Filter()) == {}


@pytest.mark.parametrize(
    ("action", "of_workspace", "asked", "result"),
    [
        ("plan_and_apply", True, None, True),
        ("plan_and_apply", False, None, False),
        ("plan_and_apply", True, False, False),
        ("destroy", False, True, True),
    ],
)
async def test_auto_apply_is_the_workspaces_unless_the_task_says(
    database: Database, action: Action, of_workspace: bool, asked: bool | None, result: bool
) -> None:
    await given.a_workspace(database, auto_apply=of_workspace)
    assert (await given.a_task(database, "w", action, auto_apply=asked)).auto_apply is result


async def test_a_plan_is_applied_with_the_very_inputs_it_was_made_from(database: Database) -> None:
    workspace = await given.a_workspace(database)
    variable = await a_variable(database, workspace, "old")
    planned = await given.planned(database, "w", "plan")
    await change(database, workspace, variable, "new")
    apply = await given.a_task(database, "w", "apply", plan_task_id=planned.id)
    assert (apply.phase, apply.plan_digest, apply.has_changes) == ("apply", planned.plan_digest, True)
    assert apply.bundle_digest == planned.bundle_digest
    assert await bundle(database, apply) == await bundle(database, planned)


async def test_a_plan_that_no_longer_fits_the_state_cannot_be_applied(database: Database) -> None:
    await given.a_workspace(database)
    planned = await given.planned(database, "w", "plan")
    await database.tx(statefiles.upload, given.KEYS, "w", given.a_state(4), force=False, by="ann", token=None)
    with pytest.raises(PlanStale) as refused:
        await given.a_task(database, "w", "apply", plan_task_id=planned.id)
    assert refused.value.extras == {"planned_serial": None, "current_serial": 4}


@pytest.mark.parametrize(
    ("how", "code"), [("other workspace", "not_a_plan"), ("not a plan", "not_a_plan"), ("running", "no_plan")]
)
async def test_only_a_finished_plan_of_this_workspace_can_be_applied(database: Database, how: str, code: str) -> None:
    await given.a_workspace(database)
    if how == "other workspace":
        await given.a_workspace(database, "other")
        source = await given.planned(database, "other", "plan")
    elif how == "not a plan":
        source = await given.moved(database, await given.planned(database, "w"), Discard(by="ann"))
    else:
        source = await given.running(database, await given.a_task(database, "w", "plan"))
    with pytest.raises(Conflict) as refused:
        await given.a_task(database, "w", "apply", plan_task_id=source.id)
    assert refused.value.code == code


async def test_a_plan_that_changes_nothing_has_nothing_to_apply(database: Database) -> None:
    await given.a_workspace(database)
    source = await given.planned(database, "w", "plan", has_changes=False)
    with pytest.raises(Conflict) as refused:
        await given.a_task(database, "w", "apply", plan_task_id=source.id)
    assert refused.value.code == "no_changes"


async def test_the_dependency_lock_of_the_last_plan_goes_into_the_next_task(database: Database) -> None:
    workspace = await given.a_workspace(database)
    first = await given.running(database, await given.a_task(database, "w", "plan"))
    assert (await bundle(database, first)).lock_hcl is None
    plan = given.a_plan(first)
    locked = SavedPlan(facts=plan.facts, file=plan.file, json=plan.json, lock_hcl=b"provider lock")

    async def save(c: Connection) -> None:
        await plans.save(c, given.KEYS, first.id, first.fence, locked, planned=[])

    await database.tx(save)
    assert (await bundle(database, await given.a_task(database, workspace.id, "plan"))).lock_hcl == b"provider lock"


async def test_a_number_in_a_resource_arrives_as_it_was_written(database: Database) -> None:
    workspace = await given.a_workspace(database, empty=True)
    block: dict[str, Any] = {"mode": "managed", "type": "terraform_data", "name": "x", "by": "ann"}
    body = {"input": {"big": 123456789012345678, "small": 0.1, "text": "1e400", "deep": [None, True]}}
    await database.tx(resources.create, workspace.id, body=body, **block)
    made = await bundle(database, await given.a_task(database, "w", "plan"))
    [data] = [data for data in made.generated.values() if b"terraform_data" in data]
    assert json.loads(data)["resource"]["terraform_data"]["x"]["input"] == body["input"]


async def test_the_audit_has_who_asked_for_what(database: Database) -> None:
    workspace = await given.a_workspace(database)
    asked = NewTask(action="destroy", message="clean up")
    made = await database.tx(creation.create, given.KEYS, "w", asked, by="eve")
    [entry] = await database.tx(audit.page, limit=5, before=None, subject=f"task-{made.id}")
    assert (entry.actor, entry.verb) == ("eve", "task.create")
    assert entry.facts == {"workspace": workspace.id, "action": "destroy"}


async def test_what_is_made_is_what_is_kept(database: Database) -> None:
    await given.a_workspace(database)
    first, second = [await given.a_task(database, "w", targets=("a.b",), message="why") for _ in range(2)]
    plan = await given.a_task(database, "w", "plan")
    assert [each.status for each in (first, second, plan)] == ["queued", "pending", "queued"]
    for task in (first, second, plan):
        assert task == await database.tx(tasks.get, task.id)
