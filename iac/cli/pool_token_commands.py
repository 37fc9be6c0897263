"""iac pool token: what agents of a pool register with."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from iac.cli.failures import Refused
from iac.cli.session import Group, Session, pass_session
from iac.cli.times import Span, ago, spelled
from iac.domain.ids import is_id
from iac.domain.pool_bodies import PoolTokenCreate, PoolTokenRotate, PoolTokenView

DAY = 86400
_pool = click.argument("pool", metavar="POOL")
# Not `token`: that is the name of a global option.
_token = click.argument("chosen", metavar="TOKEN")
_expires = click.option(
    "--expires", "expires_in_s", type=Span(60, 3650 * DAY), metavar="SPAN", help="Good for so long, e.g. 90d or 12h."
)


@click.group("token", cls=Group)
def token_group() -> None:
    """Tokens with which agents join a pool. TOKEN is an id, or the name of one that is good. Needs an admin."""


@token_group.command("list")
@_pool
@pass_session
def list_tokens(session: Session, *, pool: str) -> None:
    """List a pool's tokens, oldest first; what they are is never shown again."""
    found = session.client.pool_tokens(pool)
    if session.terminal.json:
        session.terminal.document({"items": found})
        return
    headers = ("Name", "Id", "Standing", "Created", "By", "Last used")
    empty = f"Pool {pool} has no tokens yet: iac pool token create {pool} NAME"
    session.terminal.table(headers, map(_row, found), empty=empty)


def _row(token: PoolTokenView) -> tuple[object, ...]:
    used = ago(token.last_used_at) + (f" from {token.last_ip}" if token.last_used_at and token.last_ip else "")
    return token.name, token.id, _standing(token), f"{token.created_at:%Y-%m-%d %H:%M}", token.created_by, used


def _standing(token: PoolTokenView) -> str:
    if token.revoked_at is not None:
        return f"revoked ({token.revoke_mode})"
    if token.expires_at is None:
        return "good"
    left = (token.expires_at - datetime.now(UTC)).total_seconds()
    word = "replaced, good" if token.replaced_by else "good"
    return f"{word} for {spelled(left)}" if left > 0 else "replaced" if token.replaced_by else "expired"


def _is_good(token: PoolTokenView) -> bool:
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > datetime.now(UTC))


@token_group.command("create")
@_pool
@click.argument("name")
@_expires
@pass_session
def create(session: Session, *, pool: str, name: str, expires_in_s: int | None) -> None:
    """Create a token; it is printed once, alone on stdout."""
    body = PoolTokenCreate(name=name, expires_in_s=expires_in_s)
    _given_out(session, session.client.create_pool_token(pool, body))
    session.terminal.note(f"Start an agent with it: IAC_API_ENDPOINT={session.url} IAC_AGENT_TOKEN=… IAC_AGENT_NAME=…")


def _given_out(session: Session, made: PoolTokenView) -> None:
    if session.terminal.json:
        session.terminal.document(made)
    else:
        session.terminal.print(made.token or "")
    until = "" if made.expires_at is None else f" It is good until {made.expires_at:%Y-%m-%d %H:%M} UTC."
    session.terminal.note(f"Token {made.name} ({made.id}). It is not shown again: keep it now.{until}")


@token_group.command("rotate")
@_pool
@_token
@click.option(
    "--overlap",
    type=Span(0, 30 * DAY),
    default="1h",
    show_default=True,
    metavar="SPAN",
    help="How long the old token still registers agents.",
)
@_expires
@pass_session
def rotate(session: Session, *, pool: str, chosen: str, overlap: int, expires_in_s: int | None) -> None:
    """Replace a token; the new one is printed once, alone on stdout. Without --expires it lives as long as the old one."""
    old = _found(session, pool, chosen)
    body = PoolTokenRotate(overlap_s=overlap, expires_in_s=expires_in_s)
    _given_out(session, session.client.rotate_pool_token(pool, old.id, body))
    session.terminal.note(f"The old one ({old.id}) registers agents for {spelled(overlap)} more.")


@token_group.command("revoke")
@_pool
@_token
@click.option("--hard", is_flag=True, help="End its agents' sessions at once, and stop what they run.")
@pass_session
def revoke(session: Session, *, pool: str, chosen: str, hard: bool) -> None:
    """Revoke a token: it registers nobody any more, and its agents finish what they have and get nothing new."""
    terminal, before = session.terminal, _found(session, pool, chosen)
    session.client.revoke_pool_token(pool, before.id, "hard" if hard else "soft")
    after = next(each for each in session.client.pool_tokens(pool) if each.id == before.id)
    if terminal.json:
        terminal.document(after)
    if before.revoke_mode == after.revoke_mode:
        terminal.note(
            f"Token {after.name} ({after.id}) was revoked already, {after.revoke_mode}, {ago(after.revoked_at)}."
        )
        return
    what = "are shut out" if after.revoke_mode == "hard" else "finish what they have and get nothing new"
    terminal.note(f"Token {after.name} ({after.id}) is revoked; its agents {what}.")


def _found(session: Session, pool: str, wanted: str) -> PoolTokenView:
    """By id; by name among those that are good, or else the one that there is of that name. Raises Refused."""
    tokens = session.client.pool_tokens(pool)
    named = [each for each in tokens if wanted == (each.id if is_id(wanted) else each.name)]
    chosen = [each for each in named if _is_good(each) and each.replaced_by is None] or named
    if not named:
        raise Refused(f"Pool {pool} has no token {wanted!r}.\nSee iac pool token list {pool}")
    if len(chosen) > 1:
        ids = ", ".join(each.id for each in chosen)
        raise Refused(f"Pool {pool} has several tokens named {wanted!r}; say which one by its id: {ids}.")
    return chosen[0]
