"""The retry of a client: the client says what *may* be sent again, ``on`` and ``on_result`` narrow that.

``on`` is asked about errors and ``on_result`` about responses; with ``raise_for_status`` an error status is
both, so both are asked, and ``on`` is given the typed error. All else in the policy (attempts, wait,
stop, deadline, and the budget itself) stays as it is; ``wrap`` has no meaning here, because the call ends
with its last response, or with its last error itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from resilience import Retry
from resilience._live import hidden
from resilience_httpx._call import current
from resilience_httpx._sending import is_replayable, may_be_sent_again

On: TypeAlias = Callable[[Any], bool | Awaitable[bool]]


def narrowed(policy: Retry, *, raises: bool) -> Retry:
    """Return a retry that sends again what the client allows and the policy wants.

    Args:
        policy: As the caller made it.
        raises: Whether an error status is raised in the end.
    """
    on = _narrowed_on(policy, raises=raises)
    config = policy.config._replace(on=on, on_result=None, wrap=False, budget=policy.budget)
    return hidden(Retry(config, name=policy.given_name))


def _narrowed_on(policy: Retry, *, raises: bool) -> On:
    on, on_result = policy.config.on, policy.config.on_result
    # Functions of the user's that have a say later may wait, and then decide that this was the last answer.
    may_wait = policy.config.stop is not None or callable(policy.config.wait)
    drop = _keep if may_wait else _drop
    if on is Exception and on_result is None:
        return lambda error: drop(is_retried=_is_allowed(error))

    async def is_wanted(error: Exception, ask: Callable[[], Any]) -> bool:
        if not _is_allowed(error):
            return False
        answer = current.get().answer
        if answer is not None and error is answer:
            if on_result is not None and not await _settled(on_result(answer.response)):
                return False
            if not raises:
                return drop(is_retried=True)
        return drop(is_retried=bool(await _settled(ask())))

    if isinstance(on, (type, tuple)):
        return lambda error: is_wanted(error, lambda: isinstance(error, on))
    if _is_tenacity(on):
        return _with_state(on, is_wanted)
    return lambda error: is_wanted(error, lambda: on(error))


def _keep(*, is_retried: bool) -> bool:
    return is_retried


def _drop(*, is_retried: bool) -> bool:
    """Have an answer that is thrown away give its connection back in the backoff already."""
    if is_retried:
        current.get().drop_answer_soon()
    return is_retried


def _is_allowed(error: Exception) -> bool:
    call = current.get()
    if not may_be_sent_again(error, call.request, call.sent, is_answered=call.is_answered):
        return False
    return is_replayable(call.request)


def _with_state(on: Any, is_wanted: Callable[[Exception, Callable[[], Any]], Awaitable[bool]]) -> On:
    """Make a tenacity strategy of a tenacity strategy, which is asked with the state of the call."""
    from tenacity import RetryCallState, retry_base

    class Narrowed(retry_base):
        def __call__(self, retry_state: RetryCallState) -> Any:
            outcome = retry_state.outcome
            error: Any = None if outcome is None else outcome.exception()
            return error is not None and is_wanted(error, lambda: on(retry_state))

    return Narrowed()


def _is_tenacity(on: object) -> bool:
    # An object of tenacity's can only exist if tenacity was imported, so this need not import it.
    tenacity: Any = sys.modules.get("tenacity")
    return isinstance(on, getattr(tenacity, "retry_base", ()))


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
