"""The page of an agent, and what is done with one: approved, drained, removed."""

from __future__ import annotations

import msgspec

from iac.errors import Invalid
from iac.store import agents, pool_pages
from iac.web.platform import Platform
from iac.web.pools import agent_view, agent_with_tasks, set_draining
from iac.web.routing import NoQuery
from iac.web.ui import answers
from iac.web.ui.models.agents import AgentPage, agent_page, agent_path
from iac.web.ui.models.pool_words import pool_path
from iac.web.ui.models.sheets import AgentAsked, about_agent
from iac.web.ui.pages import Done, PageCall, Ui
from iac.web.ui.workspace_inputs import short

AGENT = "/agents/<agent_id>"


class DrainForm(msgspec.Struct, frozen=True):
    reason: str = ""
    leave: str = ""


class RemoveForm(msgspec.Struct, frozen=True):
    """`typed` is the agent's name; `force`: although it has tasks."""

    typed: str = ""
    force: bool = False


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the pages and deeds on the table."""
    _page(ui, platform)
    _deeds(ui, platform)
    _removal(ui, platform)


def _page(ui: Ui, platform: Platform) -> None:
    @ui.page(AGENT, "agents/agent.html", topics=("agents", "tasks"))
    async def show_agent_page(call: PageCall[NoQuery]) -> AgentPage:
        record, running, stints, token = await platform.read(pool_pages.agent_situation, call.path["agent_id"])
        return agent_page(
            agent_view(platform, (record, running)),
            stints,
            token,
            unsent=platform.fleet.unsent_of(record.id),
            may_admin=call.me.may("admin"),
        )

    @ui.page(f"{AGENT}/drain", "agents/drain.html", right="admin")
    async def show_drain(call: PageCall[NoQuery]) -> AgentAsked:
        agent = agent_view(platform, await platform.read(agent_with_tasks, call.path["agent_id"]))
        return about_agent(f"Drain {agent.name}", agent, "drain", bare=answers.asked_by_script())

    @ui.page(f"{AGENT}/remove", "agents/remove.html", right="admin")
    async def show_remove(call: PageCall[NoQuery]) -> AgentAsked:
        agent = agent_view(platform, await platform.read(agent_with_tasks, call.path["agent_id"]))
        return about_agent(f"Remove {agent.name}", agent, "remove", bare=answers.asked_by_script())


def _deeds(ui: Ui, platform: Platform) -> None:
    @ui.deed(f"{AGENT}/drain", "admin", form=DrainForm)
    async def drain_agent_page(call: PageCall[DrainForm]) -> Done:
        reason, back = short(call.query.reason.strip(), "$.reason"), agent_path(call.path["agent_id"])
        agent, _ = await set_draining(platform, call.path["agent_id"], True, by=call.me.name, reason=reason)
        says = f"{agent.name} gets nothing new; what it runs goes on."
        return Done(says=says, back=back, location=back if call.query.leave else None)

    @ui.deed(f"{AGENT}/undrain", "admin")
    async def undrain_agent_page(call: PageCall[NoQuery]) -> Done:
        agent, _ = await set_draining(platform, call.path["agent_id"], False, by=call.me.name)
        return Done(says=f"{agent.name} gets tasks again.", back=agent_path(agent.id))

    @ui.deed(f"{AGENT}/approve", "admin")
    async def approve_agent_page(call: PageCall[NoQuery]) -> Done:
        agent = await platform.write(agents.approve, call.path["agent_id"], by=call.me.name)
        return Done(says=f"{agent.name} may work; it comes by itself within a minute.", back=agent_path(agent.id))


def _removal(ui: Ui, platform: Platform) -> None:
    @ui.deed(f"{AGENT}/remove", "admin", form=RemoveForm)
    async def remove_agent_typed(call: PageCall[RemoveForm]) -> Done:
        agent = await platform.read(agents.get, call.path["agent_id"])
        if call.query.typed != agent.name:
            raise Invalid(f"Type the agent's name, {agent.name}, to remove it.", path="$.typed")
        await platform.write(agents.retire, agent.id, force=call.query.force, by=call.me.name)
        await platform.fleet.revoke(agent.id)
        platform.news.anything()
        back = pool_path(agent.pool_name)
        return Done(says=f"{agent.name} is removed; its name is free again.", back=back, location=back)
