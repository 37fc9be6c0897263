"""The agents' operations, from the route table: every wrong token, every status with the same cause everywhere."""

from __future__ import annotations

import http.client
import importlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import msgspec
import pytest

from iac.domain.agent_tokens import make_token
from iac.domain.messages import RunTaskOrder
from iac.web.routing import JSON, Operation
from tests.harness.postgres import fresh_database
from tests.harness.server import PATIENT, TOKEN
from tests.web import test_route_table
from tests.web.clients import Served, served
from tests.web.http_agent import HttpAgent, chunk_body, client_from, fresh_address, plan_body, register_body, state_body
from tests.web.requests_of import AGENT_OPERATIONS, Request, each, error_of, forged, forged_for, state

WITH_BODY = [operation for operation in AGENT_OPERATIONS if operation.takes_body]
OF_SESSIONS = [operation for operation in AGENT_OPERATIONS if "session" in operation.auth]
OF_TASKS = [operation for operation in AGENT_OPERATIONS if operation.auth == "task"]
TABLES = ("task", "assignment", "task_token", "agent", "agent_session", "agent_pool", "pool_token", "plan",
          "state_version", "log_stream", "workspace", "resource_progress")  # fmt: skip
"""What a refused call must not change."""


@dataclass(frozen=True)
class Scene:
    """A server of its own, where nothing moves by itself; two agents, and what they hold."""

    api: Served
    agent: HttpAgent
    other: HttpAgent
    order: RunTaskOrder
    others: tuple[RunTaskOrder, RunTaskOrder]
    """One that was claimed, one that was not."""
    bad: dict[str, str]

    def body(self, operation: Operation) -> object:
        """A body with which a good token would do something."""
        return {
            "register_agent": register_body(),
            "renew_session": {"boot_id": "boot-of-the-agent"},
            "send_heartbeat": self.agent.heartbeat(self.order),
            "store_log_chunk": chunk_body(),
            "put_status": {"status": "failed", "result_id": "r-of-a-thief"},
            "store_state": state_body(state(1)),
            "store_plan": plan_body(),
        }.get(operation.name)

    def send(self, operation: Operation, token: str | None, client: httpx.Client, **headers: str) -> httpx.Response:
        path = {"agent": self.agent.id, "task_id": str(self.order.task_id)}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return Request(operation, path, self.body(operation)).send(client, **headers)

    def tables(self) -> list[str]:
        """What is stored, but for who was heard when, and how far logs are copied."""
        parts = [
            f"(SELECT md5(string_agg(row, '|' ORDER BY row)) FROM "  # noqa: S608
            f"(SELECT (to_jsonb(t) - '{{last_used_at,last_seen_at,persisted,verified}}'::text[])::text AS row "
            f"FROM {table} t) x)"
            for table in TABLES
        ]
        row: list[str] = self.api.rows(f"SELECT {', '.join(parts)}")[0]
        return list(row)


