"""State versions and outputs."""

from __future__ import annotations

import msgspec
import trio
from quart import Response

from iac.domain import bodies, state_bodies
from iac.domain.records import StateVerdict
from iac.store import statefiles, variables, workspaces
from iac.web import operations, views
from iac.web.inputs import PageQuery
from iac.web.paging import cut, several
from iac.web.platform import Platform
from iac.web.routing import JSON, MIB, Api, Call, NoQuery
from iac.web.workspaces import WS

TAG = "State"
STATE_TYPES = (JSON, "application/octet-stream")
STATE_LIMIT = 128 * MIB


class UploadQuery(msgspec.Struct, frozen=True):
    """`force` takes another lineage or a lower serial; `lock_token` is that of the lock one holds."""

    force: bool = False
    lock_token: str | None = None


class StatesQuery(PageQuery, frozen=True):
    """`verdict` may be several, separated by commas; without it all but checkpoints."""

    verdict: str | None = None


class RollbackQuery(msgspec.Struct, frozen=True):
    lock_token: str | None = None


def declare(api: Api, platform: Platform) -> None:
    """Puts this module's operations on the table."""
    _reading(api, platform)
    _writing(api, platform)
    _promoting(api, platform)


def _reading(api: Api, platform: Platform) -> None:
    path = f"{WS}/<ws>/state-versions"

    @api.operation(
        "GET", path, "List state versions, newest first", tag=TAG, right="read",
        query=StatesQuery, answer=bodies.StateVersionPage,
    )  # fmt: skip
    async def list_states(call: Call[None, StatesQuery]) -> bodies.StateVersionPage:
        held = await platform.read(workspaces.get, call.path["ws"])
        q = call.query
        verdicts = several(q.verdict, tuple[StateVerdict, ...], "verdict")
        found = await platform.read(statefiles.page, held.id, limit=q.limit + 1, before=q.cursor, verdicts=verdicts)
        page, cursor = cut(found, q.limit, lambda record: record.id)
        return bodies.StateVersionPage(items=[views.state_version(record) for record in page], next_cursor=cursor)

    @api.operation(
        "GET", f"{path}/<which>", "Show a state version: `current`, a serial, or an id", tag=TAG, right="read",
        answer=bodies.StateVersionView,
    )  # fmt: skip
    async def show_state(call: Call[None, NoQuery]) -> bodies.StateVersionView:
        held = await platform.read(workspaces.get, call.path["ws"])
        return views.state_version(await platform.read(statefiles.version, held.id, call.path["which"]))

    @api.operation(
        "GET", f"{path}/<which>/download", "Download a state, byte for byte; audited", tag=TAG, right="state",
        raw_answer=JSON,
    )  # fmt: skip
    async def download_state(call: Call[None, NoQuery]) -> Response:
        held = await platform.read(workspaces.get, call.path["ws"])
        which = call.path["which"]
        data = await platform.database.tx(statefiles.download, platform.keyring, held.id, which, by=call.by)
        return Response(data, content_type=JSON, headers={"Cache-Control": "no-store"})

    @api.operation(
        "GET", f"{WS}/<ws>/outputs", "The outputs of the current state; sensitive values are left out or masked", tag=TAG,
        right="read", answer=bodies.OutputList,
    )  # fmt: skip
    async def list_outputs(call: Call[None, NoQuery]) -> bodies.OutputList:
        held = await platform.read(workspaces.get, call.path["ws"])
        state = await platform.read(statefiles.current, platform.keyring, held.id)
        if state is None:
            return bodies.OutputList(items=[], state_serial=None)
        known = await platform.read(variables.for_bundle, platform.keyring, held.id)
        items = await trio.to_thread.run_sync(operations.shown_outputs, state.data, known)
        return bodies.OutputList(items=items, state_serial=state.serial)


def _writing(api: Api, platform: Platform) -> None:
    path = f"{WS}/<ws>/state-versions"

    @api.operation(
        "POST", path, "Upload a state as the current one", tag=TAG, right="state", status=201, limit=STATE_LIMIT,
        raw_body=STATE_TYPES, query=UploadQuery, answer=bodies.StateVersionView,
        conflicts=("state_serial_too_low", "state_lineage_differs", "workspace_locked"),
    )  # fmt: skip
    async def upload_state(call: Call[bytes, UploadQuery]) -> bodies.StateVersionView:
        q = call.query
        stored = await platform.write(
            statefiles.upload,
            platform.keyring,
            call.path["ws"],
            call.body,
            force=q.force,
            by=call.by,
            token=q.lock_token,
        )
        return views.state_version(stored)

    @api.operation(
        "POST", f"{path}/<int(max=9223372036854775807):serial>/rollback",
        "Make an old state current again, as a new version", tag=TAG,
        right="state", status=201, query=RollbackQuery, answer=bodies.StateVersionView,
        conflicts=("state_lineage_differs", "workspace_locked"),
    )  # fmt: skip
    async def rollback_state(call: Call[None, RollbackQuery]) -> bodies.StateVersionView:
        stored = await platform.write(
            statefiles.roll_back,
            platform.keyring,
            call.path["ws"],
            call.path["serial"],
            by=call.by,
            token=call.query.lock_token,
        )
        return views.state_version(stored)


def _promoting(api: Api, platform: Platform) -> None:
    @api.operation(
        "POST", f"{WS}/<ws>/state-versions/<version>/promote",
        "Make a state that was kept apart (quarantined, or a checkpoint) the current one, as a new version", tag=TAG,
        right="admin", status=201, body=state_bodies.PromoteRequest, answer=bodies.StateVersionView,
        conflicts=("not_apart", "state_moved", "state_lineage_differs", "workspace_locked"),
    )  # fmt: skip
    async def promote_state(call: Call[state_bodies.PromoteRequest, NoQuery]) -> bodies.StateVersionView:
        body = call.body
        stored = await platform.write(
            statefiles.promote,
            platform.keyring,
            call.path["ws"],
            call.path["version"],
            force=body.force,
            expected=body.expected_serial,
            by=call.by,
            token=body.lock_token,
        )
        return views.state_version(stored)
