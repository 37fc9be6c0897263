"""The list of workspaces as people look through it: searched, filtered, counted, sorted and cut into pages here.

Rows and counters come from the same view, so that they cannot disagree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from iac.domain.glances import Condition, LastTask, WorkspaceGlance, WorkspaceSort
from iac.store.database import Connection, Row
from iac.store.workspaces import escaped

MOST_TAGS = 200
_ORDERS: Mapping[str, str] = {
    "name": "lower(name), name",
    "state": "rank, lower(name), name",
    "resources": "COALESCE(resource_count, 0), lower(name), name",
    "changed": "changed_at, name",
}
_BACKWARDS: Mapping[str, str] = {
    "name": "lower(name) DESC, name DESC",
    "state": "rank DESC, lower(name), name",
    "resources": "COALESCE(resource_count, 0) DESC, lower(name), name",
    "changed": "changed_at DESC, name",
}
_LAST = ("id", "action", "phase", "status", "outcome", "has_changes", "created_by")
# The tasks that are open are few and have an index of their own; of the others only the last one counts. LIMIT makes it one
# look into the index for each workspace, where PostgreSQL would rather read all tasks there ever were.
_SHOWN = f"""
WITH open AS (
    SELECT workspace_id, max(id) FILTER (WHERE status IN ('planned', 'lost')) AS asks,
           max(id) FILTER (WHERE status IN ('assigned', 'running', 'cancelling')) AS runs,
           max(id) FILTER (WHERE status IN ('pending', 'queued')) AS waits
    FROM task WHERE status NOT IN ('cancelled', 'succeeded', 'failed') GROUP BY workspace_id
), shown AS (
    SELECT w.id, w.name, w.description, w.execution_mode, p.name AS pool_name, w.tags, w.lock_kind, w.lock_owner,
           w.lock_reason, w.locked_at, w.state_uncertain, v.resource_count,
           {", ".join(f"t.{name} AS last_{name}" for name in _LAST)},
           GREATEST(t.created_at, t.queued_at, t.started_at, t.planned_at, t.finished_at) AS last_at,
           COALESCE(GREATEST(t.created_at, t.queued_at, t.started_at, t.planned_at, t.finished_at), w.updated_at)
               AS changed_at,
           CASE WHEN o.asks IS NOT NULL OR w.state_uncertain THEN 'attention' WHEN o.runs IS NOT NULL THEN 'running'
                WHEN o.waits IS NOT NULL THEN 'waiting' WHEN t.status = 'failed' THEN 'failed'
                WHEN t.id IS NULL THEN 'new' ELSE 'idle' END AS condition
    FROM workspace w
    LEFT JOIN agent_pool p ON p.id = w.pool_id
    LEFT JOIN open o ON o.workspace_id = w.id
    LEFT JOIN state_version v ON v.workspace_id = w.id AND v.verdict = 'current'
    LEFT JOIN LATERAL (SELECT max(id) AS id FROM task WHERE workspace_id = w.id) l ON true
    LEFT JOIN LATERAL (SELECT * FROM task WHERE id = COALESCE(o.asks, o.runs, o.waits, l.id) LIMIT 1) t ON true
), ranked AS (
    SELECT *, array_position(ARRAY['attention', 'failed', 'running', 'waiting', 'idle', 'new'], condition) AS rank
    FROM shown
)
"""


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What the list is narrowed to; None means all. `tag` is `key` or `key=value`, `pool` a pool's name."""

    search: str | None = None
    condition: Condition | None = None
    mode: Literal["local", "agent"] | None = None
    pool: str | None = None
    tag: str | None = None
    locked: bool = False

    def conditions(self) -> tuple[str, dict[str, object]]:
        """All but the condition, which is what the counters are for."""
        parts, values = ["true"], dict[str, object]()
        if self.search:
            parts.append("(name ILIKE :search OR description ILIKE :search)")
            values["search"] = f"%{escaped(self.search)}%"
        if self.mode is not None:
            parts.append("execution_mode = :mode")
            values["mode"] = self.mode
        if self.pool is not None:
            parts.append("pool_name = :pool")
            values["pool"] = self.pool
        if self.tag is not None:
            key, equals, value = self.tag.partition("=")
            parts.append("tags ->> :tag_key = :tag_value" if equals else "tags ? :tag_key")
            values["tag_key"] = key
            if equals:
                values["tag_value"] = value
        if self.locked:
            parts.append("lock_kind = 'user'")
        return " AND ".join(parts), values


class Listed(msgspec.Struct, frozen=True):
    """A page, and how many there are of each condition under the filter without its condition."""

    page: list[WorkspaceGlance]
    counts: Mapping[Condition, int]


async def listed(c: Connection, chosen: Chosen, *, sort: WorkspaceSort, limit: int, offset: int) -> Listed:
    """Rows and counters by one statement: to find out the condition of all is what takes the time."""
    where, values = chosen.conditions()
    condition = "true"
    if chosen.condition is not None:
        condition = "condition = :condition"
        values["condition"] = chosen.condition
    order = _BACKWARDS[sort[1:]] if sort.startswith("-") else _ORDERS[sort]
    rows = await c.all(
        f"""{_SHOWN}, chosen AS MATERIALIZED (SELECT * FROM ranked WHERE {where}),
            counted AS (SELECT jsonb_object_agg(condition, n) AS counts
                        FROM (SELECT condition, count(*) AS n FROM chosen GROUP BY condition) each),
            page AS (SELECT *, row_number() OVER (ORDER BY {order}) AS place FROM chosen WHERE {condition}
                     ORDER BY {order} LIMIT :limit OFFSET :offset)
            SELECT * FROM counted LEFT JOIN page ON true ORDER BY place""",
        limit=limit,
        offset=offset,
        **values,
    )
    counts: dict[Condition, int] = json.loads(rows[0]["counts"] or "{}")
    return Listed([_glance(row) for row in rows if row["id"] is not None], counts)


async def tags(c: Connection) -> list[str]:
    """The tags in use as `key=value`, the most frequent ones if there are very many, by name."""
    rows = await c.all(
        """SELECT e.key || '=' || e.value AS tag FROM workspace, jsonb_each_text(tags) AS e
           GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT :most""",
        most=MOST_TAGS,
    )
    return sorted(row["tag"] for row in rows)


def _glance(row: Row) -> WorkspaceGlance:
    own = {name: row[name] for name in WorkspaceGlance.__struct_fields__ if name not in ("last", "tags")}
    return WorkspaceGlance(last=_last(row, row["last_at"]), tags=json.loads(row["tags"]), **own)


def _last(row: Row, at: datetime | None) -> LastTask | None:
    if row["last_id"] is None or at is None:
        return None
    values: dict[str, Any] = {name: row[f"last_{name}"] for name in _LAST}
    return LastTask(at=at, **values)
