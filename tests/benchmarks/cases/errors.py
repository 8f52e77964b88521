"""`map_errors`, `fallback` and their rivals: not needed, and needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from resilience import fallback, map_errors
from tests.benchmarks.case import (
    Call,
    Case,
    Decorate,
    Group,
    Outcome,
    RefusedError,
    fails,
    returns,
    suspends,
)


class MappedError(Exception):
    """What errors are mapped to."""


async def instead(*args: Any, **kwargs: Any) -> int:
    return 1


def ours_mapping(call: Call) -> Call:
    return map_errors({RefusedError: MappedError})(call)


def ours_with_value(call: Call) -> Call:
    return fallback(1, on=RefusedError)(call)


def ours_with_function(call: Call) -> Call:
    return fallback(instead, on=RefusedError)(call)


def by_hand(call: Call) -> Call:
    async def wrapper(argument: int) -> Any:
        try:
            return await call(argument)
        except RefusedError:
            return 1

    return wrapper


def generic(call: Call) -> Call:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await call(*args, **kwargs)
        except RefusedError:
            return await instead(*args, **kwargs)

    return wrapper


def mapping_by_hand(call: Call) -> Call:
    async def wrapper(argument: int) -> Any:
        try:
            return await call(argument)
        except RefusedError as error:
            raise MappedError from error

    return wrapper


def hyx(call: Call) -> Call:
    from hyx.fallback import fallback

    return fallback(instead, on=RefusedError)(call)


def pyresilience(call: Call) -> Call:
    from pyresilience import FallbackConfig, resilient

    return resilient(fallback=FallbackConfig(handler=lambda error: 1, fallback_on=(RefusedError,)))(call)


NOT_NEEDED = Group("errors: nothing fails", returns)
NOT_NEEDED_SUSPENDING = Group("errors: nothing fails, the call suspends once", suspends)
INSTEAD = Group(
    "errors: the fallback is used",
    fails,
    bare=by_hand,
    limit=generic,
    note="bare: an except clause in the function itself; limit: the same in a wrapper",
)
MAPPED = Group(
    "errors: the error is mapped",
    fails,
    Outcome.FAILS,
    bare=mapping_by_hand,
    note="bare: an except clause written by hand; limit: the error passes unchanged",
)

FALLBACKS: dict[str, Decorate] = {
    "fallback, value": ours_with_value,
    "fallback, function": ours_with_function,
}
RIVALS: dict[str, Decorate] = {"hyx": hyx, "pyresilience": pyresilience}


def cases() -> Iterable[Case]:
    """Return the cases of `map_errors` and `fallback`."""
    for group in NOT_NEEDED, NOT_NEEDED_SUSPENDING:
        yield from group.cases({"map_errors": ours_mapping, **FALLBACKS}, RIVALS)
    yield from INSTEAD.cases(FALLBACKS, RIVALS)
    yield from MAPPED.cases({"map_errors": ours_mapping}, {})
