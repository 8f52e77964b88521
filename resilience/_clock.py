"""The one place that reads time.

Everyone calls ``_clock.monotonic()`` and ``_clock.sleep()`` through this module and nobody keeps the
function: freezegun, time-machine and a virtual-time loop replace the names here, and so move every
policy at once. The readings are never compared with ``loop.time()``, which may stand still while
this clock moves, or the other way round.

``sleep`` and ``call_later`` are for waits that only let time pass, which a test may skip. A timer that
races against work, such as a time limit, is set in the loop itself.
"""

from asyncio import AbstractEventLoop, TimerHandle
from asyncio import sleep as sleep
from collections.abc import Callable
from contextvars import Context
from time import monotonic as monotonic

SET_BACK = 10.0
"""Seconds by which a stamp may lie in the future: a thread can be interrupted between reading the clock
and using it. What lies further ahead was written under another clock, such as one that a test froze."""

SHORTEST_WAIT = 1e-6
"""Seconds a waiter sleeps at least: a residue below float resolution would make it spin."""


def call_later(
    loop: AbstractEventLoop, seconds: float, callback: Callable[[], object], context: Context
) -> TimerHandle:
    """Call a function when a wait is over."""
    return loop.call_later(seconds, callback, context=context)
