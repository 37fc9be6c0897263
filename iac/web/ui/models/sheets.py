"""Forms about pools, agents and tokens: each stands on a page of its own, or in a dialog where it is `bare`."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from iac.domain.pool_bodies import AgentView
from iac.domain.records import ApiToken, Pool, PoolToken, Workspace
from iac.web.ui.models.agents import agent_path
from iac.web.ui.models.joining import Recipe
from iac.web.ui.models.parts import Asked, Sure, View
from iac.web.ui.models.pool_words import PATH, pool_path

TOKENS = "/tokens"
HOUR, DAY = 3600, 86400
LIFETIMES: tuple[tuple[int, str], ...] = (
    (0, "Never, until it is revoked"),
    (HOUR, "In an hour"),
    (DAY, "In a day"),
    (7 * DAY, "In a week"),
    (30 * DAY, "In 30 days"),
    (90 * DAY, "In 90 days"),
    (365 * DAY, "In a year"),
)
OVERLAPS: tuple[tuple[int, str], ...] = (
    (0, "At once"),
    (HOUR, "For an hour"),
    (2 * HOUR, "For two hours"),
    (DAY, "For a day"),
    (7 * DAY, "For a week"),
    (30 * DAY, "For 30 days"),
)


class PoolSheet(Asked, frozen=True, kw_only=True):
    """`known` is the pool that is changed, None for a new one; `networks` has one a line."""

    known: Pool | None
    networks: str


class PoolAsked(Asked, frozen=True, kw_only=True):
    """About a pool as a whole. `choices` are names to choose from."""

    pool: Pool
    choices: tuple[str, ...] = ()
    lifetimes: tuple[tuple[int, str], ...] = LIFETIMES


class TokenAsked(Asked, frozen=True, kw_only=True):
    """About one of a pool's tokens, with which `agents` have come."""

    pool: str
    token: PoolToken
    overlaps: tuple[tuple[int, str], ...] = OVERLAPS


class AgentAsked(Asked, frozen=True, kw_only=True):
    agent: AgentView


class ApiTokenAsked(Asked, frozen=True, kw_only=True):
    """A new API token, or `token` which is to be revoked. `own`: whoever asks is signed in with it."""

    token: ApiToken | None = None
    own: bool = False
    lifetimes: tuple[tuple[int, str], ...] = LIFETIMES


class TokenMade(View, frozen=True, kw_only=True):
    """A token, for the only time that it is seen. `recipes` tell how agents use it."""

    token: str
    says: str
    back: str
    bare: bool
    recipes: tuple[Recipe, ...] = ()

    def __repr__(self) -> str:
        return f"TokenMade(says={self.says!r})"


def pool_sheet(known: Pool | None, *, bare: bool) -> PoolSheet:
    return PoolSheet(
        title="New pool" if known is None else f"Settings of {known.name}",
        back=PATH if known is None else pool_path(known.name),
        back_words="Agents" if known is None else known.name,
        action=f"{PATH}/pools" if known is None else f"{pool_path(known.name)}/settings",
        bare=bare,
        known=known,
        networks="" if known is None else "\n".join(known.networks),
    )


def about_pool(title: str, pool: Pool, deed: str, *, bare: bool, choices: Sequence[str] = ()) -> PoolAsked:
    """`deed` is the end of the address that does it."""
    path = pool_path(pool.name)
    return PoolAsked(
        title=title, back=path, back_words=pool.name, action=f"{path}/{deed}", bare=bare, pool=pool,
        choices=tuple(choices),
    )  # fmt: skip


def disallow_sheet(pool: Pool, workspace: Workspace, *, bare: bool) -> Sure:
    path = pool_path(pool.name)
    says = f"{pool.name} may not serve it any more; an admin can allow it again."
    if workspace.pool_id == pool.id:
        says += " What waits for the pool goes on waiting, and data that was not fetched yet is not given out."
    return Sure(
        title=f"Disallow {workspace.name}",
        back=path,
        back_words=pool.name,
        action=f"{path}/workspaces/{quote(workspace.id, safe='')}/disallow",
        bare=bare,
        says=says,
        does="Disallow",
    )


def about_token(title: str, pool: Pool, token: PoolToken, deed: str, *, bare: bool) -> TokenAsked:
    path = pool_path(pool.name)
    return TokenAsked(
        title=title, back=path, back_words=pool.name, action=f"{path}/tokens/{token.id}/{deed}", bare=bare,
        pool=pool.name, token=token,
    )  # fmt: skip


def about_agent(title: str, agent: AgentView, deed: str, *, bare: bool) -> AgentAsked:
    path = agent_path(agent.id)
    return AgentAsked(title=title, back=path, back_words=agent.name, action=f"{path}/{deed}", bare=bare, agent=agent)


def api_token_sheet(token: ApiToken | None, *, own: bool = False, bare: bool) -> ApiTokenAsked:
    return ApiTokenAsked(
        title="New API token" if token is None else f"Revoke {token.name}",
        back=TOKENS,
        back_words="API tokens",
        action=TOKENS if token is None else f"{TOKENS}/{token.id}/revoke",
        bare=bare,
        token=token,
        own=own,
    )
