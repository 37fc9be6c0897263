"""Pools in PostgreSQL: their tokens, whom they serve, and what keeps one from being deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from iac.domain.agent_tokens import looks_like
from iac.domain.records import PoolToken
from iac.errors import Conflict, Invalid, NotFound
from iac.store import agents, assignments, pools, registering, workspaces
from iac.store.database import Database
from tests.store import given, pooled


async def test_a_pool_is_found_by_id_and_by_name(database: Database) -> None:
    made = await pooled.a_pool(database, "east", description="the east", require_approval=True)
    assert (made.name_policy, made.apply_exclusivity, made.agents, made.workspaces) == ("unique", "agent", 0, 0)
    assert await database.tx(pools.get, "east") == await database.tx(pools.get, made.id) == made
    with pytest.raises(NotFound):
        await database.tx(pools.get, "west")
    assert await pooled.verbs(database, made.id) == ["pool.create"]


async def test_a_k8s_pool_gives_suffixes_unless_it_is_told_otherwise(database: Database) -> None:
    assert (await pooled.a_pool(database, "a", kind="k8s", name_policy=None)).name_policy == "suffix"
    assert (await pooled.a_pool(database, "b", kind="k8s", name_policy="unique")).name_policy == "unique"


async def test_two_pools_cannot_have_one_name(database: Database) -> None:
    await pooled.a_pool(database, "a")
    other = await pooled.a_pool(database, "b")
    with pytest.raises(Conflict, match="'a'"):
        await pooled.a_pool(database, "a")
    with pytest.raises(Conflict, match="'a'") as refused:
        await database.tx(pools.change, other.id, {"name": "a"}, by="bob")
    assert refused.value.code == "name_in_use"


async def test_a_change_touches_only_what_it_names(database: Database) -> None:
    made = await pooled.a_pool(database, "a", description="d")
    changed = await database.tx(pools.change, "a", {"name": "z", "require_approval": True}, by="bob")
    assert (changed.id, changed.name, changed.require_approval, changed.description) == (made.id, "z", True, "d")
    assert await database.tx(pools.change, "z", {}, by="bob") == changed
    assert await pooled.verbs(database, made.id) == ["pool.change", "pool.create"]
    with pytest.raises(ValueError, match="kind"):
        await database.tx(pools.change, "z", {"kind": "k8s"}, by="bob")


async def test_pages_give_every_pool_once_by_name(database: Database) -> None:
    for name in "cabed":
        await pooled.a_pool(database, name)
    first = await database.tx(pools.page, limit=2, after=None)
    rest = await database.tx(pools.page, limit=9, after=first[-1].id)
    assert [pool.name for pool in (*first, *rest)] == list("abcde")
    with pytest.raises(Invalid):
        await database.tx(pools.page, limit=2, after="pool-0000000000000000")


async def test_a_pool_that_workspaces_point_at_is_not_deleted(database: Database) -> None:
    pool = await pooled.a_pool(database)
    await pooled.a_served_workspace(database)
    assert (await database.tx(pools.get, "p")).workspaces == 1
    with pytest.raises(Conflict) as refused:
        await database.tx(pools.delete, "p", by="ann")
    assert refused.value.code == "pool_in_use"
    await database.tx(workspaces.change, "w", {"execution_mode": "local", "pool_id": None}, by="ann")
    await database.tx(pools.delete, "p", by="ann")
    assert await pooled.verbs(database, pool.id) == ["pool.delete", "pool.allow", "pool.create"]


async def test_a_pool_whose_tasks_are_not_over_is_not_deleted_and_its_old_tasks_outlive_it(database: Database) -> None:
    await pooled.a_pool(database)
    await pooled.a_served_workspace(database)
    task = await given.a_task(database, "w", "plan")
    await database.tx(workspaces.change, "w", {"execution_mode": "local", "pool_id": None}, by="ann")
    with pytest.raises(Conflict) as refused:
        await database.tx(pools.delete, "p", by="ann")
    assert (refused.value.code, refused.value.extras) == ("pool_in_use", {"tasks": 1})
    assert (await given.moved(database, task, given.a_cancel())).pool_id is not None
    await database.tx(pools.delete, "p", by="ann")
    assert await given.scalar(database, "SELECT pool_id FROM task WHERE id = :id", id=task.id) is None


async def test_a_pool_is_deleted_with_its_agents_once_none_is_online(database: Database) -> None:
    await pooled.a_pool(database)
    agent = await pooled.an_agent(database, await pooled.a_token(database))
    await database.tx(registering.connected, agent.agent_id, "boot-of-1")
    with pytest.raises(Conflict) as refused:
        await database.tx(pools.delete, "p", by="ann")
    assert refused.value.code == "agents_online"
    await pooled.silent(database, agent.agent_id, 61)
    await database.tx(pools.delete, "p", by="ann")
    with pytest.raises(NotFound):
        await database.tx(agents.get, agent.agent_id)


async def test_a_pool_serves_a_workspace_only_if_both_say_so(database: Database) -> None:
    pool = await pooled.a_pool(database)
    other = await pooled.a_pool(database, "other")
    workspace = await given.a_workspace(database)

    async def serves() -> bool:
        return await database.tx(pools.may_serve, pool.id, workspace.id)

    assert not await serves()
    allowance = await database.tx(pools.allow, "p", "w", by="ann")
    assert (allowance.workspace_name, allowance.in_use, allowance.allowed_by) == ("w", False, "ann")
    assert not await serves(), "the workspace has not asked for it"
    await database.tx(workspaces.change, "w", {"pool_id": "p"}, by="bob")
    assert await serves()
    assert (await database.tx(pools.allow, "p", "w", by="bob")).in_use
    assert not await database.tx(pools.may_serve, other.id, workspace.id)
    await database.tx(pools.disallow, "p", "w", by="ann")
    await database.tx(pools.disallow, "p", "w", by="ann")
    assert not await serves(), "the pool takes its consent back at once"
    assert await pooled.verbs(database, pool.id) == ["pool.disallow", "pool.allow", "pool.create"]


async def test_the_allowed_workspaces_come_in_pages_by_name(database: Database) -> None:
    await pooled.a_pool(database)
    for name in "cab":
        await given.a_workspace(database, name)
        await database.tx(pools.allow, "p", name, by="ann")
    first = await database.tx(pools.allowed, "p", limit=2, after=None)
    rest = await database.tx(pools.allowed, "p", limit=2, after=first[-1].workspace_id)
    assert [each.workspace_name for each in (*first, *rest)] == ["a", "b", "c"]
    with pytest.raises(Invalid):
        await database.tx(pools.allowed, "p", limit=2, after="ws-0000000000000000")
    with pytest.raises(NotFound):
        await database.tx(pools.allow, "p", "nowhere", by="ann")


@pytest.mark.parametrize("values", [{"execution_mode": "agent"}, {"execution_mode": "agent", "pool_id": "p"}])
async def test_agent_mode_needs_a_pool_that_allows_the_workspace(database: Database, values: dict[str, Any]) -> None:
    await pooled.a_pool(database)
    with pytest.raises(Conflict) as refused:
        await database.tx(workspaces.create, {"name": "new", **values}, by="bob")
    assert refused.value.code == "pool_not_allowed"
    await given.a_workspace(database)
    with pytest.raises(Conflict) as refused:
        await database.tx(workspaces.change, "w", values, by="bob")
    assert refused.value.code == "pool_not_allowed"
    assert (await database.tx(workspaces.get, "w")).execution_mode == "local"


async def test_a_workspace_in_agent_mode_cannot_leave_its_pool_for_one_that_does_not_allow_it(
    database: Database,
) -> None:
    pool = await pooled.a_pool(database)
    await pooled.a_pool(database, "other")
    await pooled.a_served_workspace(database)
    for target in (None, "other"):
        with pytest.raises(Conflict):
            await database.tx(workspaces.change, "w", {"pool_id": target}, by="bob")
    with pytest.raises(Invalid, match="nowhere"):
        await database.tx(workspaces.change, "w", {"pool_id": "nowhere"}, by="bob")
    assert (await database.tx(workspaces.get, "w")).pool_id == pool.id


async def test_a_workspace_whose_pool_took_its_consent_back_can_still_be_changed_otherwise(database: Database) -> None:
    await pooled.a_pool(database)
    await pooled.a_served_workspace(database)
    await database.tx(pools.disallow, "p", "w", by="ann")
    changed = await database.tx(workspaces.change, "w", {"description": "still here"}, by="bob")
    assert changed.description == "still here"


async def test_a_task_keeps_the_pool_that_its_workspace_had(database: Database) -> None:
    pool = await pooled.a_pool(database)
    await pooled.a_served_workspace(database)
    task = await given.a_task(database, "w", "plan")
    assert (task.pool_id, task.execution_mode) == (pool.id, "agent")
    other = await pooled.a_pool(database, "other")
    await database.tx(pools.allow, "other", "w", by="ann")
    await database.tx(workspaces.change, "w", {"pool_id": "other"}, by="bob")
    assert (await given.moved(database, task, given.a_cancel())).pool_id == pool.id
    assert (await given.a_task(database, "w", "plan")).pool_id == other.id


async def test_a_task_of_a_local_workspace_has_no_pool_even_if_the_workspace_points_at_one(database: Database) -> None:
    await pooled.a_pool(database)
    await given.a_workspace(database)
    await database.tx(workspaces.change, "w", {"pool_id": "p"}, by="bob")
    assert (await given.a_task(database, "w", "plan")).pool_id is None


async def test_a_pool_that_is_deleted_while_a_workspace_turns_to_it_leaves_one_story(database: Database) -> None:
    for number in range(6):
        name = f"p{number}"
        await pooled.a_pool(database, name)
        await given.a_workspace(database, f"w{number}", empty=True)
        refused: list[str] = []

        async def attempt(call: Any, *args: Any, refused: list[str] = refused, **more: Any) -> None:
            try:
                await database.tx(call, *args, **more)
            except (Conflict, Invalid) as error:
                refused.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda n=name: attempt(pools.delete, n, by="ann"))  # type: ignore[misc]
            nursery.start_soon(lambda n=name, w=f"w{number}": attempt(workspaces.change, w, {"pool_id": n}, by="bob"))  # type: ignore[misc]
        assert refused in (["invalid"], ["pool_in_use"])


# Tokens


async def a_secret(database: Database, **more: Any) -> tuple[PoolToken, str]:
    return await database.tx(pools.create_token, "p", "token", "ann", **more)


async def test_a_token_opens_its_pool_and_is_kept_only_as_a_hash(database: Database) -> None:
    pool = await pooled.a_pool(database)
    record, token = await a_secret(database)
    assert looks_like("pool", token)
    found = await database.tx(pools.authenticate_pool, token, "10.0.0.9")
    assert found is not None
    assert (found.id, found.pool_id) == (record.id, pool.id)
    listed = await database.tx(pools.tokens, "p")
    assert [(each.id, each.last_ip) for each in listed] == [(record.id, "10.0.0.9")]
    assert token not in repr((record, found, listed))
    kept = "SELECT string_agg(t::text || a.facts::text, '') FROM pool_token t, audit a"
    everything = str(await given.scalar(database, kept))
    assert token not in everything
    assert await pooled.verbs(database, record.id) == ["pool_token.create"]


async def test_the_use_of_a_token_is_noted_at_most_once_a_minute(database: Database) -> None:
    await pooled.a_pool(database)
    record, token = await a_secret(database)
    for ip in ("10.0.0.1", "10.0.0.2"):
        await database.tx(pools.authenticate_pool, token, ip)
    assert (await database.tx(pools.tokens, "p"))[0].last_ip == "10.0.0.1"
    age = "UPDATE pool_token SET last_used_at = now() - interval '61 seconds' WHERE id = :id"
    await pooled.execute(database, age, id=record.id)
    await database.tx(pools.authenticate_pool, token, "10.0.0.3")
    assert (await database.tx(pools.tokens, "p"))[0].last_ip == "10.0.0.3"


async def test_a_token_that_is_unknown_mistyped_or_expired_opens_nothing(database: Database) -> None:
    await pooled.a_pool(database)
    _, token = await a_secret(database, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    _, good = await a_secret(database)
    for bad in (token, good[:-1] + "~", good.replace("iacp_", "iacs_"), "", "é"):
        assert await database.tx(pools.authenticate_pool, bad, None) is None
    assert await database.tx(pools.authenticate_pool, good, None) is not None


@pytest.mark.parametrize("mode", ["soft", "hard"])
async def test_a_revoked_token_registers_nobody(database: Database, mode: Any) -> None:
    await pooled.a_pool(database)
    record, token = await a_secret(database)
    await database.tx(pools.revoke_token, "p", record.id, mode=mode, by="ann")
    await database.tx(pools.revoke_token, "p", record.id, mode=mode, by="ann")
    assert await database.tx(pools.authenticate_pool, token, None) is None
    shown = (await database.tx(pools.tokens, "p"))[0]
    assert (shown.revoke_mode, shown.revoked_at is not None) == (mode, True)
    assert await pooled.verbs(database, record.id) == ["pool_token.revoke", "pool_token.create"]


async def test_a_soft_revocation_can_become_hard_and_a_hard_one_stays(database: Database) -> None:
    await pooled.a_pool(database)
    record, _ = await a_secret(database)
    for mode, becomes in (("soft", "soft"), ("hard", "hard"), ("soft", "hard")):
        await database.tx(pools.revoke_token, "p", record.id, mode=mode, by="ann")  # type: ignore[arg-type]
        assert (await database.tx(pools.tokens, "p"))[0].revoke_mode == becomes


async def test_a_token_is_only_found_in_its_own_pool(database: Database) -> None:
    await pooled.a_pool(database)
    await pooled.a_pool(database, "other")
    record, token = await a_secret(database)
    with pytest.raises(NotFound):
        await database.tx(pools.revoke_token, "other", record.id, mode="hard", by="ann")
    with pytest.raises(NotFound):
        await database.tx(pools.rotate_token, "other", record.id, by="ann", overlap=timedelta(0))
    assert await database.tx(pools.authenticate_pool, token, None) is not None


async def test_a_soft_revocation_lets_agents_finish_and_a_hard_one_ends_their_sessions(database: Database) -> None:
    await pooled.a_pool(database)
    await pooled.a_served_workspace(database)
    record, _ = await a_secret(database)
    agent = await pooled.an_agent(database, record)
    held, token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), agent.agent_id)
    await database.tx(assignments.note_read, held.fence, boot_id="b", ip=None)

    await database.tx(pools.revoke_token, "p", record.id, mode="soft", by="ann")
    known = await database.tx(registering.authenticate_session, agent.session_token)
    assert known is not None
    assert (known.token_revoked, known.takes_tasks) == ("soft", False)
    found = await database.tx(assignments.by_token, token)
    assert found is not None
    assert found.scope == "full"

    await database.tx(pools.revoke_token, "p", record.id, mode="hard", by="ann")
    assert await database.tx(registering.authenticate_session, agent.session_token) is None
    found = await database.tx(assignments.by_token, token)
    assert found is not None
    assert found.scope == "quarantine"


async def test_a_rotated_token_goes_on_for_the_overlap_and_names_its_successor(database: Database) -> None:
    await pooled.a_pool(database)
    old, old_token = await a_secret(database)
    new, new_token = await database.tx(pools.rotate_token, "p", old.id, by="ann", overlap=timedelta(hours=1))
    assert (new.name, new.expires_at) == (old.name, None)
    for token in (old_token, new_token):
        assert await database.tx(pools.authenticate_pool, token, None) is not None
    shown = (await database.tx(pools.tokens, "p"))[0]
    assert shown.replaced_by == new.id
    assert shown.expires_at is not None
    assert timedelta(minutes=59) < shown.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    with pytest.raises(Conflict) as refused:
        await database.tx(pools.rotate_token, "p", old.id, by="ann", overlap=timedelta(hours=9))
    assert (refused.value.code, refused.value.extras) == ("token_replaced", {"replaced_by": new.id})
    assert await pooled.verbs(database, old.id) == ["pool_token.rotate", "pool_token.create"]


async def test_a_rotation_without_overlap_ends_the_old_token_at_once(database: Database) -> None:
    await pooled.a_pool(database)
    old, token = await a_secret(database)
    await database.tx(pools.rotate_token, "p", old.id, by="ann", overlap=timedelta(0))
    assert await database.tx(pools.authenticate_pool, token, None) is None


async def test_a_rotation_never_makes_a_token_live_longer_than_it_was_made_for(database: Database) -> None:
    await pooled.a_pool(database)
    until = datetime.now(UTC) + timedelta(minutes=30)
    old, _ = await a_secret(database, expires_at=until)
    new, _ = await database.tx(pools.rotate_token, "p", old.id, by="ann", overlap=timedelta(hours=1))
    assert new.expires_at is not None
    assert timedelta(minutes=29) < new.expires_at - datetime.now(UTC) <= timedelta(minutes=30)
    assert (await database.tx(pools.tokens, "p"))[0].expires_at == until
    chosen, _ = await database.tx(
        pools.rotate_token, "p", new.id, by="ann", overlap=timedelta(0), lifetime=timedelta(days=1)
    )
    assert chosen.expires_at is not None
    assert chosen.expires_at - chosen.created_at == timedelta(days=1)


async def test_a_revoked_token_is_not_rotated(database: Database) -> None:
    await pooled.a_pool(database)
    old, _ = await a_secret(database)
    await database.tx(pools.revoke_token, "p", old.id, mode="soft", by="ann")
    with pytest.raises(Conflict) as refused:
        await database.tx(pools.rotate_token, "p", old.id, by="ann", overlap=timedelta(0))
    assert refused.value.code == "token_revoked"


async def test_demand_counts_what_waits_and_runs_and_the_slots_of_agents_that_take_tasks(database: Database) -> None:
    await pooled.a_pool(database)
    await pooled.a_served_workspace(database)
    token = await pooled.a_token(database)
    empty = await database.tx(pools.demand, "p")
    assert (empty.waiting_plans, empty.oldest_waiting_since, empty.plan_slots) == (0, None, 0)
    made = [await pooled.an_agent(database, token, f"a{n}", n, plan_limit=4) for n in range(4)]
    for agent in made[:3]:
        await database.tx(registering.connected, agent.agent_id, "boot-of-it")
    await database.tx(agents.set_draining, made[0].agent_id, True, by="ann")
    await pooled.silent(database, made[1].agent_id, 61)
    running = await given.a_task(database, "w", "plan")
    await pooled.handed_out(database, running, made[2].agent_id)
    waiting = await given.a_task(database, "w", "plan")
    found = await database.tx(pools.demand, "p")
    assert (found.waiting_plans, found.waiting_applies, found.oldest_waiting_since) == (1, 0, waiting.queued_at)
    assert (found.running_plans, found.running_applies) == (1, 0)
    assert (found.agents_online, found.plan_slots) == (1, 4), "draining, silent and never connected ones do not count"
