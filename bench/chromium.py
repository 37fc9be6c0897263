"""The Chromium that the machine has: nothing is downloaded for the tests and the benchmark."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "There is no Chromium: apt-get install chromium, or set IAC_TEST_CHROMIUM to one."


def find_chromium() -> str | None:
    """The program that IAC_TEST_CHROMIUM names, or the machine's own."""
    return os.environ.get("IAC_TEST_CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)


def arguments() -> list[str]:
    """Chromium's sandbox does not work for root; the pages are our own."""
    return ["--no-sandbox"] if os.geteuid() == 0 else []
