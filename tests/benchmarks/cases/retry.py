"""`retry` and its rivals: the first attempt succeeds, the third, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from resilience import RetryBudget, retry
from tests.benchmarks.case import (
    MANY,
    Call,
    Case,
    Decorate,
    Group,
    Outcome,
    RefusedError,
    fails,
    fails_twice,
    returns,
    suspends,
)

ATTEMPTS = 3


def by_hand(*, turn: bool) -> Decorate:
    """Make the loop that one would write, with or without a turn of the event loop between attempts."""

    def decorate(call: Call) -> Call:
        sleep = asyncio.sleep

        async def wrapper(argument: int) -> Any:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await call(argument)
                except RefusedError:
                    if attempt == ATTEMPTS:
                        raise
                    if turn:
                        await sleep(0)
            raise AssertionError("the last attempt returns or raises")

        return wrapper

    return decorate


def ours(call: Call) -> Call:
    # Calls that all fail would use the default budget up.
    return retry(ATTEMPTS, on=RefusedError, wait=0, budget=RetryBudget(min_per_second=MANY))(call)


def ours_with_defaults(call: Call) -> Call:
    return retry(call)


def ours_with_tenacity(call: Call) -> Call:
    from tenacity import retry_if_exception_type, stop_after_attempt, wait_none

    return retry(
        on=retry_if_exception_type(RefusedError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_none(),
        budget=RetryBudget(min_per_second=MANY),
    )(call)


def tenacity(call: Call) -> Call:
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_none

    decorate: Any = retry(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_none(),
        retry=retry_if_exception_type(RefusedError),
        reraise=True,
    )
    return decorate(call)


def stamina(call: Call) -> Call:
    import stamina

    # By default it counts with prometheus_client, because that happens to be installed here.
    stamina.instrumentation.set_on_retry_hooks([])
    return stamina.retry(
        on=RefusedError, attempts=ATTEMPTS, timeout=None, wait_initial=0, wait_max=0, wait_jitter=0
    )(call)


def backoff(call: Call) -> Call:
    import backoff

    return backoff.on_exception(
        backoff.constant, RefusedError, max_tries=ATTEMPTS, interval=0, jitter=None
    )(call)


def backon(call: Call) -> Call:
    import backon

    return backon.on_exception(backon.constant, RefusedError, max_tries=ATTEMPTS, interval=0, jitter=None)(
        call
    )


def hyx(call: Call) -> Call:
    from hyx.retry import retry

    # It makes one attempt more than its `attempts`.
    return retry(on=RefusedError, attempts=ATTEMPTS - 1, backoff=0)(call)


def pyresilience(call: Call) -> Call:
    from pyresilience import RetryConfig, resilient

    config = RetryConfig(max_attempts=ATTEMPTS, delay=0, jitter=False, retry_on=(RefusedError,))
    return resilient(retry=config)(call)


def redress(call: Call) -> Call:
    from redress import ErrorClass, retry

    return retry(
        classifier=lambda error: ErrorClass.TRANSIENT,
        strategy=lambda context: 0.0,
        max_attempts=ATTEMPTS,
    )(call)


RIVALS: dict[str, Decorate] = {
    "tenacity": tenacity,
    "stamina": stamina,
    "backoff": backoff,
    "backon": backon,
    "hyx": hyx,
    "pyresilience": pyresilience,
    "redress": redress,
}
OURS: dict[str, Decorate] = {"retry": ours, "retry, tenacity's strategies": ours_with_tenacity}
BY_HAND = "bare: a loop written by hand; limit: the same with a turn of the event loop between attempts"

FIRST = Group("retry: the first attempt succeeds", returns)
FIRST_SUSPENDING = Group("retry: the first attempt succeeds, and suspends once", suspends)
THIRD = Group(
    "retry: two failures, then success, without waiting",
    fails_twice,
    bare=by_hand(turn=False),
    limit=by_hand(turn=True),
    note=BY_HAND,
)
NONE = Group(
    "retry: all three attempts fail, without waiting",
    fails,
    Outcome.FAILS,
    bare=by_hand(turn=False),
    limit=by_hand(turn=True),
    note=BY_HAND,
)


def cases() -> Iterable[Case]:
    """Return the cases of `retry`."""
    for group in FIRST, FIRST_SUSPENDING:
        yield from group.cases({"retry, defaults": ours_with_defaults, **OURS}, RIVALS)
    for group in THIRD, NONE:
        yield from group.cases(OURS, RIVALS)
