"""Short names for virtual time: the tests here use what users get."""

import asyncio

from resilience.testing import StuckError as StuckError
from resilience.testing import VirtualTime
from resilience.testing import VirtualTimeLoop as VirtualTimeLoop
from resilience.testing import clock_of as clock_of
from resilience.testing import run_virtually as run_virtually


def now() -> float:
    """The virtual time."""
    return VirtualTime().now


def advance(seconds: float) -> None:
    """Let virtual time pass without running anything in between."""
    VirtualTime().advance(seconds)


async def settle(turns: int = 20) -> None:
    """Let the loop take some turns, in which every task runs as far as it can without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
