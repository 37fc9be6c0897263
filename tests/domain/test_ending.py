"""What a row of signals comes to."""

from __future__ import annotations

import pytest

from iac.domain.ending import Signals


@pytest.mark.parametrize(
    ("heard", "meanings"),
    [
        ([(0, False)], ["drain"]),
        ([(0, False), (1, False), (4.9, False)], ["drain", "echo", "echo"]),
        ([(0, False), (5, False)], ["drain", "hurry"]),
        ([(0, False), (1, False), (6, False), (6.1, False)], ["drain", "echo", "hurry", "leave"]),
        ([(0, True)], ["hurry"]),
        ([(0, False), (1, True), (2, False)], ["drain", "hurry", "leave"]),
        ([(0, True), (1, True)], ["hurry", "leave"]),
    ],
)
def test_signals_drain_then_hurry_then_end(heard: list[tuple[float, bool]], meanings: list[str]) -> None:
    signals = Signals(deaf=5.0)
    assert [signals.heard(at, quit_=quit_) for at, quit_ in heard] == meanings
