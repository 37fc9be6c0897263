"""Frames: whatever a peer sends is a message, one of an unknown type, or malformed; nothing else comes of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iac.domain.messages import _NAMES as NAMES
from iac.domain.messages import (
    LARGEST_FRAME,
    Goodbye,
    Heartbeat,
    Hello,
    LiveLog,
    Malformed,
    TaskStage,
    UnknownType,
    decode_from_agent,
    decode_from_server,
    encode,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
GOOD = (
    Hello(agent_id="a", boot_id="b", conn_seq=1),
    Heartbeat(
        agent_id="a", status="idle", plan_running=0, plan_limit=1, apply_running=False, current_tasks=(), cpu_usage=0.0,
        mem_usage=0.0,
    ),
    TaskStage(task_id=1, fence=1, stage="init"),
    LiveLog(task_id=1, fence=1, offset=0, data=b"x"),
    Goodbye(reason="drained"),
)  # fmt: skip


def read(frame: str | bytes) -> object:
    """What comes of a frame at both ends; anything but this fails the test."""
    found: list[object] = []
    for decode in (decode_from_agent, decode_from_server):
        try:
            found.append(decode(frame))
        except (Malformed, UnknownType) as refused:
            found.append(type(refused))
    return found


@given(st.text() | st.binary())
def test_no_text_and_no_bytes_confuse_the_reader(frame: str | bytes) -> None:
    read(frame)


@given(st.sampled_from(sorted(NAMES.values())) | st.text(max_size=20), ANYTHING)
def test_no_payload_confuses_the_reader(kind: str, payload: Any) -> None:
    read(json.dumps({"type": kind, "payload": payload}))


@given(st.sampled_from(GOOD), st.data())
def test_no_message_with_one_field_gone_wrong_confuses_the_reader(message: Any, data: st.DataObject) -> None:
    payload = msgspec.to_builtins(message)
    field = data.draw(st.sampled_from(sorted(payload)))
    payload[field] = data.draw(ANYTHING)
    read(json.dumps({"type": NAMES[type(message)], "payload": payload}))
    del payload[field]
    read(json.dumps({"type": NAMES[type(message)], "payload": payload}))


@pytest.mark.parametrize("depth", [100, 1_000, 10_000, 100_000])
def test_depth_is_no_way_to_hurt(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for frame in (deep, f'{{"type": "hello", "payload": {deep}}}', f'{{"type": "x", "more": {deep}, "payload": {{}}}}'):
        read(frame)


def test_a_frame_over_the_limit_is_malformed_before_it_is_read() -> None:
    frame = json.dumps({"type": "goodbye", "payload": {"reason": "x" * LARGEST_FRAME}})
    with pytest.raises(Malformed):
        decode_from_agent(frame)


@pytest.mark.parametrize("message", GOOD, ids=lambda message: type(message).__name__)
def test_what_is_written_is_what_is_read(message: Any) -> None:
    assert decode_from_agent(encode(message)) == message


def test_the_one_end_may_not_say_what_the_other_says() -> None:
    with pytest.raises(UnknownType):
        decode_from_server(encode(GOOD[0]))
