"""A person who is signed in."""

from __future__ import annotations

from datetime import datetime

from iac.domain.records import ApiToken, Record


class BrowserSession(Record, frozen=True, kw_only=True):
    """A person who signed in with an API token. `csrf` is what the person's own pages send along with each change."""

    id: str
    csrf: str
    created_at: datetime
    seen_at: datetime
    rotated_at: datetime
    expires_at: datetime
    token: ApiToken
