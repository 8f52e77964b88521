"""`retry`: calls again when a call failed.

The first attempt that succeeds, or fails with an error that is not worth a retry, ends the call. Between
attempts it waits, longer and longer and at random, so that callers spread out. A call also ends when its
attempts are used up, when the next wait does not fit the deadline, when the server asks for a longer
pause than it may take, or when the retry budget is used up; then the caller gets the last error itself,
with a note that tells why. Cancellation and other errors that are no ``Exception`` pass at once: they are
never retried and nobody is asked about them.

A call that succeeds at once costs one look at the clock and one count in the budget; everything else
is made when an attempt has failed. Only retries are charged to the budget.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack, overload

from resilience import _arguments, _clock
from resilience._callables import is_decoratable
from resilience._deadline import TimeLimit
from resilience._policy import Policy
from resilience._retry_block import Attempts
from resilience._retry_budget import RetryBudget
from resilience._retry_call import Call
from resilience._retry_config import (
    Default,
    On,
    OnResult,
    RetryConfig,
    Stop,
    Wait,
    checked_attempts,
    checked_budget,
    checked_on,
    checked_predicate,
    checked_strategy,
    refuse_tenacity,
)
from resilience._retry_rules import NO_TARGET, Rules, Target
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")


class Retry(Policy):
    """A rule for calling again; made by `retry`.

    Attributes:
        budget: The budget that its retries are charged to: the one it was given, else one of its own;
            ``None`` if it has none.
    """

    kind = "retry"
    has_state = True
    config: RetryConfig

    def __init__(self, config: RetryConfig, *, name: str | None) -> None:
        super().__init__(name)
        self.config = config
        self.budget = RetryBudget() if isinstance(config.budget, Default) else config.budget
        self._rules = Rules(config, self.budget)
        self._limit = None if config.deadline is None else TimeLimit(config.deadline)

    @property
    def time_limit(self) -> float | None:
        """Seconds after which a call is cut off, if it has a deadline."""
        return self.config.deadline

    def attempts(self) -> Attempts:
        """Make the attempts of one call in a block instead of a function.

        The block is called again as long as it raises what is to be retried. With ``on_result``, tell it
        the value by ``attempt.set_result(value)`` and let the loop end by itself.

        Returns:
            An asynchronous iterator, for one loop.

        Example:
            >>> import asyncio
            >>> async def fetch() -> str:
            ...     async for attempt in retry(wait=0).attempts():
            ...         with attempt:
            ...             if attempt.number < 3:
            ...                 raise ConnectionError
            ...             return f"attempt {attempt.number}"
            ...     raise AssertionError("never: the loop ends by return or by an exception")
            >>> asyncio.run(fetch())
            'attempt 3'
        """
        return Attempts(self._begin_block)

    def reset(self) -> None:
        """Forget what was charged to the budget, also for other policies that share it."""
        if self.budget is not None:
            self.budget.reset()

    def snapshot(self) -> dict[str, object]:
        """Return the state as plain data: what counts in the budget now."""
        budget = self.budget
        return {"budget": None if budget is None else budget.snapshot()}

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        rules, budget = self._rules, self.budget
        if self._limit is not None or rules.judges_results:
            return self._wrap_every_attempt(function, name)
        plain: Callable[..., Awaitable[R]] = function  # called without **, it is 10 to 20 ns quicker

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            started = _clock.monotonic()
            if budget is not None:
                # What `count` does, without calling it.
                current = budget.current
                if started < current.end:
                    current.calls += 1
                else:
                    budget.count(started)
            try:
                return await (plain(*args, **kwargs) if kwargs else plain(*args))
            except Exception as error:
                call = Call(rules, name, started, 1, (function, args, kwargs))
                if not await call.goes_on(error):
                    raise
            # Outside of the handler: inside, every error would drag along the one before it.
            return await _run(call, function, *args, **kwargs)

        return wrapper

    def _wrap_every_attempt(
        self, function: Callable[P, Awaitable[R]], name: str
    ) -> Callable[P, Awaitable[R]]:
        limit = self._limit

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            call = self._begin(name, (function, args, kwargs))
            if limit is not None:
                call.scope = limit.open(call.started)
            return await _run(call, function, *args, **kwargs)

        return wrapper

    def _begin(self, name: str, target: Target = NO_TARGET) -> Call:
        started = _clock.monotonic()
        if self.budget is not None:
            self.budget.count(started)
        return Call(self._rules, name, started, 0, target)

    def _begin_block(self) -> Call | None:
        return self._begin(self.name) if self.enabled and switch.active else None


async def _run(call: Call, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Make attempts until the call ends."""
    try:
        while True:
            call.attempts += 1
            try:
                value = await function(*args, **kwargs)
            except Exception as error:
                if not await call.goes_on(error):
                    raise
                continue
            if not call.rules.judges_results:
                call.succeeded()
                return value
            if not await call.goes_on(None, value):
                return value
    except CancelledError as cancelled:
        call.explain(cancelled)
        if call.close_scope():
            raise call.timeout_error() from cancelled.__cause__
        raise
    finally:
        call.close()


