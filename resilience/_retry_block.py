"""The block form of `retry`: ``async for attempt in policy.attempts(): with attempt: ...``.

It decides as the decorator does, between the end of one block and the start of the next. A deadline is
put around each block, and around each decision, instead of around the loop: a loop that is left by
``break``, ``return`` or an exception tells nobody, but a block always ends.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from types import TracebackType
from typing import Final

from resilience import _clock, _deadline
from resilience._retry_call import Call

_NOTHING: Final = object()


class Attempt:
    """One attempt of a block, to be entered by ``with``.

    Attributes:
        number: 1 for the first attempt.
    """

    __slots__ = ("_call", "_ended", "_entered", "_error", "_value", "number")

    def __init__(self, call: Call | None, number: int) -> None:
        self.number = number
        self._call = call
        self._entered = False
        self._ended = False
        self._error: Exception | None = None
        self._value: object = _NOTHING

    def set_result(self, value: object) -> None:
        """Tell the value of the attempt, for ``on_result`` to judge when the block has ended."""
        self._value = value

    def __enter__(self) -> Attempt:
        if self._entered:
            raise RuntimeError("an attempt is for one block: the loop makes one for each")
        self._entered = True
        if self._call is not None:
            _open_scope(self._call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._ended = True
        call = self._call
        if call is None:
            return False
        was_cut_off = call.close_scope()
        if isinstance(error, Exception):
            self._error = error
            return True  # what follows is decided, and raised, where the loop can wait
        if error is None and self._is_to_be_judged(call):
            call.error = None  # now: the loop may be left by `break` or `return`
            return False
        try:
            if error is None:
                call.succeeded()
            elif isinstance(error, CancelledError):
                call.explain(error)
                if was_cut_off:
                    raise call.timeout_error() from error.__cause__
            return False
        finally:
            call.close()

    async def goes_on(self) -> bool:
        """Decide whether another attempt follows, and wait for it.

        Raises:
            Exception: That of the block, when it is not retried.
            RuntimeError: If the block was not entered, or raised a ``StopAsyncIteration``: that would end
                the loop as if all were well, and becomes another error as it does in an async generator.
        """
        call = self._call
        if call is None:
            return False
        if not self._ended:
            raise RuntimeError("each attempt of retry must be entered: `with attempt: ...`")
        error, self._error = self._error, None
        if error is None and not self._is_to_be_judged(call):
            return False
        try:
            _open_scope(call)
            again = await call.goes_on(error, self._value)
            if isinstance(error, StopAsyncIteration) and not again:
                raise RuntimeError("the attempt raised StopAsyncIteration") from error
            if error is not None and not again:
                raise error
            return again
        except CancelledError as cancelled:
            if call.close_scope():
                raise call.timeout_error() from cancelled.__cause__
            raise
        finally:
            call.close_scope()
            del error  # with its traceback, which holds this frame, it would be a cycle

    def _is_to_be_judged(self, call: Call) -> bool:
        return self._value is not _NOTHING and call.rules.judges_results


class Attempts:
    """The attempts of one call; an asynchronous iterator for one loop, in one task."""

    __slots__ = ("_attempt", "_begin", "_call")

    def __init__(self, begin: Callable[[], Call | None]) -> None:
        self._begin = begin
        self._call: Call | None = None
        self._attempt: Attempt | None = None

    def __aiter__(self) -> Attempts:
        if self._attempt is not None:
            raise RuntimeError("attempts() is for one loop: call it again for the next")
        return self

    async def __anext__(self) -> Attempt:
        if self._attempt is None:
            self._call = self._begin()
        elif not await self._attempt.goes_on():
            raise StopAsyncIteration
        number = 1
        if self._call is not None:
            number = self._call.attempts = self._call.attempts + 1
        self._attempt = Attempt(self._call, number)
        return self._attempt


def _open_scope(call: Call) -> None:
    limit = call.rules.deadline
    if limit is not None:
        call.scope = _deadline.open_until(call.started + limit, _clock.monotonic())
