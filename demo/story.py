"""The four acts: a bakery is planned, built, looked at, and closed again. Everything goes through the API, and runs on the
agent.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from demo.processes import ROOT, DemoFailed
from demo.screen import Screen
from iac.cli.client import ApiClient, ApiError, End
from iac.cli.packing import pack
from iac.cli.summaries import counts
from iac.domain import bodies
from iac.domain.pool_bodies import AgentView
from iac.domain.reconciling import CUT_OFF
from iac.domain.records import Action

WORKSPACE = "bakery"
EXAMPLE = ROOT / "examples" / "bakery"
COLLECTED_WITHIN = 30.0
LOOK_EVERY = 0.2
CONFLICT = 409
OPEN = "pending,queued,assigned,running,cancelling,planned,lost"


@dataclass(slots=True)
class Story:
    """One performance. `times` are the seconds that the acts took."""

    client: ApiClient
    screen: Screen
    agent: AgentView
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    log_bytes: int = 0
    times: dict[str, float] = field(default_factory=dict)

    def play(self) -> None:
        """All of it. Raises DemoFailed, ApiError, Unreachable."""
        self._prepare()
        self._apply(*self._plan())
        self._outputs()
        self._destroy()

    def _prepare(self) -> None:
        screen, client = self.screen, self.client
        with self._timed("prepare"):
            if any(workspace.name == WORKSPACE for workspace in client.workspaces(search=WORKSPACE)):
                self._tidy_up()
            else:
                about = "A small bakery that exists nowhere but in its state."
                client.create_workspace(bodies.WorkspaceCreate(name=WORKSPACE, description=about))
            self._move_to_the_pool()
            packed = pack(EXAMPLE)
            client.upload_configuration(WORKSPACE, packed.archive, "from the demo")
            screen.done(f"workspace {WORKSPACE}: {len(packed.files)} files from {_short(EXAMPLE)}")
            self._set("name", "Morgenrot", sensitive=False)
            self._set("supplier_password", self.secret, sensitive=True)

    def _move_to_the_pool(self) -> None:
        """Both sides have to say so: the pool allows the workspace, and the workspace chooses the pool."""
        pool = self.agent.pool_id
        self.client.allow_workspace(pool, WORKSPACE)
        self.client.change_workspace(WORKSPACE, bodies.WorkspaceChange(execution_mode="agent", pool_id=pool))
        self.screen.done(f"workspace {WORKSPACE} runs in pool {self.agent.pool_name}, which may serve it")

    def _set(self, key: str, value: str, *, sensitive: bool) -> None:
        known = {variable.key: variable.id for variable in self.client.variables(WORKSPACE)}
        if key in known:
            self.client.change_variable(WORKSPACE, known[key], bodies.VariableChange(value=value, sensitive=sensitive))
        else:
            body = bodies.VariableCreate(key=key, value=value, sensitive=sensitive)
            self.client.create_variable(WORKSPACE, body)
        self.screen.done(f"variable {key} = {'(sensitive: can be set, never read)' if sensitive else value}")

    def _plan(self) -> tuple[bodies.TaskView, int]:
        """The planned task, and where its log ends."""
        self.screen.act(1, "Plan", "what would change; nothing is touched")
        with self._timed("plan"):
            task = self._created("plan_and_apply", "the bakery opens")
            end = self._followed(task, "planned")
        planned = self.client.task(task.id)
        if planned.plan is not None:
            self.screen.done(f"task {task.id} is planned: {counts(planned.plan.summary)}")
        if planned.wait is not None:
            self.screen.note(f"  {planned.wait.message}")
        return planned, end.offset

    def _apply(self, task: bodies.TaskView, offset: int) -> None:
        self.screen.act(2, "Apply", "exactly this plan, now that it is confirmed")
        with self._timed("apply"):
            digest = task.plan.digest if task.plan is not None else None
            self.client.confirm_task(task.id, plan_digest=digest, comment="smells good")
            self._followed(task, "succeeded", offset)
        state = self.client.state(WORKSPACE)
        self.screen.done(f"task {task.id} ran on {self.agent.name}")
        self.screen.done(f"state {state.serial} is stored on the server: {state.resource_count} resources")

    def _outputs(self) -> None:
        self.screen.act(3, "Outputs", "read from the stored state")
        with self._timed("outputs"):
            outputs = self.client.outputs(WORKSPACE).items
        if not any(output.sensitive for output in outputs):
            raise DemoFailed("The sensitive output is missing.")
        self.screen.facts((output.name, _value(output)) for output in outputs)

    def _destroy(self) -> None:
        self.screen.act(4, "Destroy", "the same way, without asking this time")
        with self._timed("destroy"):
            self._emptied("closing time")
        self.screen.done("nothing is left but the history")
        self.screen.done(f"the supplier's password is nowhere in these {self.log_bytes:,} bytes of log")

    def _tidy_up(self) -> None:
        """What a demo that was interrupted may have left: tasks, a lock, resources."""
        for task in self.client.tasks(workspace=WORKSPACE, status=OPEN).items:
            self.screen.note(f"task {task.id} of an earlier demo is {task.status}; ending it")
            self._end(task)
        if self.client.workspace(WORKSPACE).lock is not None:
            self.client.unlock_workspace(WORKSPACE, force=True)
        if self._resources():
            self.screen.note("the bakery of an earlier demo still stands; closing it first")
            self._emptied("left over from an earlier demo")

    def _end(self, task: bodies.TaskView) -> None:
        """Unless it comes to its end by itself meanwhile: its Terraform outlived server and agent."""
        try:
            if self._stays_lost(task):
                self.client.resolve_task(task.id, comment="an earlier demo was interrupted", unlock=True)
            elif self.client.task(task.id).status in OPEN.split(","):
                self.client.cancel_task(task.id)
                self._shown(task, 0)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            self.screen.note(f"task {task.id} has ended meanwhile")

    def _stays_lost(self, task: bodies.TaskView) -> bool:
        """Whether nobody knows how it ended, after the server has collected what it left."""
        deadline = time.monotonic() + COLLECTED_WITHIN
        now = self.client.task(task.id)
        while now.status == "lost" and now.detail == CUT_OFF and time.monotonic() < deadline:
            self.client.pause(LOOK_EVERY)
            now = self.client.task(task.id)
        return now.status == "lost"

    def _emptied(self, message: str) -> None:
        task = self._created("destroy", message, auto_apply=True)
        self._followed(task, "succeeded")
        if left := self._resources():
            raise DemoFailed(f"{left} resources are left after a destroy.")

    def _resources(self) -> int:
        try:
            return self.client.state(WORKSPACE).resource_count
        except ApiError as error:
            if error.status == 404:
                return 0
            raise

    def _created(self, action: Action, message: str, *, auto_apply: bool = False) -> bodies.TaskView:
        asked = bodies.TaskCreate(action=action, message=message, auto_apply=auto_apply)
        return self.client.create_task(WORKSPACE, asked)

    def _shown(self, task: bodies.TaskView, offset: int) -> End:
        end, seen = self.screen.follow(self.client, task.id, offset)
        self.log_bytes += len(seen)
        if self.secret.encode() in seen:
            raise DemoFailed(f"The sensitive value is in the log of task {task.id}.")
        return end

    def _followed(self, task: bodies.TaskView, wanted: str, offset: int = 0) -> End:
        end = self._shown(task, offset)
        if end.status != wanted:
            now = self.client.task(task.id)
            raise DemoFailed(f"Task {task.id} is {end.status}, not {wanted}: {now.reason} {now.detail or ''}")
        if wanted == "succeeded" and (ran_on := self.client.task(task.id).agent_id) != self.agent.id:
            raise DemoFailed(f"Task {task.id} ran on {ran_on}, not on {self.agent.id}.")
        return end

    @contextmanager
    def _timed(self, act: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.times[act] = time.monotonic() - began


def _value(output: bodies.OutputView) -> str:
    return "(sensitive)" if output.sensitive else msgspec.json.encode(output.value).decode()


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
