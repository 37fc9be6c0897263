"""The accessor of an agent against a real HTTP server."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from quart import Response

from iac.domain.work import LogDigest, PlanFacts, ResourceProgress, Result, RunTask, SavedPlan, StatePush
from iac.errors import (
    AlreadyFinal,
    BadRequest,
    Conflict,
    Fenced,
    Forbidden,
    Gone,
    IacError,
    IllegalTransition,
    LogRefused,
    NotFound,
    PlanStale,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UpgradeRequired,
)
from iac.executor.accessor_remote import Listeners, RemoteDataAccessor
from iac.executor.proxying import proxy_for
from iac.executor.remote_client import AgentClient, error_of, open_client
from iac.web.errors import error_body
from tests.fakes.agent_api import serving
from tests.fakes.agent_platform import AgentApi, Assignment, new_token
from tests.fakes.connect_proxy import a_proxy
from tests.web.hostile import make_certificate

JSON = "application/json"


@asynccontextmanager
async def a_client(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[AgentClient]:
    async with open_client(url, tls=tls or ssl.create_default_context(), proxy=None) as client:
        yield client


class Heard:
    """What the accessor says to its agent."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.intervals: list[float] = []
        self.reported: list[str] = []
        self.may_start = True

    @property
    def listeners(self) -> Listeners:
        return Listeners(
            may_start=lambda order: self.may_start,
            task_status=lambda order, status: self.statuses.append(status),
            log_interval=lambda order, seconds: self.intervals.append(seconds),
            reported=lambda order, result: self.reported.append(result.result_id),
        )


def order_of(made: Assignment) -> RunTask:
    told = made.order
    return RunTask(
        task_id=told.task_id,
        workspace_id=told.workspace_id,
        action=told.action,
        assignment_id=told.assignment_id,
        fence=told.fence,
        attempt=told.attempt,
    )


@asynccontextmanager
async def an_accessor(
    api: AgentApi, made: Assignment, heard: Heard | None = None
) -> AsyncIterator[tuple[RemoteDataAccessor, RunTask]]:
    async with a_client(api.url) as client:
        listeners = (heard or Heard()).listeners
        yield (
            RemoteDataAccessor(client, lambda order: made.order.task_token, boot_id="b-1", listeners=listeners),
            order_of(made),
        )


def refusal(code: str, status: int, *, retryable: bool = False, **extras: object) -> Response:
    body = error_body(code, f"it is {code}", retryable=retryable, extras=extras)
    return Response(body, status=status, content_type=JSON)


async def test_the_data_is_claimed_with_the_tasks_own_token() -> None:
    async with serving() as api:
        made = api.offer()
        async with an_accessor(api, made) as (accessor, order):
            data = await accessor.get_task_data(order)
        assert data.order == order
        assert data.bundle == made.data.bundle
        assert (made.claims, made.boot_id, made.status) == (1, "b-1", "running")


async def test_data_that_comes_after_the_lease_starts_nothing() -> None:
    heard = Heard()
    heard.may_start = False
    async with serving() as api:
        made = api.offer()
        async with an_accessor(api, made, heard) as (accessor, order):
            with pytest.raises(Fenced, match="lease"):
                await accessor.get_task_data(order)


async def test_an_assignment_that_is_not_held_any_more_asks_for_nothing() -> None:
    async with serving() as api, a_client(api.url) as client:
        accessor = RemoteDataAccessor(client, lambda order: None)
        with pytest.raises(Fenced):
            await accessor.get_task_data(order_of(api.offer()))
        assert api.requests == []


@pytest.mark.parametrize("size", [0, 10, 200_000])
async def test_log_bytes_arrive_whole_and_repeating_them_is_harmless(size: int) -> None:
    data = os.urandom(size)
    async with serving() as api:
        made = api.offer()
        async with an_accessor(api, made) as (accessor, order):
            assert await accessor.save_task_log(order, 0, data) == size
            assert await accessor.save_task_log(order, 0, data) == size
            assert await accessor.save_task_log(order, size, b"more") == size + 4
        assert made.log == data + b"more"


async def test_a_chunk_is_one_gzip_member_that_does_not_depend_on_the_time() -> None:
    async with serving() as api:
        made = api.offer()
        async with an_accessor(api, made) as (accessor, order):
            await accessor.save_task_log(order, 0, b"hello\n")
        body = made.chunks[0]
        assert base64.b64decode(body.data) == gzip.compress(b"hello\n", 1, mtime=0)
        assert (body.checksum, body.length) == (hashlib.sha256(b"hello\n").hexdigest(), 6)


async def test_bytes_that_were_hurt_on_the_way_are_sent_once_more() -> None:
    async with serving() as api:
        made = api.offer()
        api.fail("POST", "/logs/chunk", lambda: refusal("checksum_mismatch", 400, next_offset=0))
        async with an_accessor(api, made) as (accessor, order):
            assert await accessor.save_task_log(order, 0, b"x") == 1
            api.fail("POST", "/logs/chunk", lambda: refusal("checksum_mismatch", 400), times=2)
            with pytest.raises(BadRequest):
                await accessor.save_task_log(order, 1, b"y")


