"""One agent and the server over a bad line: messages are lost and doubled, both ends restart, a human clicks.

The rows are a small model of the store; the agent keeps what it accepted, claims over HTTP, and lists what it has.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iac.domain.agent_session import AgentSession, Effect, Move, Reissue, Send, Times
from iac.domain.lifecycle import Heard, Lose, Unassign
from iac.domain.messages import Abandon, CancelTaskOrder, FromServer, Heartbeat, Held, Hello, RunTaskOrder, Wanted
from iac.domain.standings import Standing
from tests.harness.thoroughness import examples

TIMES = Times()


@dataclass
class Row:
    """A task, as the store has it, and the fences of all its assignments."""

    status: str = "queued"
    fence: int = 0
    claimed_at: float = 0.0
    cancelled: bool = False
    reported: set[int] = field(default_factory=set)
    fences: list[int] = field(default_factory=list)


class OverABadLine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.rows = {task: Row() for task in (1, 2)}
        self.session = AgentSession(TIMES)
        self.fence = self.seq = 0
        self.line: list[FromServer] = []
        self.agent: dict[int, tuple[int, bool]] = {}  # fence: task, claimed
        self.tombs: set[int] = set()
        self.runs: dict[int, list[int]] = {1: [], 2: []}

    # The store

    def standings(self) -> dict[int, Standing]:
        found = {}
        for task, row in self.rows.items():
            for fence in row.fences:
                present = fence == row.fence and row.status not in ("queued",)
                found[fence] = Standing(
                    task_id=task, workspace_id="w", fence=fence, assignment_id=str(fence), agent_id="a", phase="apply",
                    attempt=1, priority=0, status=row.status if present else "queued", present=present,  # type: ignore[arg-type]
                    ended=fence in row.reported,
                    claimed_for_s=self.now - row.claimed_at if present and row.status != "assigned" else None,
                    cancel_id="can" if present and row.cancelled else None,
                )  # fmt: skip
        return found

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=message):
                    self.line.append(message)
                case Reissue(standing=standing):
                    self.perform(self.session.ordered(self.order(standing.task_id, standing.fence), self.now))
                case Move(task_id=task, event=event):
                    self.move(self.rows[task], event)

    def move(self, row: Row, event: object) -> None:
        match event:
            case Unassign(fence=fence) if row.fence == fence and row.status == "assigned":
                row.status = "queued"
            case Lose(fence=fence) if row.fence == fence and row.status in ("running", "cancelling"):
                assert fence not in self.agent, "a task was given up although its agent has it"
                row.status = "lost"
            case Heard(fence=fence) if row.fence == fence and row.status == "lost":
                row.status = "cancelling" if row.cancelled else "running"

    def order(self, task: int, fence: int) -> RunTaskOrder:
        return RunTaskOrder(
            task_id=task,
            workspace_id="w",
            action="apply",
            assignment_id=str(fence),
            fence=fence,
            attempt=1,
            task_token="t",
        )

    # What happens

    @precondition(lambda self: any(row.status == "queued" for row in self.rows.values()))
    @rule()
    def assign(self) -> None:
        task = next(task for task, row in self.rows.items() if row.status == "queued")
        self.fence += 1
        row = self.rows[task]
        row.status, row.fence, row.cancelled = "assigned", self.fence, False
        row.fences.append(self.fence)
        self.perform(self.session.ordered(self.order(task, self.fence), self.now))

    @precondition(lambda self: self.line)
    @rule(at=st.integers(0, 50), twice=st.booleans())
    def a_message_arrives(self, at: int, twice: bool) -> None:
        message = self.line[at % len(self.line)]
        if not twice:
            self.line.remove(message)
        match message:
            case RunTaskOrder(fence=fence, task_id=task) if fence not in self.tombs:
                self.agent.setdefault(fence, (task, False))
                self.session.accepted(fence)
            case CancelTaskOrder(fence=fence, cancel_id=cancel_id):
                if not self.agent.get(fence, (0, False))[1]:
                    self.agent.pop(fence, None)
                    self.tombs.add(fence)
                self.session.cancel_acked(fence, cancel_id)
            case Abandon(fence=fence):
                self.agent.pop(fence, None)
                self.tombs.add(fence)

    @precondition(lambda self: self.line)
    @rule()
    def the_line_is_cut(self) -> None:
        self.line.clear()

    @precondition(lambda self: any(not claimed for _, claimed in self.agent.values()))
    @rule()
    def claim(self) -> None:
        fence, (task, _) = next((fence, held) for fence, held in self.agent.items() if not held[1])
        row = self.rows[task]
        if row.fence == fence and row.status == "assigned":
            row.status, row.claimed_at = "running", self.now
            self.runs[task].append(fence)
            self.agent[fence] = (task, True)
            self.session.settled(fence)
        else:
            del self.agent[fence]
            self.tombs.add(fence)

    @precondition(lambda self: any(claimed for _, claimed in self.agent.values()))
    @rule()
    def report(self) -> None:
        fence, (task, _) = next((fence, held) for fence, held in self.agent.items() if held[1])
        row = self.rows[task]
        if row.fence == fence and row.status in ("running", "cancelling", "lost"):
            row.status = "succeeded"
            row.reported.add(fence)
        del self.agent[fence]
        self.tombs.add(fence)

    @rule(hello=st.booleans())
    def speak(self, hello: bool) -> None:
        tasks = tuple(Held(task_id=task, fence=fence, action="apply") for fence, (task, _) in self.agent.items())
        self.seq += 1
        if hello:
            said = Hello(agent_id="a", boot_id="b", conn_seq=self.seq, tasks=tasks)
            self.line.clear()
            self.perform(self.session.hello(said, self.standings(), self.now)[1])
        else:
            beat = Heartbeat(
                agent_id="a", status="idle", plan_running=0, plan_limit=3, apply_running=False, current_tasks=(),
                cpu_usage=0, mem_usage=0, seq=self.seq, boot_id="b", tasks=tasks,
            )  # fmt: skip
            ack, effects = self.session.heartbeat(beat, self.standings(), self.now)
            self.perform(effects)
            known = self.standings()
            assert {lease.fence for lease in ack.leases} <= {f for f, each in known.items() if each.present}

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0, 301.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.session.tick(self.now))

    @precondition(lambda self: any(row.status in ("assigned", "running") for row in self.rows.values()))
    @rule()
    def somebody_cancels(self) -> None:
        row = next(row for row in self.rows.values() if row.status in ("assigned", "running"))
        task = next(task for task, each in self.rows.items() if each is row)
        row.cancelled = True
        row.status = "cancelled" if row.status == "assigned" else "cancelling"
        wanted = Wanted(task_id=task, fence=row.fence, cancel_id="can")
        self.perform(self.session.cancelled(wanted, "user", self.now))

    @precondition(lambda self: any(row.status == "running" for row in self.rows.values()))
    @rule()
    def the_agent_was_silent_for_too_long(self) -> None:
        next(row for row in self.rows.values() if row.status == "running").status = "lost"

    @rule()
    def the_server_restarts(self) -> None:
        self.session = AgentSession(TIMES)
        self.line.clear()

    @precondition(lambda self: self.agent)
    @rule()
    def the_agent_loses_its_disk(self) -> None:
        self.agent.clear()

    # What holds

    @invariant()
    def no_task_is_run_twice(self) -> None:
        for task, fences in self.runs.items():
            assert len(fences) <= 1, f"task {task} ran under {fences}"

    def teardown(self) -> None:
        """When the line is good again, everything comes to a state that is told."""
        for _ in range(4):
            self.now += 31
            self.perform(self.session.tick(self.now))
            self.speak(hello=False)
            while self.line:
                self.a_message_arrives(0, False)
        for row in self.rows.values():
            held = row.fence in self.agent
            assert row.status not in ("running", "cancelling") or held, "nobody has it, and nobody says so"
            assert row.status != "assigned" or held or row.fence in self.tombs, "an order never came through"
            assert not (row.status == "lost" and held), "the agent has it, and it is called lost"


OverABadLine.TestCase.settings = settings(max_examples=examples(400), stateful_step_count=50, deadline=None)
test_over_a_bad_line = OverABadLine.TestCase
