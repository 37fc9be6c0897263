"""The tab of the state: tree, history, versions, comparisons, rolling back. What is shown is masked; downloads are not."""

from __future__ import annotations

from functools import partial

import msgspec
import trio

from iac.domain.records import StateVersion, Workspace
from iac.errors import Conflict, Invalid
from iac.executor.terraform import sensitive_values
from iac.store import statefiles, variables, workspaces
from iac.store.database import Connection
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.state_difference import StateDifference, changed_object, state_difference
from iac.web.ui.models.state_document import Secrets, StateDocument, read_state
from iac.web.ui.models.state_tree import StateTree, TreeQuery, one_object, state_tree
from iac.web.ui.models.workspace_state import (
    PAGE,
    ComparePage,
    CompareQuery,
    ObjectChangePage,
    ObjectPage,
    StateQuery,
    StateVersionPage,
    WorkspaceState,
    compare_page,
    compare_path,
    state_path,
    state_version_page,
    workspace_state,
)
from iac.web.ui.pages import Done, PageCall, Ui
from iac.web.ui.shelf import Shelf
from iac.web.ui.workspace import WS, current_state, rights_of

STATE = f"{WS}/state"


class Typed(msgspec.Struct, frozen=True):
    """What was typed to be sure."""

    typed: str = ""


class Promotion(msgspec.Struct, frozen=True):
    """`expected` is the current serial that was looked at, empty if there was no state."""

    typed: str = ""
    expected: str = ""
    force: bool = False