async def test_plan_state_notes_and_result_arrive() -> None:
    heard = Heard()
    facts = PlanFacts(
        digest="d",
        bundle_digest="b",
        serial=1,
        lineage="l",
        terraform_version="1.11.4",
        has_changes=True,
        summary={"add": 1},
    )
    plan = SavedPlan(facts=facts, file=b"\x00plan" * 30_000, json=b"{}", lock_hcl=b"lock")
    progress = ResourceProgress(address="a.b", action="create", status="started", elapsed_s=1.5)
    state = b'{"version":4,"serial":7,"lineage":"l"}'
    push = StatePush(data=state, sha256=hashlib.sha256(state).hexdigest(), partial=True)
    log = LogDigest(length=3, sha256="0" * 64, truncated_bytes=1)
    result = Result(
        result_id="r-1",
        status="succeeded",
        outcome="applied",
        exit_code=0,
        reason="r",
        detail="d",
        state_safe=False,
        log=log,
    )
    async with serving() as api:
        made = api.offer("apply")
        async with an_accessor(api, made, heard) as (accessor, order):
            await accessor.note_stage(order, "init")
            await accessor.note_progress(order, [progress])
            await accessor.save_plan(order, plan, [progress])
            receipt = await accessor.save_state_version(order, push)
            await accessor.update_task(order, result)
        assert made.stages == ["init"]
        assert made.notes[1].progress == (progress,)
        assert made.plan is not None
        assert (made.plan.file, made.plan.facts, made.plan.lock_hcl) == (plan.file, facts, b"lock")
        assert made.plan.sha256 == hashlib.sha256(plan.file).hexdigest()
        assert made.plan.planned == (progress,)
        assert made.states == [state]
        assert (receipt.verdict, receipt.serial) == ("current", 7)
        assert made.result is not None
        for name in ("result_id", "status", "outcome", "exit_code", "reason", "detail", "state_safe", "log"):
            assert getattr(made.result, name) == getattr(result, name)
        assert heard.reported == ["r-1"]


async def test_a_result_is_not_held_up_by_its_log() -> None:
    heard = Heard()
    result = Result(result_id="r", status="planned", log=LogDigest(length=3, sha256="0" * 64))
    async with serving() as api:
        mismatched, incomplete = api.offer(), api.offer()
        api.fail("PUT", "/status", lambda: refusal("log_mismatch", 409))
        async with an_accessor(api, mismatched, heard) as (accessor, order):
            await accessor.update_task(order, result)
        assert mismatched.result is not None
        assert mismatched.result.log == result.log
        api.fail("PUT", "/status", lambda: refusal("log_incomplete", 409, next_offset=1))
        async with an_accessor(api, incomplete, heard) as (accessor, order):
            await accessor.update_task(order, result)
        assert incomplete.result is not None
        assert incomplete.result.log is not None
        assert incomplete.result.log.state == "pending"
        assert heard.reported == ["r", "r"]


async def test_what_the_server_says_beside_its_answer_is_heard() -> None:
    heard = Heard()
    async with serving() as api:
        made = api.offer()
        api.headers = {"X-IAC-Task-Status": "cancelling", "X-IAC-Log-Interval-S": "2"}
        async with an_accessor(api, made, heard) as (accessor, order):
            await accessor.note_stage(order, "init")
            api.headers = {"X-IAC-Log-Interval-S": "0.001"}
            await accessor.note_stage(order, "init")
            api.headers = {"X-IAC-Log-Interval-S": "soon"}
            await accessor.note_stage(order, "init")
    assert heard.statuses == ["cancelling"]
    assert heard.intervals == [2.0, 1.0]


