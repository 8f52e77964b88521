"""`bulkhead` and its rivals: a place is free, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from resilience import bulkhead
from tests.benchmarks.case import Call, Case, Decorate, Group, Outcome, refusing, returns, suspends, within

PLACES = 64


def ours(call: Call) -> Call:
    return bulkhead(PLACES)(call)


def ours_keyed(call: Call) -> Call:
    return bulkhead(PLACES, key=lambda argument: "key")(call)


def asyncio_semaphore(call: Call) -> Call:
    return within(asyncio.Semaphore(PLACES))(call)


def hyx(call: Call) -> Call:
    from hyx.bulkhead import bulkhead

    return bulkhead(PLACES, 2 * PLACES)(call)


def anyio(call: Call) -> Call:
    from anyio import CapacityLimiter

    return within(CapacityLimiter(PLACES))(call)


def pyresilience(call: Call) -> Call:
    from pyresilience import BulkheadConfig, resilient

    return resilient(bulkhead=BulkheadConfig(PLACES))(call)


def ours_of_one(call: Call) -> Call:
    return bulkhead(1)(call)


def hyx_of_one(call: Call) -> Call:
    from hyx.bulkhead import bulkhead

    return bulkhead(1, 1)(call)


def pyresilience_of_one(call: Call) -> Call:
    from pyresilience import BulkheadConfig, resilient

    return resilient(bulkhead=BulkheadConfig(1))(call)


OCCUPY = 0
"""The argument of a call that stays."""

_inside: list[asyncio.Future[Any]] = []
"""The calls that stay: nobody else would keep them alive."""


def stays_if_asked() -> Call:
    """Make a function of which one call can be made to stay for ever."""

    async def function(argument: int) -> int:
        if argument == OCCUPY:
            await asyncio.get_running_loop().create_future()
        return argument

    return function


def occupied(decorate: Decorate) -> Decorate:
    """Make a decorator whose only place is taken."""

    def occupy(call: Call) -> Call:
        decorated = decorate(call)
        _inside.append(asyncio.ensure_future(decorated(OCCUPY)))
        return decorated

    return occupy


FREE = Group("bulkhead: free", returns)
FREE_SUSPENDING = Group("bulkhead: free, the call suspends once", suspends)
FULL = Group(
    "bulkhead: full, refuses",
    stays_if_asked,
    Outcome.IS_REFUSED,
    bare=refusing,
    limit=refusing,
    note="bare and limit: a wrapper that only raises",
)

OURS: dict[str, Decorate] = {"bulkhead": ours, "bulkhead, keyed": ours_keyed}
RIVALS: dict[str, Decorate] = {
    "asyncio.Semaphore": asyncio_semaphore,
    "anyio.CapacityLimiter": anyio,
    "hyx": hyx,
    "pyresilience": pyresilience,
}


def cases() -> Iterable[Case]:
    """Return the cases of `bulkhead`."""
    for group in FREE, FREE_SUSPENDING:
        yield from group.cases(OURS, RIVALS)
    yield from FULL.cases(
        {"bulkhead": occupied(ours_of_one)},
        {"hyx": occupied(hyx_of_one), "pyresilience": occupied(pyresilience_of_one)},
    )
