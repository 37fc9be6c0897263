"""How much one sender may have at once."""

from __future__ import annotations

from collections import Counter

import pytest

from iac.errors import RateLimited
from iac.web.agent_auth import one_of


def test_a_sender_has_so_many_places_and_gets_each_back() -> None:
    taken = Counter[str]()
    with one_of(taken, "a", 2, "chunks"), one_of(taken, "a", 2, "chunks"), one_of(taken, "b", 2, "chunks"):
        with pytest.raises(RateLimited) as refused, one_of(taken, "a", 2, "chunks"):
            raise AssertionError("one too many")
        assert refused.value.extras == {"retry_after_s": 1.0}
    with pytest.raises(ZeroDivisionError), one_of(taken, "a", 1, "chunks"):
        _ = 1 / 0
    assert taken == Counter()
