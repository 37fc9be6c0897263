"""The overview: read, put together, shown."""

from __future__ import annotations

import msgspec

from iac.store import overviews
from iac.web.platform import Platform
from iac.web.routing import NoQuery
from iac.web.ui.models.overview import Facts, Overview, overview
from iac.web.ui.pages import PageCall, Ui


def declare(ui: Ui, platform: Platform) -> None:
    """Puts the page on the table."""

    @ui.page("/", "overview.html", nav="Overview", topics=("tasks", "agents"))
    async def show_overview(call: PageCall[NoQuery]) -> Overview:
        found = await platform.read(overviews.situation)
        waits = {task.id: wait for task in found.open if (wait := platform.dispatcher.wait_of(task)) is not None}
        local = next(iter(platform.local.as_runner(found.open)), None)
        facts = Facts(waits=waits, local=local, **msgspec.structs.asdict(found))
        return overview(facts)
