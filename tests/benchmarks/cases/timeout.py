"""`timeout` and its rivals: the call is over in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from resilience import timeout
from tests.benchmarks.case import HOUR, Call, Case, Decorate, Group, Outcome, returns, suspends

SECONDS = 30


def ours(call: Call, seconds: float = SECONDS) -> Call:
    return timeout(seconds)(call)


def asyncio_timeout(call: Call, seconds: float = SECONDS) -> Call:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        async with asyncio.timeout(seconds):
            return await call(*args, **kwargs)

    return wrapper


def asyncio_wait_for(call: Call, seconds: float = SECONDS) -> Call:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.wait_for(call(*args, **kwargs), seconds)

    return wrapper


def anyio(call: Call, seconds: float = SECONDS) -> Call:
    from anyio import fail_after

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with fail_after(seconds):
            return await call(*args, **kwargs)

    return wrapper


def hyx(call: Call, seconds: float = SECONDS) -> Call:
    from hyx.timeout import timeout

    return timeout(seconds)(call)


def pyresilience(call: Call, seconds: float = SECONDS) -> Call:
    from pyresilience import TimeoutConfig, resilient

    return resilient(timeout=TimeoutConfig(seconds))(call)


def stays() -> Call:
    """Make a function that returns long after the time limit."""

    async def function(argument: int) -> int:
        await asyncio.sleep(HOUR)
        return argument

    return function


def late(call: Call) -> Call:
    """Make the wrapper that gives the event loop one turn and then raises."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        raise TimeoutError

    return wrapper


AT_ONCE = Group("timeout: the call returns at once", returns)
SUSPENDING = Group("timeout: the call suspends once", suspends)
EXPIRED = Group(
    "timeout: no time at all, the call is cancelled",
    stays,
    Outcome.FAILS,
    bare=late,
    limit=late,
    note="bare and limit: a wrapper that raises after a turn of the event loop; on CPython 3.11, "
    "asyncio.wait_for, and with it hyx, does not even begin the call",
)

RIVALS: dict[str, Callable[..., Call]] = {
    "asyncio.timeout": asyncio_timeout,
    "asyncio.wait_for": asyncio_wait_for,
    "anyio.fail_after": anyio,
    "hyx": hyx,
    "pyresilience": pyresilience,
}
OURS: dict[str, Callable[..., Call]] = {"timeout": ours}


def without_time(entries: Mapping[str, Callable[..., Call]]) -> dict[str, Decorate]:
    """Return the same decorators with a time limit of nothing."""
    return {name: partial(decorate, seconds=0) for name, decorate in entries.items()}


def cases() -> Iterable[Case]:
    """Return the cases of `timeout`."""
    for group in AT_ONCE, SUSPENDING:
        yield from group.cases(OURS, RIVALS)
    yield from EXPIRED.cases(without_time(OURS), without_time(RIVALS))
