"""An agent that only speaks HTTP, for the synchronous tests of the route table; each from an address of its own."""

from __future__ import annotations

import base64
import gzip
import hashlib
from itertools import count
from time import monotonic
from typing import Any

import httpx
import msgspec

from iac.domain.agent_bodies import PlanBody
from iac.domain.messages import Held, RunTaskOrder
from iac.domain.work import PlanFacts
from tests.harness.server import PATIENT
from tests.web.clients import PLAIN, Served
from tests.web.requests_of import BY_NAME, Request, fresh

_addresses = count(2)
BOOT = "boot-of-the-agent"
FILES = {"main.tf": ""}


def fresh_address() -> str:
    """A loopback address that no other test calls from: what is limited for each address is whole there."""
    number = next(_addresses)
    return f"127.{number // 62500 + 1}.{number // 250 % 250 + 1}.{number % 250 + 1}"


def client_from(api: Served, address: str | None = None) -> httpx.Client:
    """A client without a token."""
    transport = httpx.HTTPTransport(local_address=address or fresh_address())
    return httpx.Client(base_url=api.url, transport=transport, timeout=30)


def gz(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def register_body(**facts: Any) -> dict[str, Any]:
    return {"name": fresh("agent"), "instance_id": fresh("instance-of"), "boot_id": BOOT, **facts}


def chunk_body(data: bytes = b"x", offset: int = 0, **facts: Any) -> dict[str, Any]:
    return {"offset": offset, "data": gz(data), "checksum": sha(data), "length": len(data), **facts}


def state_body(data: bytes, **facts: Any) -> dict[str, Any]:
    return {"state": gz(data), "sha256": sha(data), **facts}


def plan_body(bundle_digest: str = "b" * 64, file: bytes = b"the plan") -> dict[str, Any]:
    facts = PlanFacts(
        digest=sha(file),
        bundle_digest=bundle_digest,
        serial=None,
        lineage=None,
        terraform_version=PLAIN,
        has_changes=True,
        summary={"create": 1},
    )
    body: dict[str, Any] = msgspec.to_builtins(PlanBody(facts=facts, sha256=sha(file), file=file, json=b"{}"))
    return body


class HttpAgent:
    """Registered, in a pool of its own that serves a workspace of its own."""

    def __init__(self, api: Served, **pool: Any) -> None:
        self.api = api
        self.address = fresh_address()
        self.pool = fresh("pool")
        api.admin.post("/agent-pools", 201, json={"name": self.pool, **pool})
        made = api.admin.post(f"/agent-pools/{self.pool}/tokens", 201, json={"name": "t"})
        self.pool_token: str = made["token"]
        self.pool_token_id: str = made["id"]
        self.workspace = self.another_workspace()
        self.registered: dict[str, Any] = self.json("register_agent", self.pool_token, register_body(), 201)
        self.id: str = self.registered["agent_id"]
        self.session: str = self.registered["session_token"]
        self._seq = count(1)

    def another_workspace(self) -> str:
        name = self.api.admin.workspace(FILES, terraform_version=PLAIN)
        self.api.admin.put(f"/agent-pools/{self.pool}/workspaces/{name}")
        self.api.admin.patch(f"/workspaces/{name}", json={"execution_mode": "agent", "pool_id": self.pool})
        return name

    # One request

    def send(
        self, name: str, token: str | None, body: Any = None, *, task: int | None = None, agent: str | None = None
    ) -> httpx.Response:
        """The answer of the operation, checked against what is declared."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        path = {"agent": agent or getattr(self, "id", "x"), "task_id": str(task or 1)}
        request = Request(BY_NAME[name], path=path, body=body if body is not None else None)
        with client_from(self.api, self.address) as client:
            return request.send(client, **headers)

    def json(self, name: str, token: str, body: Any = None, status: int = 200, **path: Any) -> Any:
        response = self.send(name, token, body, **path)
        assert response.status_code == status, f"{name}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def of(self, order: RunTaskOrder, name: str, body: Any = None, status: int = 200) -> Any:
        """The answer to a call with the order's own token, about its own task."""
        return self.json(name, order.task_token, body, status, task=order.task_id)

    def refused(self, order: RunTaskOrder, name: str, body: Any, status: int, code: str) -> dict[str, Any]:
        error: dict[str, Any] = self.of(order, name, body, status)["error"]
        assert error["code"] == code, error
        return error

    # What an agent does

    def beat(self, *orders: RunTaskOrder) -> dict[str, Any]:
        answer: dict[str, Any] = self.json("send_heartbeat", self.session, self.heartbeat(*orders))
        return answer

    def heartbeat(self, *orders: RunTaskOrder) -> dict[str, Any]:
        held = [Held(task_id=each.task_id, fence=each.fence, action=each.action, stage="plan") for each in orders]
        return {
            "agent_id": self.id, "status": "idle", "plan_running": 0, "plan_limit": 9, "apply_running": False,
            "current_tasks": [], "cpu_usage": 0.1, "mem_usage": 0.1, "seq": next(self._seq), "boot_id": BOOT,
            "tasks": msgspec.to_builtins(held),
        }  # fmt: skip

    def pending(self) -> list[RunTaskOrder]:
        answer = self.json("list_pending", self.session)
        return [msgspec.convert(each, RunTaskOrder) for each in answer["tasks"]]

    def ordered(self, action: str = "plan", *, workspace: str | None = None, **asked: Any) -> RunTaskOrder:
        """The order of a new task, which nobody has claimed."""
        self.beat()
        self.pending()
        return self.order_of(self.api.admin.task(workspace or self.workspace, action, **asked))

    def order_of(self, task: int, *, phase: str | None = None) -> RunTaskOrder:
        """The order of the task, as soon as it comes."""
        deadline = monotonic() + PATIENT
        while True:
            for order in self.pending():
                if order.task_id == task and phase in (None, order.action):
                    return order
            assert monotonic() < deadline, self.api.admin.get(f"/tasks/{task}")

    def claimed(self, action: str = "plan", **asked: Any) -> RunTaskOrder:
        order = self.ordered(action, **asked)
        self.of(order, "claim_task")
        return order

    def planned(self, **asked: Any) -> RunTaskOrder:
        """The order of a plan that was stored, not yet reported."""
        order = self.ordered("plan_and_apply", **asked)
        data = self.of(order, "claim_task")
        self.of(order, "store_plan", plan_body(data["bundle_digest"]), 201)
        return order

    def to_apply(self, **asked: Any) -> RunTaskOrder:
        """The order of an apply, which nobody has claimed."""
        order = self.planned(auto_apply=True, **asked)
        self.result(order, "planned")
        self.pending()
        return self.order_of(order.task_id, phase="apply")

    def applying(self, **asked: Any) -> RunTaskOrder:
        order = self.to_apply(**asked)
        self.of(order, "claim_task")
        return order

    def result(self, order: RunTaskOrder, status: str, *, expect: int = 200, **facts: Any) -> Any:
        body = {"status": status, "result_id": f"r-{order.fence}", **facts}
        return self.of(order, "put_status", body, expect)

    def status(self, order: RunTaskOrder) -> str:
        return str(self.api.admin.get(f"/tasks/{order.task_id}")["status"])
