"""Agents in PostgreSQL: one agent for each instance, sessions that end when they should, and who is there."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from msgspec.structs import replace

from iac.domain.agent_tokens import looks_like
from iac.domain.messages import Heartbeat
from iac.domain.records import PoolToken
from iac.errors import Conflict, Forbidden, Invalid, NotFound
from iac.store import agents, assignments, pools, registering
from iac.store.database import Database
from tests.store import given, pooled

BEAT = Heartbeat(
    agent_id="x", status="idle", plan_running=0, plan_limit=5, apply_running=False, current_tasks=(), cpu_usage=0.25,
    mem_usage=0.5, disk_free=10**12,
)  # fmt: skip


@pytest.fixture
async def token(database: Database) -> PoolToken:
    """Of the pool `p`."""
    await pooled.a_pool(database)
    return await pooled.a_token(database)


async def an_approval_token(database: Database) -> PoolToken:
    """Of a pool that approves its agents."""
    await pooled.a_pool(database, "strict", require_approval=True)
    return await pooled.a_token(database, "strict")


async def known(database: Database, session: str) -> str | None:
    """Whose session it is."""
    found = await database.tx(registering.authenticate_session, session)
    return None if found is None else found.id


async def test_a_first_register_makes_an_agent_with_a_secret_and_a_session(
    database: Database, token: PoolToken
) -> None:
    made = await pooled.an_agent(database, token, os="linux", arch="amd64", version="1.2", capabilities=("tofu",))
    assert made.instance_secret is not None
    assert looks_like("instance", made.instance_secret)
    assert looks_like("session", made.session_token)
    assert (made.name, made.pool_id, made.approved, made.session_expires_in_s) == ("web", token.pool_id, True, 3600)
    agent = await database.tx(agents.get, made.agent_id)
    assert (agent.os, agent.arch, agent.version, agent.capabilities) == ("linux", "amd64", "1.2", ("tofu",))
    assert (agent.ip, agent.pool_token_id, agent.pool_name) == ("10.0.0.1", token.id, "p")
    assert (agent.online, agent.last_seen_at, agent.conn_epoch) == (False, None, 0)
    assert await known(database, made.session_token) == made.agent_id


async def test_the_same_instance_is_the_same_agent_after_a_restart(database: Database, token: PoolToken) -> None:
    first = await pooled.an_agent(database, token)
    await database.tx(registering.connected, first.agent_id, "boot-of-1")
    again = await pooled.an_agent(
        database, token, boot_id="boot-after", instance_secret=first.instance_secret, plan_limit=9, version="2"
    )
    assert (again.agent_id, again.name, again.instance_secret) == (first.agent_id, "web", None)
    agent = await database.tx(agents.get, first.agent_id)
    assert (agent.plan_limit, agent.version) == (9, "2")
    assert await known(database, again.session_token) == first.agent_id


async def test_an_instance_without_its_secret_is_refused_and_nothing_changes(
    database: Database, token: PoolToken
) -> None:
    first = await pooled.an_agent(database, token)
    await database.tx(registering.connected, first.agent_id, "boot-of-1")
    for shown in (None, "iaci_wrong"):
        with pytest.raises(Forbidden) as refused:
            await pooled.an_agent(database, token, instance_secret=shown, version="evil")
        assert refused.value.code == "instance_mismatch"
    assert (await database.tx(agents.get, first.agent_id)).version == ""
    assert await known(database, first.session_token) == first.agent_id


async def test_a_register_whose_answer_was_lost_can_be_repeated(database: Database, token: PoolToken) -> None:
    first = await pooled.an_agent(database, token)
    again = await pooled.an_agent(database, token)
    assert again.agent_id == first.agent_id
    assert again.instance_secret not in (None, first.instance_secret)
    proven = await pooled.an_agent(database, token, instance_secret=again.instance_secret)
    assert (proven.agent_id, proven.instance_secret) == (first.agent_id, None)


async def test_a_pool_that_is_named_must_be_the_tokens_own(database: Database, token: PoolToken) -> None:
    other = await pooled.a_pool(database, "other")
    for named in ("other", other.id, "nowhere"):
        with pytest.raises(Forbidden) as refused:
            await pooled.an_agent(database, token, pool_id=named)
        assert refused.value.code == "pool_mismatch"
    for number, own in enumerate(("p", token.pool_id, "", None)):
        assert (await pooled.an_agent(database, token, f"a{number}", number, pool_id=own)).pool_id == token.pool_id


@pytest.mark.parametrize("name", ["a\nb", " a", "é", "agent-0123456789abcdef", "a/b", "x" * 91])
async def test_a_name_that_could_be_mistaken_is_refused(database: Database, token: PoolToken, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        await pooled.an_agent(database, token, name)
    assert refused.value.extras["path"] == "$.name"


async def test_a_second_instance_of_the_same_name_waits_while_the_first_is_heard(
    database: Database, token: PoolToken
) -> None:
    first = await pooled.an_agent(database, token, number=1)
    with pytest.raises(Conflict) as refused:
        await pooled.an_agent(database, token, number=2)
    assert refused.value.code == "name_in_use"
    await database.tx(registering.connected, first.agent_id, "boot-of-1")
    await pooled.silent(database, first.agent_id, 59)
    with pytest.raises(Conflict):
        await pooled.an_agent(database, token, number=2)
    await pooled.silent(database, first.agent_id, 61)
    second = await pooled.an_agent(database, token, number=2)
    assert second.agent_id != first.agent_id
    assert (await database.tx(agents.get, first.agent_id)).retired_at is not None
    assert await known(database, first.session_token) is None
    assert await pooled.verbs(database, first.agent_id) == ["agent.takeover", "agent.register"]


async def test_an_agent_whose_name_was_taken_over_comes_back_as_a_newcomer(
    database: Database, token: PoolToken
) -> None:
    first = await pooled.an_agent(database, token, number=1)
    await pooled.silent(database, first.agent_id, 61)
    second = await pooled.an_agent(database, token, number=2)
    with pytest.raises(Conflict):
        await pooled.an_agent(database, token, number=1, instance_secret=first.instance_secret)
    await pooled.silent(database, second.agent_id, 61)
    back = await pooled.an_agent(database, token, number=1, instance_secret=first.instance_secret)
    assert back.agent_id not in (first.agent_id, second.agent_id)
    assert back.instance_secret is not None


async def test_pods_that_share_a_name_get_suffixes_that_stay_theirs(database: Database) -> None:
    await pooled.a_pool(database, "pods", kind="k8s", name_policy="suffix")
    token = await pooled.a_token(database, "pods")
    made = [await pooled.an_agent(database, token, number=number) for number in range(5)]
    assert len({each.name for each in made}) == 5
    assert all(each.name.startswith("web-") and len(each.name) == 9 for each in made)
    again = await pooled.an_agent(database, token, number=3, instance_secret=made[3].instance_secret)
    assert again.name == made[3].name


async def test_of_many_registers_at_once_one_gets_the_name(database: Database, token: PoolToken) -> None:
    found: Counter[str] = Counter()

    async def one(number: int) -> None:
        try:
            await pooled.an_agent(database, token, number=number)
        except Conflict as error:
            found[error.code] += 1
        else:
            found["ok"] += 1

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number)
    assert found == {"ok": 1, "name_in_use": 9}


async def test_of_many_registers_of_one_instance_at_once_all_are_one_agent(
    database: Database, token: PoolToken
) -> None:
    ids: set[str] = set()

    async def one() -> None:
        ids.add((await pooled.an_agent(database, token)).agent_id)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert len(ids) == 1
    assert await given.scalar(database, "SELECT count(*) FROM agent") == 1


# Sessions


async def test_an_old_session_goes_on_for_two_minutes_and_not_longer(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    new = await database.tx(registering.new_session, made.agent_id, "boot-of-1")
    for session in (made.session_token, new.session_token):
        assert await known(database, session) == made.agent_id
    left = "SELECT extract(epoch FROM min(expires_at) - now())::int FROM agent_session WHERE agent_id = :id"
    assert 100 < await given.scalar(database, left, id=made.agent_id) <= 120
    sooner = "UPDATE agent_session SET expires_at = now() + interval '9 s' WHERE expires_at < now() + interval '5 min'"
    await pooled.execute(database, sooner)
    await database.tx(registering.new_session, made.agent_id, "boot-of-1")
    assert await given.scalar(database, left, id=made.agent_id) <= 9, "renewing again gives the old one no more time"


async def test_a_session_ends_with_its_time(database: Database, token: PoolToken) -> None:
    made = await database.tx(registering.register, pooled.a_register(), token, None, session_s=0)
    assert await known(database, made.session_token) is None
    await database.tx(registering.new_session, made.agent_id, "boot-of-1")
    assert await given.scalar(database, "SELECT count(*) FROM agent_session") == 1, "those that are over are swept"


async def test_what_is_no_session_of_anybody_is_nobody(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    for text in ("", "é", made.session_token[:-1], made.session_token + "x", str(made.instance_secret)):
        assert await known(database, text) is None


async def test_a_copied_identity_does_not_end_the_sessions_of_the_first_until_it_is_let_in(
    database: Database, token: PoolToken
) -> None:
    first = await pooled.an_agent(database, token)
    await database.tx(registering.connected, first.agent_id, "boot-of-1")
    copy = await pooled.an_agent(database, token, boot_id="boot-of-copy", instance_secret=first.instance_secret)
    left = """SELECT extract(epoch FROM expires_at - now())::int FROM agent_session
              WHERE agent_id = :id AND boot_id = 'boot-of-1'"""
    assert await given.scalar(database, left, id=first.agent_id) > 3000
    assert (await database.tx(agents.get, first.agent_id)).boot_id == "boot-of-1"
    await database.tx(registering.connected, copy.agent_id, "boot-of-copy")
    assert await given.scalar(database, left, id=first.agent_id) <= 120
    assert (await database.tx(agents.get, first.agent_id)).boot_id == "boot-of-copy"


async def test_an_instance_proves_itself_with_its_secret_in_its_own_pool_only(
    database: Database, token: PoolToken
) -> None:
    made = await pooled.an_agent(database, token)
    other = await pooled.a_pool(database, "other")
    secret = str(made.instance_secret)
    found = await database.tx(registering.authenticate_instance, made.agent_id, token.pool_id, secret)
    assert found is not None
    assert found.id == made.agent_id
    for agent_id, pool_id, shown in (
        (made.agent_id, other.id, secret),
        ("agent-0000000000000000", token.pool_id, secret),
        (made.agent_id, token.pool_id, made.session_token),
    ):
        assert await database.tx(registering.authenticate_instance, agent_id, pool_id, shown) is None


# Approval


async def test_an_agent_that_waits_for_its_approval_cannot_do_anything(database: Database) -> None:
    token = await an_approval_token(database)
    made = await pooled.an_agent(database, token)
    assert not made.approved
    assert await known(database, made.session_token) is None
    approved = await database.tx(agents.approve, made.agent_id, by="ann")
    assert approved.approved
    await database.tx(agents.approve, made.agent_id, by="ann")
    assert await known(database, made.session_token) == made.agent_id
    assert await pooled.verbs(database, made.agent_id) == ["agent.approve", "agent.register"]
    again = await pooled.an_agent(database, token, instance_secret=made.instance_secret)
    assert again.approved, "a restart needs no new approval"


async def test_an_approval_is_not_inherited_by_whoever_has_no_secret(database: Database) -> None:
    token = await an_approval_token(database)
    made = await pooled.an_agent(database, token)
    await database.tx(agents.approve, made.agent_id, by="ann")
    again = await pooled.an_agent(database, token)
    assert (again.agent_id, again.approved) == (made.agent_id, False)
    assert await known(database, made.session_token) is None


async def test_a_newcomer_does_not_push_an_approved_agent_out(database: Database) -> None:
    token = await an_approval_token(database)
    made = await pooled.an_agent(database, token)
    await database.tx(agents.approve, made.agent_id, by="ann")
    await pooled.silent(database, made.agent_id, 10_000)
    with pytest.raises(Conflict):
        await pooled.an_agent(database, token, number=2)
    assert await known(database, made.session_token) == made.agent_id


# What is known of an agent


async def test_whether_an_agent_is_online_follows_from_when_it_was_heard(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    await database.tx(agents.seen, {made.agent_id: BEAT})
    agent = await database.tx(agents.get, made.agent_id)
    assert (agent.online, agent.cpu_usage, agent.mem_usage, agent.disk_free) == (True, 0.25, 0.5, 10**12)
    assert agent.plan_limit == 5
    for silent, online in ((59, True), (61, False)):
        await pooled.silent(database, made.agent_id, silent)
        assert (await database.tx(agents.get, made.agent_id)).online is online
    assert (await database.tx(pools.get, "p")).agents_online == 0


async def test_figures_that_make_no_sense_are_cut_to_what_does(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    await database.tx(agents.seen, {made.agent_id: replace(BEAT, disk_free=2**70, plan_limit=-4)})
    agent = await database.tx(agents.get, made.agent_id)
    assert (agent.disk_free, agent.plan_limit) == (2**63 - 1, 1)


async def test_each_connection_has_a_higher_epoch(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    epochs = [await database.tx(registering.connected, made.agent_id, "boot-of-1") for _ in range(3)]
    assert epochs == [1, 2, 3]
    with pytest.raises(NotFound):
        await database.tx(registering.connected, "agent-0000000000000000", "boot")


async def test_draining_is_an_admins_wish_that_a_heartbeat_does_not_undo(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    drained = await database.tx(agents.set_draining, made.agent_id, True, by="ann", reason="new kernel")
    assert (drained.draining, drained.takes_tasks) == (True, False)
    await database.tx(agents.seen, {made.agent_id: BEAT})
    await database.tx(agents.set_draining, made.agent_id, True, by="ann")
    assert (await database.tx(agents.get, made.agent_id)).draining
    assert (await database.tx(agents.set_draining, made.agent_id, False, by="bob")).takes_tasks
    trail = await pooled.trail(database, made.agent_id)
    assert [(entry.verb, entry.actor) for entry in trail[:2]] == [("agent.undrain", "bob"), ("agent.drain", "ann")]
    assert trail[1].facts == {"reason": "new kernel"}


async def test_pages_of_agents_go_by_name_and_leave_out_the_retired(database: Database, token: PoolToken) -> None:
    await pooled.a_pool(database, "other")
    other = await pooled.a_token(database, "other")
    for number, name in enumerate("dbac"):
        await pooled.an_agent(database, other if name == "c" else token, name, number)
    gone = await pooled.an_agent(database, token, "e", 9)
    await database.tx(agents.retire, gone.agent_id, force=False, by="ann")
    first = await database.tx(agents.page_all, limit=3, after=None)
    rest = await database.tx(agents.page_all, limit=3, after=first[-1].id)
    assert [agent.name for agent in (*first, *rest)] == ["a", "b", "c", "d"]
    assert [agent.name for agent in await database.tx(agents.page_of_pool, "p", limit=9, after=None)] == ["a", "b", "d"]
    with pytest.raises(Invalid):
        await database.tx(agents.page_all, limit=3, after="agent-0000000000000000")


# The end of an agent


async def test_a_retired_agent_is_nobody_and_its_name_is_free(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    await database.tx(agents.retire, made.agent_id, force=False, by="ann")
    await database.tx(agents.retire, made.agent_id, force=False, by="ann")
    assert await known(database, made.session_token) is None
    secret = str(made.instance_secret)
    assert await database.tx(registering.authenticate_instance, made.agent_id, token.pool_id, secret) is None
    with pytest.raises(NotFound):
        await database.tx(agents.approve, made.agent_id, by="ann")
    with pytest.raises(NotFound):
        await database.tx(registering.new_session, made.agent_id, "boot-of-1")
    assert await pooled.verbs(database, made.agent_id) == ["agent.delete", "agent.register"]
    assert (await pooled.an_agent(database, token, number=2)).name == "web"


async def test_an_agent_with_tasks_is_retired_only_by_force_and_what_they_send_is_kept_apart(
    database: Database, token: PoolToken
) -> None:
    await pooled.a_served_workspace(database)
    made = await pooled.an_agent(database, token)
    held, task_token = await pooled.handed_out(database, await given.a_task(database, "w", "plan"), made.agent_id)
    await database.tx(assignments.note_read, held.fence, boot_id="b", ip=None)
    with pytest.raises(Conflict) as refused:
        await database.tx(agents.retire, made.agent_id, force=False, by="ann")
    assert (refused.value.code, refused.value.extras) == ("agent_busy", {"tasks": [held.id]})
    assert await known(database, made.session_token) == made.agent_id
    await database.tx(agents.retire, made.agent_id, force=True, by="ann")
    assert await known(database, made.session_token) is None
    found = await database.tx(assignments.by_token, task_token)
    assert found is not None
    assert found.scope == "quarantine"


async def test_no_secret_is_in_what_is_stored_shown_or_audited(database: Database, token: PoolToken) -> None:
    made = await pooled.an_agent(database, token)
    everything = await given.scalar(
        database,
        """SELECT (SELECT string_agg(a::text, '') FROM agent a) || (SELECT string_agg(s::text, '') FROM agent_session s)
                  || (SELECT string_agg(facts::text, '') FROM audit)""",
    )
    shown = repr((made, pooled.a_register(instance_secret="iaci_x"), await database.tx(agents.get, made.agent_id)))
    for secret in (made.session_token, str(made.instance_secret), "iaci_x"):
        assert secret not in everything
        assert secret not in shown
