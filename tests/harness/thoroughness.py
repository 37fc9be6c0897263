"""How many examples a property is tried with: enough for every day or, with IAC_TEST_THOROUGH=1, all that its author wanted.

Each run tries other ones, so that what a day's runs try together is much in any case.
"""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("IAC_TEST_THOROUGH"))
SHARE, LEAST = 4, 10


def examples(wanted: int) -> int:
    return wanted if THOROUGH else max(min(wanted, LEAST), wanted // SHARE)
