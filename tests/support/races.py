"""Two events in one turn of the event loop, in both orders, deterministically.

A race is a test that is given two moments, of which it uses each for one of its two events. Both lie in the
same turn of a virtual loop: a loop runs together, in the order of their times, the timers that lie closer
than the resolution of its clock.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

AT = 8.0
"""The time of all races, with room before it."""

CLOSE = 1e-10  # a tenth of the resolution of the loop's clock


@dataclass(frozen=True)
class Race:
    """When the two events of a race happen.

    Attributes:
        first: The time of the event that the race is named after first.
        second: The time of the other event.
    """

    first: float
    second: float

    @property
    def is_in_order(self) -> bool:
        """Whether the first event happens before the second."""
        return self.first < self.second


ORDERS = {
    "long before": Race(AT - 1, AT),
    "before, in one turn": Race(AT - CLOSE, AT),
    "after, in one turn": Race(AT, AT - CLOSE),
    "long after": Race(AT, AT - 1),
}

both_orders = pytest.mark.parametrize("race", ORDERS.values(), ids=ORDERS.keys())


def at(when: float, event: Callable[..., Any], *args: Any) -> None:
    """Let an event happen at a time."""
    asyncio.get_running_loop().call_at(when, event, *args)


class Gate:
    """What a call waits for: it ends by `open` or by `fail`; what comes later changes nothing."""

    def __init__(self) -> None:
        self._future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended: list[str] = []

    def open(self, value: str = "value") -> None:
        if not self._future.done():
            self._future.set_result(value)

    def fail(self) -> None:
        if not self._future.done():
            self._future.set_exception(OSError("gate"))

    async def __call__(self) -> str:
        """Wait until it ends; notes how."""
        try:
            value = await self._future
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append(value)
        return value
