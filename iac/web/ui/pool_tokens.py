"""A pool's tokens: made and shown once with the commands that use them, rotated, revoked."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from iac.domain.records import Pool, PoolToken, RevokeMode
from iac.errors import Invalid, NotFound
from iac.store import pool_pages, pools, tokens
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.gate import origin
from iac.web.ui.models.joining import recipes, warning
from iac.web.ui.models.pool_words import pool_path
from iac.web.ui.models.sheets import DAY, LIFETIMES, PoolAsked, TokenAsked, TokenMade, about_pool, about_token
from iac.web.ui.pages import Done, Made, PageCall, Ui
from iac.web.ui.pool_page import POOL

TOKEN = f"{POOL}/tokens/<token_id>"
LONGEST_NAME, LONGEST_OVERLAP = 90, 30 * DAY


class TokenForm(msgspec.Struct, frozen=True):
    """`lifetime` in seconds, 0 for ever."""

    name: str = ""
    lifetime: int = 0


class RotateForm(msgspec.Struct, frozen=True):
    overlap: int = 0


class RevokeForm(msgspec.Struct, frozen=True):
    """`typed` is the token's name, where its agents are shut out."""

    mode: RevokeMode = "soft"
    typed: str = ""
    leave: str = ""


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""
    _make(ui, platform)
    _rotate(ui, platform)
    _revoke(ui, platform)


def _make(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{POOL}/tokens/new", "agents/new_token.html", right="admin")
    async def show_new_pool_token(call: PageCall[NoQuery]) -> PoolAsked:
        pool = await platform.read(pools.get, call.path["pool"])
        return about_pool(f"Add an agent to {pool.name}", pool, "tokens", bare=answers.asked_by_script())

    @ui.deed(f"{POOL}/tokens", "admin", form=TokenForm)
    async def make_pool_token(call: PageCall[TokenForm]) -> Made:
        name = named(call.query.name)
        lifetime = lifetime_of(call.query.lifetime)
        pool = await platform.read(pools.get, call.path["pool"])
        expires = None if lifetime is None else await platform.read(tokens.now) + lifetime
        _, token = await platform.write(pools.create_token, pool.id, name, call.me.name, expires)
        return _made(pool, f"Token {name} of {pool.name}", token)


def _rotate(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{TOKEN}/rotate", "agents/rotate.html", right="admin")
    async def show_rotate(call: PageCall[NoQuery]) -> TokenAsked:
        pool, token = await _token(platform, call.path["pool"], call.path["token_id"])
        return about_token(f"Rotate {token.name}", pool, token, "rotate", bare=answers.asked_by_script())

    @ui.deed(f"{TOKEN}/rotate", "admin", form=RotateForm)
    async def rotate_pool_token_typed(call: PageCall[RotateForm]) -> Made:
        if not 0 <= call.query.overlap <= LONGEST_OVERLAP:
            raise Invalid("From 0 to 30 days.", path="$.overlap")
        pool, old = await _token(platform, call.path["pool"], call.path["token_id"])
        overlap = timedelta(seconds=call.query.overlap)
        _, token = await platform.write(pools.rotate_token, pool.id, old.id, by=call.me.name, overlap=overlap)
        return _made(pool, f"The new {old.name} of {pool.name}", token)


def _revoke(ui: Ui, platform: Platform) -> None:
    @ui.page(f"{TOKEN}/revoke", "agents/revoke.html", right="admin")
    async def show_revoke(call: PageCall[NoQuery]) -> TokenAsked:
        pool, token = await _token(platform, call.path["pool"], call.path["token_id"])
        return about_token(f"Revoke {token.name}", pool, token, "revoke", bare=answers.asked_by_script())

    @ui.deed(f"{TOKEN}/revoke", "admin", form=RevokeForm)
    async def revoke_pool_token_typed(call: PageCall[RevokeForm]) -> Done:
        form = call.query
        pool, token = await _token(platform, call.path["pool"], call.path["token_id"])
        if form.mode == "hard" and form.typed != token.name:
            raise Invalid(f"Type the token's name, {token.name}, to shut its agents out.", path="$.typed")
        await platform.write(pools.revoke_token, pool.id, token.id, mode=form.mode, by=call.me.name)
        await platform.fleet.reconsider()
        platform.news.anything()
        says = "Its agents are shut out." if form.mode == "hard" else "Its agents finish what they have."
        back = pool_path(pool.name)
        return Done(says=f"{token.name} is revoked. {says}", back=back, location=back if form.leave else None)


async def _token(platform: Platform, pool: str, token_id: str) -> tuple[Pool, PoolToken]:
    held, found = await platform.read(pool_pages.token, pool, token_id)
    if found is None:
        raise NotFound(f"Pool {held.name} has no such token.", kind="pool_token")
    return held, found


def _made(pool: Pool, title: str, token: str) -> Made:
    endpoint = origin()
    view = TokenMade(
        title=title,
        token=token,
        says=warning(endpoint),
        back=pool_path(pool.name),
        bare=answers.asked_by_script(),
        recipes=recipes(endpoint, token, kubernetes_first=pool.kind == "k8s"),
    )
    return Made(template="agents/made.html", view=view)


def named(name: str) -> str:
    """A name for a token. Raises Invalid."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise Invalid(f"Give it a name of up to {LONGEST_NAME} characters, to know it by later.", path="$.name")
    return name.strip()


def lifetime_of(seconds: int) -> timedelta | None:
    """One of those that are offered. Raises Invalid."""
    if seconds not in dict(LIFETIMES):
        raise Invalid("Choose one of those that are offered.", path="$.lifetime")
    return timedelta(seconds=seconds) if seconds else None
