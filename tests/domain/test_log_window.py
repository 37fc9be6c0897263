"""What is sent of a log, and when: every byte once, in order, whatever the platform says meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from iac.domain.log_transform import Gap, Reading, Replay, Transform
from iac.domain.log_window import Window
from tests.harness.thoroughness import examples

SECRET = "s3cr3t-value"
LIMIT = 4096


def test_a_chunk_is_due_when_it_is_full_or_old_or_pressed() -> None:
    window = Window(0)
    assert not window.due(1000.0, 10, 30.0), "nothing is there"
    window.put(b"abc", 100.0)
    assert not window.due(129.9, 10, 30.0)
    assert window.due(130.0, 10, 30.0)
    window.put(b"defghij", 120.0)
    assert window.due(120.0, 10, 30.0)
    assert window.take(4) == (0, b"abcd")
    assert not window.due(131.0, 10, 30.0), "what is left came at 120"
    assert window.due(150.0, 10, 30.0)
    window.press()
    assert window.due(131.0, 10, 30.0)
    assert window.take(10) == (4, b"efghij")
    assert not window.due(1000.0, 10, 30.0)


def test_what_is_stored_already_is_not_sent_again() -> None:
    window = Window(5)
    window.put(b"abc", 0.0)
    assert (window.held, window.pending) == (0, 0)
    window.put(b"defg", 0.0)
    assert window.take(10) == (5, b"fg")


def test_a_platform_that_has_more_than_was_sent_gets_the_rest() -> None:
    window = Window(0)
    window.put(b"abcdef", 0.0)
    window.take(2)
    window.answered(9, 9)
    assert (window.held, window.pending) == (0, 0)
    window.put(b"ghijkl", 0.0)
    assert window.take(10) == (9, b"jkl")


def test_bytes_that_were_let_go_are_asked_for_when_the_platform_goes_back() -> None:
    window = Window(0)
    window.put(b"abcdef", 0.0)
    window.take(4)
    window.answered(4, 4)
    window.take(2)
    window.answered(1, 1)
    assert (window.missing, window.cut, window.begin) == (3, 1, 4)
    assert window.due(0.0, 100, 100.0)
    window.cut += 3
    window.answered(4, 4)
    assert window.take(9) == (4, b"ef")


@dataclass
class Platform:
    """Takes chunks as the server does; loses requests, answers, and now and then half of what it had."""

    faults: list[str]
    data: bytearray = field(default_factory=bytearray)

    def send(self, offset: int, chunk: bytes) -> int | None:
        """Where to go on; None when there was no answer."""
        fault = self.faults.pop() if self.faults else "none"
        if fault == "request lost":
            return None
        if fault == "disk lost":
            del self.data[len(self.data) // 2 :]
        if offset > len(self.data):
            return len(self.data)
        overlap = self.data[offset : offset + len(chunk)]
        assert overlap == chunk[: len(overlap)], "what is sent twice is the same twice"
        self.data += chunk[len(overlap) :]
        return None if fault == "answer lost" else len(self.data)


FAULTS = st.lists(st.sampled_from(["none", "request lost", "answer lost", "disk lost"]), max_size=20)
PIECES = st.lists(st.binary(max_size=40), max_size=12)


@settings(max_examples=examples(300), deadline=None)
@given(pieces=PIECES, faults=FAULTS, reads=st.lists(st.booleans(), max_size=30), chunk=st.integers(1, 50))
def test_every_byte_arrives_once_and_in_order(
    pieces: list[bytes], faults: list[str], reads: list[bool], chunk: int
) -> None:
    waiting, whole, platform, window = list(pieces), b"".join(pieces), Platform(list(faults)), Window(0)
    more, ahead = list(reads), None
    while waiting or window.acked != len(whole):
        if waiting and (not more or more.pop()):
            window.put(waiting.pop(0), 0.0)
        if not waiting:
            window.press()
        taken, ahead = ahead or _taken(window, whole, chunk), None
        if taken is None:
            continue
        end = taken[0] + len(taken[1])
        while (after := platform.send(*taken)) is None:  # as it is, again
            continue
        if after == end and not window.missing and not (more and more.pop()):
            ahead = _taken(window, whole, chunk)
        window.answered(after, after if ahead is None else ahead[0] + len(ahead[1]))
    assert platform.data == whole


def _taken(window: Window, whole: bytes, chunk: int) -> tuple[int, bytes] | None:
    if window.missing:
        start = window.cut
        window.cut += min(window.missing, chunk)
        return start, whole[start : window.cut]
    return window.take(chunk) if window.due(0.0, chunk, 1.0) else None


PARTS = st.lists(st.sampled_from([b"line\n", b"s3cr3t-", b"value", b"\xff\x00", b'{"@level"', b"x" * 300]))


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data(), parts=PARTS)
def test_a_log_made_again_is_the_same_from_any_byte_on(data: st.DataObject, parts: list[bytes]) -> None:
    raw = b"".join(parts)
    first = Transform([SECRET], LIMIT)
    whole = first.feed(raw)[0] + first.finish()[0]
    replay = Replay(_reading(raw, []), step=data.draw(st.integers(1, 64)))
    at = 0
    while at < len(whole):
        at += data.draw(st.integers(0, len(whole) - at))
        size = data.draw(st.integers(1, 500))
        assert replay.take(at, size) == whole[at : at + size]
        at += min(size, len(whole) - at)


@settings(max_examples=examples(100), deadline=None)
@given(start=st.integers(0, 40), size=st.integers(1, 40), step=st.integers(1, 64))
def test_a_gap_is_the_same_line_in_the_same_place_however_it_is_read(start: int, size: int, step: int) -> None:
    raw = b"one line s3cr3t-value\nanother line\n" * 3
    gaps = [Gap(start, start + size)]
    one, other = _whole(_reading(raw, gaps), 1000), _whole(_reading(raw, gaps), step)
    assert one == other
    assert b"bytes dropped: spool full]\n" in one
    assert SECRET.encode() not in one


def test_half_a_secret_before_a_gap_is_not_told() -> None:
    raw = b"a s3cr3t-value"
    told = _whole(_reading(raw, [Gap(9, len(raw))]), 1000)
    assert told == b"a \n[iac: 12 bytes dropped: spool full]\n"


def test_what_was_given_up_is_counted() -> None:
    reading = _reading(b"x" * 10 + b"y" * 80 + b"rest of a line\nnext\n", [Gap(10, 90)])
    told = _whole(reading, 7)
    assert told == b"xxxxxxxxxx\n[iac: 95 bytes dropped: spool full]\nnext\n"
    assert reading.transform.digest.truncated_bytes == 95


def _reading(raw: bytes, gaps: list[Gap]) -> Reading:
    return Reading(Transform([SECRET], LIMIT), lambda size, offset: raw[offset : offset + size], gaps)


def _whole(reading: Reading, step: int) -> bytes:
    found = b""
    while True:
        read, text, _ = reading.step(step)
        found += text
        if not read:
            return found + reading.transform.finish()[0]