@pytest.fixture(scope="module")
def scene(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with served(tmp_path_factory.mktemp("matrix") / "data", fresh_database(postgres)) as api:
        agent, other = HttpAgent(api), HttpAgent(api)
        order, others = agent.applying(), (other.claimed(), other.ordered(workspace=other.another_workspace()))
        yield Scene(api, agent, other, order, others, bad_tokens(api, other))


def bad_tokens(api: Served, agent: HttpAgent) -> dict[str, str]:
    """Tokens that were good once, and such that never were."""
    expired, soft, hard = HttpAgent(api), HttpAgent(api), HttpAgent(api)
    api.sql("UPDATE agent_session SET expires_at = now() WHERE agent_id = $1", expired.id)
    api.sql("UPDATE pool_token SET expires_at = now() WHERE id = $1", expired.pool_token_id)
    api.admin.delete(f"/agent-pools/{soft.pool}/tokens/{soft.pool_token_id}", params={"mode": "soft"})
    lost = hard.claimed()
    api.admin.delete(f"/agent-pools/{hard.pool}/tokens/{hard.pool_token_id}", params={"mode": "hard"})
    api.admin.until(lost.task_id, "cancelling")
    api.sql("UPDATE assignment SET scope = 'dead' WHERE fence = $1", lost.fence)
    user = api.admin.post("/tokens", 201, json={"name": "revoked", "role": "admin"})
    api.admin.delete(f"/tokens/{user['id']}")
    return {
        "unknown pool": forged("pool"), "unknown session": forged("session"), "unknown task": forged("task"),
        "unknown instance": forged("instance"), "mistyped": forged("session")[:-1] + "0", "cut": forged("pool")[:20],
        "expired session": expired.session, "expired pool": expired.pool_token,
        "soft revoked pool": soft.pool_token, "hard revoked pool": hard.pool_token,
        "session of a hard revoked pool": hard.session, "dead task": lost.task_token, "revoked user": user["token"],
        "instance secret": agent.registered["instance_secret"],
    }  # fmt: skip


# 401


def of_the_wrong_kind(scene: Scene, operation: Operation) -> dict[str, str]:
    """Good tokens of every kind that the operation does not take."""
    good = {
        "pool": scene.agent.pool_token,
        "session": scene.agent.session,
        "task": scene.order.task_token,
        "user": TOKEN,
    }
    return {f"a {kind} token": token for kind, token in good.items() if kind not in operation.auth.split("_or_")}


@each(AGENT_OPERATIONS)
def test_401_for_every_token_that_is_bad_or_of_the_wrong_kind(scene: Scene, operation: Operation) -> None:
    tokens = {**scene.bad, **of_the_wrong_kind(scene, operation)}
    before = scene.tables()

    def answer(token: str) -> httpx.Response:
        with client_from(scene.api) as client:
            return scene.send(operation, token, client)

    with ThreadPoolExecutor(len(tokens)) as threads:
        answers = dict(zip(tokens, threads.map(answer, tokens.values()), strict=True))
    for response in answers.values():
        assert error_of(response, 401)["code"] == "unauthenticated"
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="iac"'
    assert len({response.text for response in answers.values()}) == 1, "the answer tells why the token is bad"
    assert scene.tables() == before


@each(AGENT_OPERATIONS)
def test_401_for_no_token_at_all(scene: Scene, operation: Operation) -> None:
    before = scene.tables()
    with client_from(scene.api) as client:
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": f"Token {scene.agent.session}"}):
            assert error_of(scene.send(operation, None, client, **headers), 401)["code"] == "unauthenticated"
    assert scene.tables() == before


# 403


@each(OF_SESSIONS)
def test_403_for_the_session_of_another_agent(scene: Scene, operation: Operation) -> None:
    if operation.name == "open_control_channel":
        return  # the handshake's own test says so: a plain GET is told 426
    before = scene.tables()
    with client_from(scene.api) as client:
        error = error_of(scene.send(operation, scene.other.session, client), 403)
    assert error["code"] == "wrong_scope"
    assert scene.tables() == before


@each(OF_TASKS)
def test_403_for_the_token_of_another_task(scene: Scene, operation: Operation) -> None:
    before = scene.tables()
    with client_from(scene.api) as client:
        for other in scene.others:
            assert error_of(scene.send(operation, other.task_token, client), 403)["code"] == "wrong_scope"
    assert scene.tables() == before


# 422, 400, 413, 415


def good_token(scene: Scene, operation: Operation) -> str:
    kind = operation.auth.split("_or_")[0]
    return {"pool": scene.agent.pool_token, "session": scene.agent.session, "task": scene.order.task_token}[kind]


@each(AGENT_OPERATIONS)
def test_422_for_a_query_parameter_that_nobody_knows(scene: Scene, operation: Operation) -> None:
    path = {"agent": scene.agent.id, "task_id": str(scene.order.task_id)}
    request = Request(operation, path, scene.body(operation), params={"stranger": "1"})
    with client_from(scene.api) as client:
        response = request.send(client, Authorization=f"Bearer {good_token(scene, operation)}")
    assert error_of(response, 422)["path"] == "$.stranger"


@each(WITH_BODY)
def test_422_for_a_body_of_the_wrong_types(scene: Scene, operation: Operation) -> None:
    before = scene.tables()
    assert operation.body is not None
    good = dict(scene.body(operation))  # type: ignore[call-overload]
    with client_from(scene.api) as client:
        for field in msgspec.structs.fields(operation.body):
            for wrong in (msgspec.Raw(b'{"x": []}'), msgspec.Raw(b"[[[{}]]]")):
                body = msgspec.json.encode({**good, field.encode_name: wrong})
                request = Request(operation, {"agent": scene.agent.id, "task_id": str(scene.order.task_id)}, body)
                response = request.send(client, Authorization=f"Bearer {good_token(scene, operation)}")
                assert response.status_code in (400, 422), f"{field.name}: {response.text}"
    assert scene.tables() == before


@each(WITH_BODY)
@pytest.mark.parametrize("body", [b"{", b"nonsense", b'"\\ud800"', b" "])
def test_400_for_a_body_that_is_not_json(scene: Scene, operation: Operation, body: bytes) -> None:
    request = Request(operation, {"agent": scene.agent.id, "task_id": str(scene.order.task_id)}, body)
    with client_from(scene.api) as client:
        response = request.send(client, Authorization=f"Bearer {good_token(scene, operation)}")
    assert error_of(response, 400)["code"] == "bad_json"


@each(WITH_BODY)
def test_413_for_an_announced_length_over_the_limit_before_any_of_it_is_sent(
    scene: Scene, operation: Operation
) -> None:
    connection = http.client.HTTPConnection(scene.api.url.removeprefix("http://"), timeout=PATIENT)
    connection.putrequest(operation.method, Request(operation).url)
    connection.putheader("Content-Type", JSON)
    connection.putheader("Content-Length", str(operation.limit + 1))
    connection.endheaders()
    response = connection.getresponse()
    error = msgspec.json.decode(response.read())["error"]
    connection.close()
    assert (response.status, error["code"], error["limit"]) == (413, "too_large", operation.limit)


@each(WITH_BODY)
@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x"])
def test_415_for_another_content_type(scene: Scene, operation: Operation, content_type: str) -> None:
    path = {"agent": scene.agent.id, "task_id": str(scene.order.task_id)}
    request = Request(operation, path, b"{}", content_type=content_type)
    with client_from(scene.api) as client:
        response = request.send(client, Authorization=f"Bearer {good_token(scene, operation)}")
    assert error_of(response, 415)["code"] == "wrong_content_type"


# 429


@pytest.fixture(scope="module")
def guesser(scene: Scene) -> Iterator[httpx.Client]:
    """A client at an address from which too many tokens were guessed."""
    address = fresh_address()
    path = f"/api/v1/agents/{scene.agent.id}"

    def guess(number: int) -> int:
        with client_from(scene.api, address) as client:
            token = make_token("session", number.to_bytes(32, "big"))
            return client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code

    with ThreadPoolExecutor(14) as threads:
        statuses = list(threads.map(guess, range(14)))
    assert sorted(set(statuses)) == [401, 429]
    with client_from(scene.api, address) as client:
        yield client


@each(AGENT_OPERATIONS)
def test_429_after_too_many_bad_tokens_from_one_address(
    scene: Scene, guesser: httpx.Client, operation: Operation
) -> None:
    answers = [
        scene.send(operation, forged_for(operation), guesser) for _ in range(3)
    ]  # one guess in ten seconds is free
    refused = [response for response in answers if response.status_code == 429]
    assert refused
    for response in refused:
        assert error_of(response, 429)["code"] == "rate_limited"
        assert int(response.headers["Retry-After"]) >= 1


def test_a_token_that_was_good_once_is_no_guess(scene: Scene) -> None:
    """When a server was away for hours, thousands of agents behind one address come back with sessions that are over."""
    with client_from(scene.api) as client:
        for _ in range(15):
            for name in ("expired session", "session of a hard revoked pool"):
                path = f"/api/v1/agents/{scene.agent.id}"
                response = client.get(path, headers={"Authorization": f"Bearer {scene.bad[name]}"})
                assert response.status_code == 401


# Completeness

GENERATED = {
    400: "test_400_for_a_body_that_is_not_json",
    401: "test_401_for_every_token_that_is_bad_or_of_the_wrong_kind",
    413: "test_413_for_an_announced_length_over_the_limit_before_any_of_it_is_sent",
    415: "test_415_for_another_content_type",
    422: "test_422_for_a_query_parameter_that_nobody_knows",
    429: "test_429_after_too_many_bad_tokens_from_one_address",
    503: "test_503_from_every_operation_while_the_database_is_away_and_service_when_it_is_back",
}
"""And 403, for those that a generated test asks."""
MODULES = ("api", "control", "reports", "routes", "states")


def named_tests() -> set[str]:
    modules = [importlib.import_module(f"tests.web.test_agent_{name}") for name in MODULES]
    return {name for module in modules for name in vars(module) if name.startswith("test_")}


def has_generated(operation: Operation, status: int) -> bool:
    if status == 403:
        return operation in [*OF_SESSIONS, *OF_TASKS]
    return status in GENERATED and (GENERATED[status] in globals() or GENERATED[status] in vars(test_route_table))


@each(AGENT_OPERATIONS)
def test_every_status_of_an_agents_operation_has_a_test(operation: Operation) -> None:
    wanted = [
        f"test_{operation.name}_{status}" for status in operation.statuses if not has_generated(operation, status)
    ]
    wanted += [f"test_{operation.name}_409_{code}" for code in operation.conflicts]
    named = named_tests()
    missing = [name for name in wanted if not any(f"{test}_".startswith(f"{name}_") for test in named)]
    assert not missing


def test_a_named_test_belongs_to_an_agents_operation_and_a_status_that_it_declares() -> None:
    declared = {f"test_{operation.name}_{status}" for operation in AGENT_OPERATIONS for status in operation.statuses}
    names = "|".join(operation.name for operation in AGENT_OPERATIONS)
    for name in named_tests():
        if found := re.match(rf"test_({names})_(\d{{3}})(_|$)", name):
            assert f"test_{found[1]}_{found[2]}" in declared, name
