"""The list of workspaces and the overview, as PostgreSQL puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from iac.store import overviews, workspace_lists
from iac.store.database import Database
from iac.store.workspace_lists import Chosen
from tests.browser.scenery import Scenery, furnish


@pytest.fixture
def scenery(database_url: str) -> Scenery:
    return asyncio.run(furnish(database_url))


async def listed(database: Database, sort: Any = "name", **chosen: Any) -> list[str]:
    found = await database.read(workspace_lists.listed, Chosen(**chosen), sort=sort, limit=100, offset=0)
    return [each.name for each in found.page]


async def test_rows_and_counters_agree_under_every_filter(database: Database, scenery: Scenery) -> None:
    for chosen in ({}, {"mode": "agent"}, {"pool": "edge"}, {"tag": "env=prod"}, {"search": "stag"}, {"locked": True}):
        counts = (await database.read(workspace_lists.listed, Chosen(**chosen), sort="name", limit=1, offset=0)).counts
        beyond = await database.read(workspace_lists.listed, Chosen(**chosen), sort="name", limit=1, offset=1000)
        assert (beyond.page, beyond.counts) == ([], counts)
        for condition, number in counts.items():
            assert len(await listed(database, condition=condition, **chosen)) == number
        assert len(await listed(database, **chosen)) == sum(counts.values())


async def test_a_workspace_is_in_one_condition_and_it_is_the_one_that_matters(
    database: Database, scenery: Scenery
) -> None:
    found = await database.read(workspace_lists.listed, Chosen(), sort="name", limit=100, offset=0)
    told = {each.name: (each.condition, each.last and each.last.id) for each in found.page}
    tasks = scenery.tasks
    assert told["payments-prod"] == ("attention", tasks["planned"]), "though a later task waits behind it"
    assert told["ledger-prod"] == ("attention", tasks["lost"])
    assert told["search-prod"] == ("failed", tasks["failed"])
    assert told["checkout-prod"] == ("running", tasks["applying"])
    assert told["edge-staging"] == ("waiting", tasks["queued-0"])


async def test_an_uncertain_state_needs_somebody_even_if_nothing_runs(database: Database, scenery: Scenery) -> None:
    await database.tx(_run, "UPDATE workspace SET state_uncertain = true WHERE name = 'maps-prod'")
    assert "maps-prod" in await listed(database, condition="attention")


@pytest.mark.parametrize(
    ("search", "fits"),
    [
        ("PROD", lambda name: name.endswith("-prod")),
        ("%", lambda _: False),
        ("a_m", lambda _: False),
        ("'; --", lambda _: False),
    ],
)
async def test_a_search_is_for_the_text_itself(
    database: Database, scenery: Scenery, search: str, fits: Callable[[str], bool]
) -> None:
    assert await listed(database, search=search) == sorted(name for name in scenery.workspaces if fits(name))


@pytest.mark.parametrize("sort", ["name", "state", "resources", "changed"])
async def test_every_order_has_its_reverse_and_pages_do_not_overlap(
    database: Database, scenery: Scenery, sort: Any
) -> None:
    forward = await database.read(workspace_lists.listed, Chosen(), sort=sort, limit=100, offset=0)
    first = await database.read(workspace_lists.listed, Chosen(), sort=sort, limit=20, offset=0)
    second = await database.read(workspace_lists.listed, Chosen(), sort=sort, limit=20, offset=20)
    assert [*first.page, *second.page] == forward.page
    assert first.counts == forward.counts
    other: Any = f"-{sort}"
    backward = await database.read(workspace_lists.listed, Chosen(), sort=other, limit=100, offset=0)
    key: Callable[[Any], Any] = {
        "name": lambda each: each.name,
        "state": lambda each: each.condition,
        "resources": lambda each: each.resource_count or 0,
        "changed": lambda each: each.changed_at,
    }[sort]
    assert [key(each) for each in backward.page] == [key(each) for each in forward.page][::-1]


async def test_tags_can_be_chosen_from(database: Database, scenery: Scenery) -> None:
    found = await database.read(workspace_lists.tags)
    assert found == sorted(found)
    assert {"env=prod", "team=maps"} <= set(found)
    assert await listed(database, tag="team=maps") == ["maps-dev", "maps-prod", "maps-staging"]
    assert await listed(database, tag="team") == sorted(scenery.workspaces)


async def test_the_situation_has_what_is_open_and_what_failed_last(database: Database, scenery: Scenery) -> None:
    found = await database.read(overviews.situation)
    tasks = scenery.tasks
    assert {task.id for task in found.open} == set(tasks.values()) - {tasks["failed"]}
    assert tasks["failed"] in {task.id for task in found.failed}
    assert set(found.plans) == {tasks["planned"], tasks["danger"]}
    assert (found.advances[tasks["applying"]].done, found.advances[tasks["applying"]].total) == (5, 12)
    assert found.names["agent-dub-01"] == "dub-01"
    assert [each.name for each in found.newcomers] == ["pod-new"]
    assert sum(each.succeeded + each.failed + each.cancelled for each in found.hours) > 100


async def test_a_failure_is_forgotten_when_its_workspace_was_run_again(database: Database, scenery: Scenery) -> None:
    await database.tx(
        _run,
        """INSERT INTO task (workspace_id, action, phase, status, execution_mode, auto_apply, created_by, bundle_digest,
           bundle, terraform_version) SELECT workspace_id, 'plan', 'plan', 'succeeded', 'local', false, 'x', 'd', '', '1'
           FROM task WHERE status = 'failed'""",
    )
    assert (await database.read(overviews.situation)).failed == []


async def test_each_agent_of_a_pool_is_counted_once(database: Database, scenery: Scenery) -> None:
    pools = {each.name: each for each in await database.read(overviews.pool_glances)}
    counted = {
        name: (each.online, each.draining, each.unapproved, each.offline, each.slots) for name, each in pools.items()
    }
    assert counted == {"cluster": (1, 1, 1, 0, 3), "edge": (0, 0, 0, 0, 0), "eu-west": (2, 0, 0, 1, 6)}
    assert pools["eu-west"].cpu_usage == pytest.approx(0.345)


async def _run(c: asyncpg.Connection, statement: str) -> None:
    await c.run(statement)
