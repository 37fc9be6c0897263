"""The UI on the application: its pages, its files, its sign-in."""

from __future__ import annotations

from quart_trio import QuartTrio

from iac.web.platform import Platform
from iac.web.ui import (
    access_pages,
    agent_page,
    assets,
    overview,
    plan_pages,
    pool_list,
    pool_page,
    pool_tokens,
    signing_in,
    task_list,
    task_page,
    workspace,
    workspace_configuration,
    workspace_inputs,
    workspace_list,
    workspace_new,
    workspace_settings,
    workspace_state,
    workspace_upload,
)
from iac.web.ui.gate import Gate
from iac.web.ui.live import LiveViews
from iac.web.ui.pages import Ui

AREAS = (
    overview,
    workspace_list,
    workspace_new,
    workspace,
    workspace_inputs,
    workspace_configuration,
    workspace_upload,
    workspace_state,
    workspace_settings,
    task_list,
    task_page,
    plan_pages,
    pool_list,
    pool_page,
    pool_tokens,
    agent_page,
    access_pages,
)
"""In the order in which they stand in the navigation."""


def ui_of(platform: Platform) -> Ui:
    """The table of pages and deeds."""
    ui = Ui()
    for area in AREAS:
        area.declare(ui, platform)
    return ui


def install(app: QuartTrio, platform: Platform, gate: Gate, ui: Ui) -> None:
    """Puts the UI on the app."""
    assets.install(app)
    signing_in.install(app, platform, gate)
    ui.register(app, gate, LiveViews(platform.news, platform.draining))
