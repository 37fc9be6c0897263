"""The protocol's times, shorter, for programs that run as they are: tests.harness.scaled_server, scaled_agent.

IAC_TEST_TIMES in their environment, a JSON object, goes over single times: a test makes those that it is about so long or
so short that it waits for an event and never races with a clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from iac.actors.agent_assembly import agent_policy
from iac.actors.patience import AgentTimes
from iac.domain.agent_session import Times
from iac.domain.ladder import Ladder
from iac.executor.run import ExecutorPolicy

SCALE = 0.05
SERVER = msgspec.structs.replace(
    Times().scaled(SCALE),
    heartbeat=0.3,
    lease=60.0,
    lost_after=120.0,
    claim_within=120.0,
    suspect=20.0,
    offline=20.0,
    hello_within=10.0,
    tick=0.25,
    look=0.25,
)
"""What must happen soon does; silence, which a busy machine brings by itself, only means something where a test says so."""
AGENT = replace(
    AgentTimes().scaled(SCALE),
    ack_within=20.0,
    welcome_within=5.0,
    connect_within=5.0,
    retry_most=0.5,
    last_words=5.0,
    tick=0.1,
)
NOTICES: dict[str, float] = {"ack_within": 1.5, "welcome_within": 1.5, "connect_within": 1.5}
"""Times of an agent that soon notices that nobody answers."""
POLICY = ExecutorPolicy(
    plan_ladder=Ladder(grace=1.0, second=1.5), apply_ladder=Ladder(grace=3.0, second=1.5), checkpoint_every=0.1
)
AGENT_POLICY = replace(
    agent_policy(),
    plan_ladder=POLICY.plan_ladder,
    apply_ladder=POLICY.apply_ladder,
    checkpoint_every=POLICY.checkpoint_every,
)
_NAME = "IAC_TEST_TIMES"


def times_in(env: dict[str, str]) -> dict[str, float]:
    """The times that go over the usual ones; taken out of the environment."""
    found: dict[str, float] = json.loads(env.pop(_NAME, "{}"))
    return found


def agent_policy_with(times: dict[str, float]) -> ExecutorPolicy:
    """AGENT_POLICY; `second`, taken out of `times`, is how long its applies have after a second SIGTERM."""
    usual = AGENT_POLICY.apply_ladder
    return replace(AGENT_POLICY, apply_ladder=replace(usual, second=times.pop("second", usual.second)))


def as_environment(times: Mapping[str, float]) -> dict[str, str]:
    return {_NAME: json.dumps(dict(times))}
