"""Getting from one event loop into another: what waits here may be woken by a call that ends elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def run_in(
    loop: asyncio.AbstractEventLoop, here: asyncio.AbstractEventLoop | None, callback: Callable[[], object]
) -> bool:
    """Run a callback in a loop, at once if this is it; return whether the loop is still open."""
    if loop is here:
        callback()
        return True
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return False
    return True