class States:
    """Versions of states, read once: they never change."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._shelf = Shelf[StateDocument]()
        self._trees = Shelf[StateTree]()
        self._differences = Shelf[StateDifference]()

    async def document(self, held: Workspace, version: StateVersion) -> StateDocument:
        """Raises Invalid where the version is no state at all."""

        async def read() -> tuple[StateDocument, int]:
            data = await self._platform.read(statefiles.contents, self._platform.keyring, held.id, version.id)
            return await trio.to_thread.run_sync(read_state, data), len(data)

        return await self._shelf.get(version.id, read)

    async def tree(
        self, held: Workspace, version: StateVersion, query: TreeQuery, base: str
    ) -> tuple[StateTree | None, str]:
        """The tree, or why there is none."""
        try:
            document = await self.document(held, version)
        except Invalid as refused:
            return None, refused.message
        secrets = await self.secrets(held)
        parts = f"{state_path(held)}/{version.id}/objects"
        make = partial(state_tree, document, secrets, query, base=base, parts=parts)
        return await self._trees.made((version.id, query, base, secrets.key), make), ""

    async def difference(
        self, held: Workspace, before: StateVersion, after: StateVersion, *, whole: bool
    ) -> StateDifference:
        """Raises Invalid where one of them is no state at all."""
        one, other = await self.document(held, before), await self.document(held, after)
        secrets = await self.secrets(held)
        parts = compare_path(held, before.id, after.id).replace("/compare?", "/compare/{key}?")
        make = partial(state_difference, one, other, secrets, parts=parts, whole=whole)
        return await self._differences.made((before.id, after.id, parts, whole, secrets.key), make)

    async def secrets(self, held: Workspace) -> Secrets:
        """What the workspace's own variables hide."""
        known = await self._platform.read(variables.for_bundle, self._platform.keyring, held.id)
        return Secrets(sensitive_values(known))


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and the deed on the table."""
    states = States(platform)
    _versions(ui, platform, states)
    _comparisons(ui, platform, states)
    _deeds(ui, platform)


def _versions(ui: Ui, platform: Platform, states: States) -> None:
    @ui.page(STATE, "workspace/state.html", query=StateQuery, topics=("workspaces",))
    async def show_state_tab(call: PageCall[StateQuery]) -> WorkspaceState:
        query = call.query
        held, found, current = await platform.read(_history, call.path["ws"], query.before or None)
        tree, problem = None, ""
        if current is not None:
            tree, problem = await states.tree(held, current, TreeQuery(q=query.q, all=query.all), state_path(held))
        return workspace_state(held, query, found, current, tree, problem=problem, rights=rights_of(call.me))

    @ui.page(f"{STATE}/<which>", "workspace/state_version.html", query=TreeQuery, topics=("workspaces",))
    async def show_state_version(call: PageCall[TreeQuery]) -> StateVersionPage:
        held, version = await platform.read(_version, call.path["ws"], call.path["which"])
        tree, problem = await states.tree(held, version, call.query, f"{state_path(held)}/{version.id}")
        return state_version_page(held, version, tree, problem=problem, rights=rights_of(call.me))

    @ui.page(f"{STATE}/<which>/objects/<key>", "workspace/object.html")
    async def show_object(call: PageCall[NoQuery]) -> ObjectPage:
        held, version = await platform.read(_version, call.path["ws"], call.path["which"])
        document, secrets = await states.document(held, version), await states.secrets(held)
        leaf = await trio.to_thread.run_sync(one_object, document, secrets, call.path["key"])
        back = f"{state_path(held)}/{version.id}"
        return ObjectPage(title=leaf.address, back=back, leaf=leaf, bare=answers.asked_by_script())


def _comparisons(ui: Ui, platform: Platform, states: States) -> None:
    path = f"{STATE}/compare"

    @ui.page(path, "workspace/compare.html", query=CompareQuery, topics=("workspaces",))
    async def compare_states(call: PageCall[CompareQuery]) -> ComparePage:
        query = call.query
        held, before, after = await platform.read(_two, call.path["ws"], query)
        difference: StateDifference | None = None
        problem = ""
        try:
            difference = await states.difference(held, before, after, whole=query.all == "yes")
        except Invalid as refused:
            problem = refused.message
        return compare_page(held, before, after, difference, problem=problem, rights=rights_of(call.me))

    @ui.page(f"{path}/<key>", "workspace/object_change.html", query=CompareQuery)
    async def show_object_change(call: PageCall[CompareQuery]) -> ObjectChangePage:
        held, before, after = await platform.read(_two, call.path["ws"], call.query)
        one, other = await states.document(held, before), await states.document(held, after)
        secrets, key = await states.secrets(held), call.path["key"]
        change = await trio.to_thread.run_sync(changed_object, one, other, secrets, key)
        back = compare_path(held, before.id, after.id)
        return ObjectChangePage(title=change.address, back=back, change=change, bare=answers.asked_by_script())


def _deeds(ui: Ui, platform: Platform) -> None:
    @ui.deed(f"{STATE}/<which>/rollback", "state", form=Typed)
    async def roll_back_state(call: PageCall[Typed]) -> Done:
        held, version = await platform.read(_version, call.path["ws"], call.path["which"])
        if call.query.typed != held.name:
            raise Invalid(f"Type the workspace's name, {held.name}, to roll its state back.", path="$.typed")
        by_serial = await platform.read(statefiles.version, held.id, str(version.serial))
        if by_serial.id != version.id:
            raise Conflict(
                f"Another version has serial {version.serial} as well. Download this one, and upload it by hand.",
                code="serial_taken",
            )
        stored = await platform.write(
            statefiles.roll_back, platform.keyring, held.id, version.serial, by=call.me.name, token=None
        )
        back = state_path(held)
        return Done(
            says=f"The state of #{version.serial} is current again, as #{stored.serial}.", location=back, back=back
        )

    @ui.deed(f"{STATE}/<which>/promote", "admin", form=Promotion)
    async def promote_state_apart(call: PageCall[Promotion]) -> Done:
        form = call.query
        held, version = await platform.read(_version, call.path["ws"], call.path["which"])
        if form.typed != held.name:
            raise Invalid(f"Type the workspace's name, {held.name}, to replace its state.", path="$.typed")
        promote = partial(
            statefiles.promote, force=form.force, by=call.me.name, token=None,
            expected=int(form.expected) if form.expected.isdecimal() else None,
        )  # fmt: skip
        stored = await platform.write(promote, platform.keyring, held.id, version.id)
        back = state_path(held)
        return Done(says=f"The state is current now, as #{stored.serial}.", location=back, back=back)


async def _history(
    c: Connection, key: str, before: str | None
) -> tuple[Workspace, list[StateVersion], StateVersion | None]:
    held = await workspaces.get(c, key)
    found = await statefiles.page(c, held.id, limit=PAGE + 1, before=before)
    return held, found, await current_state(c, held)


async def _version(c: Connection, key: str, which: str) -> tuple[Workspace, StateVersion]:
    held = await workspaces.get(c, key)
    return held, await statefiles.version(c, held.id, which)


async def _two(c: Connection, key: str, query: CompareQuery) -> tuple[Workspace, StateVersion, StateVersion]:
    held = await workspaces.get(c, key)
    if not query.before:
        raise Invalid("Choose two versions of the state to compare.", path="$.before")
    one = await statefiles.version(c, held.id, query.before)
    return held, one, await statefiles.version(c, held.id, query.after or "current")
