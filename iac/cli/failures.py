"""What is said when a command cannot do its work: what went wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from itertools import islice

from iac.cli.session import LOCAL, Session
from iac.cli.transport import ApiError, BadServer, Unreachable
from iac.errors import IacError

SEARCHED = 1000
"""Among how many workspaces a name like the unknown one is looked for."""


_LISTS = {"pool": "iac pool list", "agent": "iac agent list"}
_NEXT = {
    "workspace_locked": "If nobody is at work there: iac workspace unlock NAME --force",
    "pool_not_allowed": "An admin does so with: iac pool allow POOL WORKSPACE",
    "pool_in_use": "What uses it: iac pool workspaces POOL, iac task list",
    "agents_online": "Which they are: iac agent list --pool POOL",
    "agent_busy": "To give it nothing new: iac agent drain AGENT",
}
"""What to do about a refusal, by its code."""


class Refused(Exception):
    """The command line itself, or its user, said no."""


Failure = ApiError | Unreachable | BadServer | IacError | Refused
FAILURES = (ApiError, Unreachable, BadServer, IacError, Refused)


def message_of(failure: Failure, session: Session) -> str:
    """For people; the first line says what happened."""
    if isinstance(failure, Unreachable):
        return f"The server cannot be reached.\n{failure.url}: {failure.why}\n{_how_to_reach(failure, session)}"
    if not isinstance(failure, ApiError):
        return str(failure)
    if failure.status == 401:
        how = "Log in first" if session.token is None else "Log in again"
        return f"{failure.message}\n{how}: iac login --url {session.url}"
    if failure.extras.get("kind") in _LISTS:
        return f"{failure.message}\nThose there are: {_LISTS[failure.extras['kind']]}"
    if failure.status == 404 and failure.code == "not_found" and session.workspace_given is not None:
        return f"{failure.message}{_suggestion(session, session.workspace_given)}"
    if failure.code in _NEXT:
        return f"{failure.message}\n{_NEXT[failure.code]}"
    return failure.message


def _how_to_reach(failure: Unreachable, session: Session) -> str:
    if "CERTIFICATE" in failure.why.upper():
        return "If its certificate is your own authority's, say so with --ca-file FILE or IAC_CA_FILE."
    if failure.url == LOCAL:
        return "Start a server with `python -m iac.server`, or name another one with --url or IAC_URL."
    given = session.options.url or session.env.get("IAC_URL")
    return "Is it running, and is this the right address?" + ("" if given else " Name another one with --url.")


def _suggestion(session: Session, name: str) -> str:
    """Which workspace may have been meant; nothing if the workspace is not what is missing."""
    try:
        found = list(islice(session.client.workspaces(), SEARCHED))
    except (ApiError, Unreachable):
        return ""
    if any(name in (workspace.name, workspace.id) for workspace in found):
        return ""
    names = [workspace.name for workspace in found]
    by_folded = {known.casefold(): known for known in names}
    close = [by_folded[match] for match in get_close_matches(name.casefold(), by_folded, n=3)]
    if close:
        return f"\nDid you mean {' or '.join(close)}?"
    if not names:
        return f"\nThere are no workspaces yet: iac workspace create {name}"
    return f"\nThere are: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}"


def document_of(failure: Failure, session: Session) -> Mapping[str, object]:
    """For programs: the server's own form of an error."""
    if isinstance(failure, ApiError):
        own = {"code": failure.code, "message": failure.message, "retryable": failure.retryable}
        return {"error": {**failure.extras, **own}}
    if isinstance(failure, Unreachable):
        return {"error": {"code": "unreachable", "message": str(failure), "retryable": True, "url": failure.url}}
    code = failure.code if isinstance(failure, IacError) else "refused"
    return {"error": {"code": code, "message": str(failure), "retryable": False}}
