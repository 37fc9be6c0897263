"""What a page's form or button answered."""

from __future__ import annotations

import json
from typing import Any

import httpx

SHEET = {"HX-Trigger": "sheet-form"}


def told(answer: httpx.Response, event: str) -> Any:
    assert "HX-Trigger" in answer.headers, (answer.status_code, answer.text[:500])
    return json.loads(answer.headers["HX-Trigger"])[event]


def done(answer: httpx.Response) -> str:
    """What the deed says, or where it leads."""
    assert answer.status_code == 204, answer.text[:500]
    return str(answer.headers.get("HX-Redirect") or told(answer, "toast")["says"])


def refused(answer: httpx.Response, status: int = 422) -> tuple[str, str]:
    assert answer.status_code == status, answer.text[:500]
    said = told(answer, "refused")
    return said["field"], said["says"]