async def test_a_refused_token_is_asked_for_again_once() -> None:
    async with serving() as api, a_client(api.url) as client:
        made = api.offer()
        tokens = [new_token("task"), made.order.task_token]
        accessor = RemoteDataAccessor(client, lambda order: tokens.pop(0) if len(tokens) > 1 else tokens[0])
        assert (await accessor.get_task_data(order_of(made))).order.fence == made.order.fence
        with pytest.raises(Unauthenticated):
            await RemoteDataAccessor(client, lambda order: "iact_x").get_task_data(order_of(made))


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("fenced", 409, Fenced),
        ("data_expired", 410, Gone),
        ("already_final", 409, AlreadyFinal),
        ("illegal_transition", 409, IllegalTransition),
        ("not_claimable", 409, IllegalTransition),
        ("plan_stale", 409, PlanStale),
        ("log_gap", 409, LogRefused),
        ("log_conflict", 409, LogRefused),
        ("log_closed", 409, LogRefused),
        ("something_new", 409, Conflict),
        ("chunk_too_large", 413, TooLarge),
        ("revoked", 403, Forbidden),
        ("not_found", 404, NotFound),
        ("upgrade_required", 426, UpgradeRequired),
        ("rate_limited", 429, Unavailable),
        ("internal", 500, Unavailable),
        ("db_unavailable", 503, Unavailable),
        ("storage_full", 507, StorageFull),
    ],
)
async def test_an_error_is_the_one_that_the_platform_raised(code: str, status: int, expected: type[IacError]) -> None:
    async with serving() as api:
        made = api.offer()
        api.fail("GET", "/data", lambda: refusal(code, status, next_offset=5))
        async with an_accessor(api, made) as (accessor, order):
            with pytest.raises(IacError) as caught:
                await accessor.get_task_data(order)
    assert type(caught.value) is expected
    assert caught.value.code == code
    assert caught.value.extras["next_offset"] == 5


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response("<html>login</html>", status=200, content_type="text/html"),
        lambda: Response("<html>login</html>", status=403, content_type="text/html"),
        lambda: Response("", status=401),
        lambda: Response("", status=200),
        lambda: Response("[]", status=200, content_type=JSON),
        lambda: Response('{"error": "no"}', status=404, content_type=JSON),
        lambda: Response("", status=302, headers={"Location": "https://elsewhere.example"}),
        lambda: Response(b"\xff\xfe", status=502, content_type=JSON),
    ],
)
async def test_an_answer_that_is_not_the_platforms_may_pass_by_itself(answer: object) -> None:
    async with serving() as api:
        made = api.offer()
        api.fail("PUT", "/status", answer)  # type: ignore[arg-type]
        async with an_accessor(api, made) as (accessor, order):
            with pytest.raises(Unavailable):
                await accessor.note_stage(order, "init")


async def test_a_page_instead_of_an_empty_answer_is_no_success() -> None:
    facts = PlanFacts(
        digest="d", bundle_digest="b", serial=None, lineage=None, terraform_version="1", has_changes=True, summary={}
    )
    plan = SavedPlan(facts=facts, file=b"f", json=b"{}", lock_hcl=None)
    async with serving() as api:
        made = api.offer()
        api.fail("POST", "/plan", lambda: Response("", status=200, content_type="text/html"))
        async with an_accessor(api, made) as (accessor, order):
            with pytest.raises(Unavailable):
                await accessor.save_plan(order, plan, [])
            await accessor.save_plan(order, plan, [])
            assert made.plan is not None


def test_the_wait_that_a_server_wants_is_kept() -> None:
    error = error_of(503, error_body("x", "m", retryable=True, extras={}), httpx.Headers({"Retry-After": "7"}))
    assert error.extras["retry_after_s"] == 7.0
    error = error_of(429, error_body("x", "m", retryable=True, extras={"retry_after_s": 2.5}), {"retry-after": "7"})
    assert error.extras["retry_after_s"] == 2.5
    assert error_of(502, b"<html>", {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}).extras == {}


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with a_client("http://localhost:1") as client:
        accessor = RemoteDataAccessor(client, lambda order: "t")
        with pytest.raises(Unavailable, match="cannot be reached"):
            await accessor.get_task_data(order_of(AgentApi().offer()))


async def test_a_certificate_that_is_not_trusted_names_the_setting(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    async with serving(tls=(Path(chain), Path(key))) as api:
        made = api.offer()
        async with a_client(api.url) as client:
            with pytest.raises(Unavailable, match="IAC_CA_FILE"):
                await RemoteDataAccessor(client, lambda order: "t").get_task_data(order_of(made))
        async with a_client(api.url, trust) as client:
            accessor = RemoteDataAccessor(client, lambda order: made.order.task_token)
            assert (await accessor.get_task_data(order_of(made))).order.fence == made.order.fence


async def test_a_call_goes_through_the_proxy(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=chain)
    async with serving(tls=(Path(chain), Path(key))) as api, a_proxy() as (address, asked):
        made = api.offer()
        proxy = proxy_for(api.url, {"HTTPS_PROXY": f"http://user:secret@{address}"})
        async with open_client(api.url, tls=trust, proxy=proxy) as client:
            accessor = RemoteDataAccessor(client, lambda order: made.order.task_token)
            await accessor.get_task_data(order_of(made))
    assert asked[0].startswith(f"CONNECT {api.url.removeprefix('https://')} ")
    assert "Basic dXNlcjpzZWNyZXQ=" in asked[0]


async def test_two_calls_at_once_do_not_disturb_each_other() -> None:
    async with serving() as api:
        made = [api.offer() for _ in range(8)]
        async with a_client(api.url) as client:
            tokens = {each.order.task_id: each.order.task_token for each in made}
            accessor = RemoteDataAccessor(client, lambda order: tokens[order.task_id])

            async def send(each: Assignment) -> None:
                await accessor.save_task_log(order_of(each), 0, each.order.assignment_id.encode() * 20_000)

            async with trio.open_nursery() as nursery:
                for each in made:
                    nursery.start_soon(send, each)
        assert all(each.log == each.order.assignment_id.encode() * 20_000 for each in made)