class Options(TypedDict, total=False):
    """The arguments of `retry` besides ``attempts``, for type checkers."""

    on: On
    on_result: OnResult | None
    wait: Wait | None
    deadline: _arguments.Seconds | None
    budget: RetryBudget | None
    stop: Stop | None
    wrap: bool
    name: str | None


@overload
def retry(function: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]: ...
@overload
def retry(attempts: int | None = ..., **options: Unpack[Options]) -> Retry: ...
def retry(
    attempts: Any = Default.ATTEMPTS,
    *,
    on: On = Exception,
    on_result: OnResult | None = None,
    wait: Wait | None = None,
    deadline: _arguments.Seconds | None = None,
    budget: Default | RetryBudget | None = Default.BUDGET,
    stop: Stop | None = None,
    wrap: bool = False,
    name: str | None = None,
) -> Any:
    """Call again when a call fails.

    Works bare (``@retry``) and called (``@retry(attempts=5)``). Safe for concurrent tasks, threads and
    event loops: all that belongs to one call lives in that call.

    Args:
        attempts: How many attempts to make at most, the first one included, 1 or more; default 3, or no
            limit if ``stop`` is given. ``None`` is no limit and needs ``deadline`` or ``stop``.
        on: What to retry: exception types, a predicate ``(exception) -> bool`` (sync or async), or a
            tenacity retry object. This library's own rejections, such as that of an open circuit, are
            retried only if a `ResilienceError` type that fits is named here.
        on_result: A predicate on the value (sync or async): whether to try again after an attempt that
            returned. When attempts run out, the last value is returned.
        wait: The pause before the next attempt: seconds or ``timedelta``, 0 or more; a sequence of them,
            the last of which repeats; a `FullJitter` or `DecorrelatedJitter`; or a tenacity wait. Default:
            `FullJitter`, a random part of 0.1 s, which doubles up to 30 s. An exception's ``retry_after``
            (seconds) makes it longer, and up to a tenth more, at most 1 s, so that not all come back at the
            same moment; if it is longer than the ``max`` that ``wait`` was given, else 30 s, the call ends
            at once.
        deadline: Seconds or ``timedelta``, 0 or more, for the whole call, attempts and waits together. A
            wait that does not fit ends the call at once; an attempt that takes too long is cut off. An
            outer deadline counts as well.
        budget: The `RetryBudget` to charge retries to; default: one of its own. ``None``: no budget.
        stop: A tenacity stop, asked before each retry.
        wrap: Whether to raise `RetryExhaustedError` from the last error instead of the error itself.
        name: What events and errors call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with; or the decorated function, if used bare. A decorated
        function raises the last attempt's own error, with a note that tells how many attempts were
        made and why there was no other; `CallTimeoutError`, from the last real error, when ``deadline``
        or a `timeout` around it cuts an attempt off.

    Raises:
        TypeError: If an argument has the wrong type, or a function is not async.
        ValueError: If an argument is out of range, or nothing ends the retries.

    Example:
        >>> import asyncio
        >>> replies = iter([ConnectionError("reset"), ConnectionError("reset"), "hello"])
        >>> @retry(attempts=4, on=ConnectionError, wait=0)
        ... async def fetch() -> str:
        ...     reply = next(replies)
        ...     if isinstance(reply, Exception):
        ...         raise reply
        ...     return reply
        >>> asyncio.run(fetch())
        'hello'
    """
    refuse_tenacity("attempts", "a whole number or a function to decorate", attempts)
    function = attempts if is_decoratable(attempts) else None
    if function is not None or attempts is Default.ATTEMPTS:
        attempts = 3 if stop is None else None
    config = RetryConfig(
        attempts=checked_attempts(attempts, ends_otherwise=deadline is not None or stop is not None),
        on=checked_on(on),
        on_result=None if on_result is None else checked_predicate("on_result", on_result),
        wait=checked_strategy("wait", wait),
        deadline=None if deadline is None else _arguments.seconds("deadline", deadline),
        budget=checked_budget(budget),
        stop=None if stop is None else _arguments.function("stop", checked_strategy("stop", stop)),
        wrap=_arguments.flag("wrap", wrap),
    )
    policy = Retry(config, name=name)
    return policy if function is None else policy(function)
