"""The tabs of variables and resource blocks: lists, forms, and what they do."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec

from iac.domain.assembly import ResourceSpec
from iac.domain.records import Category, Resource, Workspace
from iac.domain.variables import check_name, check_value
from iac.errors import Invalid, NotFound, TooLarge
from iac.store import resources, variables, workspaces
from iac.store.database import Connection
from iac.web.inputs import check_block
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.parts import Leave, Sure
from iac.web.ui.models.workspace import path_of
from iac.web.ui.models.workspace_inputs import (
    ResourceSheet,
    VariableSheet,
    WorkspaceResources,
    WorkspaceVariables,
    drop_resource_sheet,
    drop_variable_sheet,
    resource_sheet,
    variable_sheet,
    workspace_resources,
    workspace_variables,
)
from iac.web.ui.pages import Done, PageCall, Ui
from iac.web.ui.workspace import TOPICS, WS, rights_of


class VariableForm(msgspec.Struct, frozen=True):
    """`leave`: the form had a page of its own, which one leaves when it is done."""

    key: str = ""
    value: str = ""
    category: Category = "terraform"
    hcl: bool = False
    sensitive: bool = False
    description: str = ""
    version: int = 0
    leave: str = ""


class ResourceForm(msgspec.Struct, frozen=True):
    """`body` is JSON, as a person writes it."""

    type: str = ""
    name: str = ""
    mode: Literal["managed", "data"] = "managed"
    body: str = ""
    version: int = 0
    leave: str = ""


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""
    _variables(ui, platform)
    _resources(ui, platform)


def _variables(ui: Ui, platform: Platform) -> None:
    path = f"{WS}/variables"

    @ui.page(path, "workspace/variables.html", topics=TOPICS)
    async def show_variables(call: PageCall[NoQuery]) -> WorkspaceVariables:
        held = await platform.read(workspaces.get, call.path["ws"])
        found = await platform.read(variables.listed, platform.keyring, held.id)
        return workspace_variables(held, found, rights_of(call.me))

    @ui.page(f"{path}/<var>", "workspace/variable.html", right="write")
    async def show_variable(call: PageCall[NoQuery]) -> VariableSheet:
        held = await platform.read(workspaces.get, call.path["ws"])
        var = call.path["var"]
        known = None if var == "new" else await platform.read(variables.get, platform.keyring, held.id, var)
        return variable_sheet(held, known, bare=answers.asked_by_script())

    @ui.deed(path, "write", form=VariableForm)
    async def make_variable(call: PageCall[VariableForm]) -> Done:
        form = call.query
        held = await platform.read(workspaces.get, call.path["ws"])
        check_name(form.category, form.key)
        value = _value(form.category, form.value, hcl=form.hcl)
        create = partial(
            variables.create, key=form.key, value=value, category=form.category, hcl=form.hcl,
            sensitive=form.sensitive, description=short(form.description), by=call.me.name,
        )  # fmt: skip
        await platform.write(create, platform.keyring, held.id)
        return _done(held, "variables", f"Variable {form.key} is set.", form.leave)

    @ui.deed(f"{path}/<var>", "write", form=VariableForm)
    async def set_variable(call: PageCall[VariableForm]) -> Done:
        form = call.query
        held = await platform.read(workspaces.get, call.path["ws"])
        before = await platform.read(variables.get, platform.keyring, held.id, call.path["var"])
        # Nobody can be shown a sensitive value, so an empty field leaves it as it is.
        unchanged = before.sensitive and not form.value
        value = None if unchanged else _value(before.category, form.value, hcl=form.hcl)
        change = partial(
            variables.change, value=value, hcl=form.hcl, sensitive=form.sensitive,
            description=short(form.description), version=form.version or None, by=call.me.name,
        )  # fmt: skip
        await platform.write(change, platform.keyring, held.id, before.id)
        return _done(held, "variables", f"Variable {before.key} is changed.", form.leave)

    @ui.page(f"{path}/<var>/delete", "sure.html", right="write")
    async def show_drop_variable(call: PageCall[NoQuery]) -> Sure:
        held = await platform.read(workspaces.get, call.path["ws"])
        known = await platform.read(variables.get, platform.keyring, held.id, call.path["var"])
        return drop_variable_sheet(held, known, bare=answers.asked_by_script())

    @ui.deed(f"{path}/<var>/delete", "write", form=Leave)
    async def drop_variable(call: PageCall[Leave]) -> Done:
        held = await platform.read(workspaces.get, call.path["ws"])
        await platform.write(variables.delete, held.id, call.path["var"], by=call.me.name)
        return _done(held, "variables", "The variable is deleted.", call.query.leave)


def _resources(ui: Ui, platform: Platform) -> None:
    path = f"{WS}/resources"

    @ui.page(path, "workspace/resources.html", topics=TOPICS)
    async def show_resources(call: PageCall[NoQuery]) -> WorkspaceResources:
        held = await platform.read(workspaces.get, call.path["ws"])
        return workspace_resources(held, await platform.read(resources.listed, held.id), rights_of(call.me))

    @ui.page(f"{path}/<res>", "workspace/resource.html", right="write")
    async def show_resource(call: PageCall[NoQuery]) -> ResourceSheet:
        held = await platform.read(workspaces.get, call.path["ws"])
        res = call.path["res"]
        known = None if res == "new" else await platform.read(_resource, held.id, res)
        return resource_sheet(held, known, bare=answers.asked_by_script())

    @ui.deed(path, "write", form=ResourceForm)
    async def make_resource(call: PageCall[ResourceForm]) -> Done:
        form = call.query
        held = await platform.read(workspaces.get, call.path["ws"])
        body = arguments(form.body)
        check_block(ResourceSpec(type=form.type, name=form.name, body=body, mode=form.mode))
        create = partial(resources.create, mode=form.mode, type=form.type, name=form.name, body=body, by=call.me.name)
        await platform.write(create, held.id)
        return _done(held, "resources", f"{form.type}.{form.name} is added.", form.leave)

    @ui.deed(f"{path}/<res>", "write", form=ResourceForm)
    async def set_resource(call: PageCall[ResourceForm]) -> Done:
        form = call.query
        held = await platform.read(workspaces.get, call.path["ws"])
        body = arguments(form.body)
        check_block(ResourceSpec(type="any", name="any", body=body))
        change = partial(resources.change, body=body, version=form.version or None, by=call.me.name)
        changed = await platform.write(change, held.id, call.path["res"])
        return _done(held, "resources", f"{changed.type}.{changed.name} is changed.", form.leave)

    @ui.page(f"{path}/<res>/delete", "sure.html", right="write")
    async def show_drop_resource(call: PageCall[NoQuery]) -> Sure:
        held = await platform.read(workspaces.get, call.path["ws"])
        known = await platform.read(_resource, held.id, call.path["res"])
        return drop_resource_sheet(held, known, bare=answers.asked_by_script())

    @ui.deed(f"{path}/<res>/delete", "write", form=Leave)
    async def drop_resource(call: PageCall[Leave]) -> Done:
        held = await platform.read(workspaces.get, call.path["ws"])
        await platform.write(resources.delete, held.id, call.path["res"], by=call.me.name)
        return _done(
            held, "resources", "The resource block is removed. What it made goes with the next apply.", call.query.leave
        )


def _done(held: Workspace, tab: str, says: str, leave: str) -> Done:
    back = f"{path_of(held.name)}/{tab}"
    return Done(says=says, back=back, location=back if leave else None)


def _value(category: Category, text: str, *, hcl: bool) -> str:
    """Raises Invalid, whatever is wrong with it: there is one field to say it at."""
    value = unix(text)
    try:
        check_value(category, value, hcl=hcl)
    except TooLarge as refused:
        raise Invalid(refused.message, path="$.value") from None
    return value


def short(text: str, path: str = "$.description") -> str:
    """Raises Invalid."""
    if len(text) > 1000:
        raise Invalid("At most 1,000 characters.", path=path)
    return text


def unix(text: str) -> str:
    """Lines as they were written: browsers send each end of a line as two characters."""
    return text.replace("\r\n", "\n")


def arguments(text: str) -> dict[str, Any]:
    """The body of a block. Raises Invalid with the line where it is no JSON object."""
    try:
        found = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Invalid(f"This is not JSON: {error}.", path="$.body") from None
    if not isinstance(found, dict):
        raise Invalid('Write an object: { "argument": value, … }.', path="$.body")
    return found


async def _resource(c: Connection, workspace_id: str, resource_id: str) -> Resource:
    for each in await resources.listed(c, workspace_id):
        if each.id == resource_id:
            return each
    raise NotFound("This workspace has no such resource block; it may have been removed.")
