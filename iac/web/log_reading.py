"""What a viewer of long logs needs beside the bytes: where rows, stages and the first error are, and where a text is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Response, request

from iac.domain.bodies import View
from iac.domain.log_index import LogIndex, Place
from iac.domain.log_search import LogSearch
from iac.errors import Invalid
from iac.store import log_reading, tasks
from iac.store.logs import Part
from iac.web import sse
from iac.web.logs import TAG
from iac.web.platform import Platform
from iac.web.routing import MIB, Api, Call, NoQuery
from iac.web.tasks import ONE

INDEXED_AT_ONCE = 256 * MIB
SEARCHED_AT_ONCE = 256 * MIB
MOST_MATCHES = 5000
Offset = Annotated[int, Meta(ge=0, lt=1 << 62)]


class IndexQuery(msgspec.Struct, frozen=True):
    """Only pages that begin behind the byte `after` are told; those before are known already."""

    after: Annotated[int, Meta(ge=-1, lt=1 << 62)] = -1


class SearchQuery(msgspec.Struct, frozen=True):
    """`text` as people see it, without colours; ASCII letters count as equal in both cases. `span`: bytes to read."""

    text: Annotated[str, Meta(max_length=500)] = ""
    offset: Offset = 0
    span: Annotated[int, Meta(ge=1, le=SEARCHED_AT_ONCE)] = SEARCHED_AT_ONCE

    def __post_init__(self) -> None:
        if any(ord(character) < 32 and character != "\t" for character in self.text):
            raise ValueError("`text` has a control character; a match is within a line")


class StageView(View, frozen=True, kw_only=True):
    """A stage's begin or end, and the row that tells of it."""

    stage: str
    edge: str
    at: str
    detail: str
    offset: int
    row: int
    line: int


class LogIndexView(View, frozen=True, kw_only=True):
    """Pages of rows: page `n` begins at byte `offsets[n]`, which is row `rows[n]` and in line `lines[n]`, all from 0.

    A row is a line, or a piece of one longer than 2,048 bytes. `colours` are the SGR codes in force where a page begins,
    by its place here; `continued` are the places of pages that begin inside a line. The index covers `length` bytes of
    `total`: ask again, with `after`, until it covers all.
    """

    length: int
    total: int
    row_count: int
    line_count: int
    offsets: list[int]
    rows: list[int]
    lines: list[int]
    colours: dict[str, str]
    continued: list[int]
    stages: list[StageView]
    first_error: Place | None


class MatchesView(View, frozen=True, kw_only=True):
    """Byte offsets at which the text was found, one in a row. `next_offset`: go on there; None: all was searched."""

    matches: list[int]
    next_offset: int | None
    total: int


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""

    @api.operation(
        "GET", f"{ONE}/logs/index", "Where rows, stages and the first error are in the log", tag=TAG, right="read",
        query=IndexQuery, answer=LogIndexView, also=(410,),
    )  # fmt: skip
    async def index_log(call: Call[None, IndexQuery]) -> LogIndexView:
        task = await platform.read(tasks.get, call.path["task_id"])
        index, part = await platform.log_indexes.of(task.id, INDEXED_AT_ONCE)
        return _shown(index, part, call.query.after)

    @api.operation(
        "GET", f"{ONE}/logs/search", "Find a text in the log; ask again from `next_offset` on until it is null", tag=TAG,
        right="read", query=SearchQuery, answer=MatchesView, also=(410,),
    )  # fmt: skip
    async def search_log(call: Call[None, SearchQuery]) -> MatchesView:
        task, query = await platform.read(tasks.get, call.path["task_id"]), call.query
        if not query.text:
            raise Invalid("Say what to look for: `text` is empty.", path="$.text")
        sought = LogSearch(query.text, query.offset)
        found, part = await log_reading.search(
            platform.log_cache, task.id, sought, budget=query.span, most=MOST_MATCHES
        )
        over = sought.settled >= part.total
        return MatchesView(matches=found, next_offset=None if over else sought.settled, total=part.total)

    @api.operation(
        "GET", f"{ONE}/logs/raw", "The whole log as a file, as it is stored now", tag=TAG, right="read",
        raw_answer="text/plain", also=(410,),
    )  # fmt: skip
    async def download_log(call: Call[None, NoQuery]) -> Response:
        task = await platform.read(tasks.get, call.path["task_id"])
        part = await platform.log_cache.read(task.id, 0, 1)
        headers = {
            **sse.HEADERS,
            "Content-Disposition": f'attachment; filename="task-{task.id}.log"',
            "Content-Length": str(part.total),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        body = b"" if request.method == "HEAD" else _whole(platform, task.id, part.total)
        response = Response(body, content_type="text/plain; charset=utf-8", headers=headers)
        response.timeout = None
        return response


async def _whole(platform: Platform, task_id: int, length: int) -> AsyncIterator[bytes]:
    offset = 0
    while offset < length:
        part = await platform.log_cache.read(task_id, offset, min(MIB, length - offset))
        if not part.data:
            return
        yield part.data
        offset = part.next_offset


def _shown(index: LogIndex, part: Part, after: int) -> LogIndexView:
    pages = [page for page in index.pages if page.start.offset > after]
    return LogIndexView(
        length=index.length,
        total=part.total,
        row_count=index.rows,
        line_count=index.lines,
        offsets=[page.start.offset for page in pages],
        rows=[page.start.row for page in pages],
        lines=[page.start.line for page in pages],
        colours={str(at): page.colours for at, page in enumerate(pages) if page.colours},
        continued=[at for at, page in enumerate(pages) if page.continued],
        stages=[
            StageView(
                stage=each.mark.stage,
                edge=each.mark.edge,
                at=each.mark.at,
                detail=each.mark.detail,
                offset=each.at.offset,
                row=each.at.row,
                line=each.at.line,
            )
            for each in index.stages
        ],
        first_error=index.first_error,
    )
