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
from iac.executor.process import Ladder
from iac.executor.run import ExecutorPolicy

SCALE = 0.05
SERVER = msgspec.structs.replace(
    Times().scaled(SCALE),
    heartbeat=0.3,
    lease=10.0,
    lost_after=20.0,
    suspect=3.0,
    hello_within=5.0,
    tick=0.25,
    look=0.25,
)
"""A busy machine stops everybody for some tenths of a second: what measures such hiccups is not scaled that far."""
AGENT = replace(
    AgentTimes().scaled(SCALE),
    ack_within=1.5,
    welcome_within=3.0,
    connect_within=1.5,
    retry_most=0.5,
    last_words=3.0,
    tick=0.1,
)
POLICY = ExecutorPolicy(plan_ladder=Ladder(grace=1.0, second=0.5), apply_ladder=Ladder(grace=2.0, second=0.5))
AGENT_POLICY = replace(agent_policy(), plan_ladder=POLICY.plan_ladder, apply_ladder=POLICY.apply_ladder)
_NAME = "IAC_TEST_TIMES"


def times_in(env: dict[str, str]) -> dict[str, float]:
    """The times that go over the usual ones; taken out of the environment."""
    found: dict[str, float] = json.loads(env.pop(_NAME, "{}"))
    return found


def as_environment(times: Mapping[str, float]) -> dict[str, str]:
    return {_NAME: json.dumps(dict(times))}
