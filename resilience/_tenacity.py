"""The bridge to tenacity's strategies: imported when the first of them is asked, not before.

tenacity's own loop is not used; its ``stop``, ``wait`` and ``retry`` objects are called as its loop would
call them, with a call state that is stamped from our clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tenacity
from tenacity import AsyncRetrying, Future, RetryCallState

_asynchronous: Any = getattr(tenacity, "asyncio", tenacity)  # its own since tenacity 9
_EXCEPTIONS_ONLY: list[Any] = [
    tenacity.retry_if_exception.__call__,
    tenacity.retry_if_exception_cause_type.__call__,
    _asynchronous.retry_if_exception.__call__,
]


class _MadeWhenRead:
    """An attribute that is made when it is first read: for what is dear, and rarely read.

    What ``functools.cached_property`` does as well, but on Python 3.11 with a lock.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        made = instance.__dict__[self._name] = self._make(instance)
        return made


class CallState(RetryCallState):
    """What tenacity's strategies may ask about one call.

    Args:
        function: The function that is called, or ``None`` in a block.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        started: When the call began.
        options: Returns ``stop``, ``wait`` and ``retry`` as they were given.
    """

    outcome: Any = _MadeWhenRead(lambda state: Outcome(state.attempt_number, *state.ended_with))
    retry_object: Any = _MadeWhenRead(lambda state: AsyncRetrying(**state.options(), reraise=True))

    def __init__(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: float,
        options: Callable[[], dict[str, Any]],
    ) -> None:
        # Not tenacity's own: it reads its own clock, and sets what is made when it is read.
        self.start_time = started
        self.fn = function
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.idle_for = self.upcoming_sleep = 0.0
        self.next_action = None

    def record(self, attempt: int, now: float, error: BaseException | None, value: object) -> None:
        """Note how an attempt ended."""
        self.attempt_number = attempt
        self.outcome_timestamp = now
        self.ended_with = (error, value)
        self.__dict__.pop("outcome", None)


class Outcome(Future):
    """How an attempt ended: a future that is done, and becomes a real one only when it has to.

    A real one makes a lock and a condition. Reading the result needs neither.
    """

    _condition: Any = _MadeWhenRead(lambda outcome: outcome.become_real())

    def __init__(self, attempt: int, error: BaseException | None, value: object) -> None:
        self.attempt_number = attempt
        self._ended_with = (error, value)

    def exception(self, timeout: float | None = None) -> BaseException | None:  # noqa: ARG002 - it is done
        """Return what the attempt raised, if it did."""
        return self._ended_with[0]

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - it is done
        """Return what the attempt returned.

        Raises:
            BaseException: What the attempt raised.
        """
        error, value = self._ended_with
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # with its traceback, which holds this frame, it would be a cycle

    def become_real(self) -> Any:
        """Set up everything else that a future has; every other method begins with the condition."""
        error, value = self._ended_with
        super().__init__(self.attempt_number)
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)
        return self._condition


def asks_about_results(strategy: object) -> bool:
    """Whether a ``retry`` strategy may want another attempt after one that returned."""
    if strategy is tenacity.retry_never:
        return False
    parts: tuple[Any, ...] | None = getattr(strategy, "retries", None)
    if parts is not None:
        return any(asks_about_results(each) for each in parts)
    return type(strategy).__call__ not in _EXCEPTIONS_ONLY


def exception_types_of(strategy: Any) -> tuple[type[BaseException], ...]:
    """Return the exception types that a ``retry`` strategy, or a part of it, was given."""
    parts: tuple[Any, ...] | None = getattr(strategy, "retries", None)
    if parts is not None:
        return tuple(each for part in parts for each in exception_types_of(part))
    named: tuple[type[BaseException], ...] | type[BaseException] = getattr(strategy, "exception_types", ())
    return named if isinstance(named, tuple) else (named,)
