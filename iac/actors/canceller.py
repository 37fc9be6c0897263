"""Turns cancel orders into cancelled scopes."""

from __future__ import annotations

import msgspec
import trio

from iac.actors.running import Running


class CancelTask(msgspec.Struct, frozen=True, kw_only=True):
    """Stop this assignment; `force` does not wait for Terraform to finish what it is doing."""

    task_id: int
    fence: int
    force: bool = False


async def canceller(orders: trio.MemoryReceiveChannel[CancelTask], running: Running) -> None:
    """Ends when the orders end."""
    async for order in orders:
        running.cancel(order.fence, force=order.force)
