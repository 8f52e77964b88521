"""One call under `hedge`: the attempts that are under way, and which of them decides.

Each attempt runs in a task of its own, in a copy of the caller's context. The caller does nothing but wait:
it alone starts attempts, decides, then cancels the others and waits until they have ended. So a
cancellation of the caller, whenever it comes, finds all attempts in one place, and none of them outlives
the call. Nothing of a call is kept on the policy.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import CancelledError, Task
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from resilience import _clock, _deadline, _events
from resilience._errors import RejectedError

if TYPE_CHECKING:
    from resilience._hedge import HedgeConfig
    from resilience._latency import LatencyWindow
    from resilience._retry_budget import Slice

R = TypeVar("R")

SHORTEST_DELAY = 0.001
"""Seconds that a delay above 0 lasts at least: a loop that counts in whole milliseconds, as uvloop does,
takes less than half of one for none, and every call would be hedged."""


class _Attempt(Generic[R]):
    """One real call."""

    __slots__ = ("number", "task")

    def __init__(self, number: int, task: Task[R]) -> None:
        self.number = number
        self.task = task

    def has_succeeded(self) -> bool:
        task = self.task
        return task.done() and not task.cancelled() and task.exception() is None

    def has_failed(self) -> bool:
        task = self.task
        return task.done() and not task.cancelled() and isinstance(task.exception(), Exception)


class HedgedCall(Generic[R]):
    """One call and its attempts. Belongs to the task that makes the call.

    Args:
        name: What events call the policy.
        config: The arguments of the policy.
        latencies: Where to tell how long the first attempt took, if somebody wants to know.
        function: Makes an attempt.
        delay: Seconds without a result after which another attempt begins.
        started: When the call began.
    """

    __slots__ = (
        "_attempts",
        "_config",
        "_delay",
        "_function",
        "_hedges_left",
        "_is_due",
        "_latencies",
        "_loop",
        "_name",
        "_running",
        "_started",
        "_timer",
        "_waiter",
    )

    def __init__(
        self,
        name: str,
        config: HedgeConfig,
        latencies: LatencyWindow | None,
        function: Callable[[], Awaitable[R]],
        delay: float,
        started: float,
    ) -> None:
        self._name = name
        self._config = config
        self._latencies = latencies
        self._function = function
        self._delay = max(delay, SHORTEST_DELAY) if delay else delay
        self._started = started
        self._hedges_left = config.max_hedges
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._is_due = False
        self._timer = self._loop.call_later(self._delay, self._on_timer)
        self._attempts: list[_Attempt[R]] = []
        self._running: list[_Attempt[R]] = []

    async def run(self) -> R:
        """Return the value of the first attempt that succeeds, or raise the error of the first one."""
        try:
            decisive = await self._decide()
        except GeneratorExit:  # the caller is closed: it cannot wait any more
            self._cancel()
            raise
        except BaseException:
            await self._end()
            raise
        self._measure(decisive)
        await self._end()
        if decisive.number > 1 and decisive.has_succeeded() and _events.listeners:
            _events.emit("hedge.won", self._name, attempt=decisive.number)
        try:
            return decisive.task.result()
        finally:
            # An error refers to this frame, by its traceback, and the tasks refer to the error.
            del decisive
            self._attempts.clear()
            self._running.clear()

    async def _decide(self) -> _Attempt[R]:
        """Make attempts until one of them decides the call, and return that one."""
        self._start(None)
        while True:
            ended = [each for each in self._running if each.task.done()]
            for each in ended:
                if not each.has_failed():  # a success, or what is no `Exception`, as a cancellation
                    return each
            for each in ended:
                self._running.remove(each)
                self._on_failure(each)
            if not self._running:
                return self._first_of_failed()
            if self._is_due:
                self._start_another("delay")
            self._waiter = self._loop.create_future()
            await self._waiter

    def _on_failure(self, attempt: _Attempt[R]) -> None:
        if not isinstance(attempt.task.exception(), RejectedError):
            self._start_another("failed")

    def _start_another(self, reason: str) -> None:
        """Start an attempt, if there is one left, if there is time, and if the budget allows it."""
        if not self._hedges_left:
            return
        self._hedges_left -= 1
        self._restart_timer()
        now = _clock.monotonic()
        left = _deadline.remaining(now)
        if left is not None and left <= 0:
            return
        budget = self._config.budget
        reserved = None if budget is None else budget.reserve(now)
        if budget is not None and reserved is None:
            return
        self._start(reserved)
        if _events.listeners:
            _events.emit("hedge.started", self._name, attempt=len(self._attempts), reason=reason)

    def _start(self, reserved: Slice | None) -> None:
        task = self._loop.create_task(self._attempt(reserved))
        attempt = _Attempt(len(self._attempts) + 1, task)
        self._attempts.append(attempt)
        self._running.append(attempt)
        task.add_done_callback(self._on_end)

    async def _attempt(self, reserved: Slice | None) -> R:
        try:
            return await self._function()
        except RejectedError:
            # Not where attempts are judged: once the call is decided, nobody looks at the others.
            if reserved is not None and self._config.budget is not None:
                self._config.budget.refund(reserved)
            raise
        finally:
            # Told from here as well as by the callback, which comes a loop turn later: a timeout of the
            # caller could overtake a result that is here already.
            if not self._loop.is_closed():
                self._tell()

    def _on_end(self, task: Task[R]) -> None:
        if not task.cancelled():
            task.exception()  # else asyncio would report the error of an attempt that nobody asks about
        self._tell()

    def _tell(self) -> None:
        """Let the caller look at what has changed: an attempt has ended, or the delay is over."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _restart_timer(self) -> None:
        """Let the delay begin anew, unless no attempts are left to start."""
        self._is_due = False
        self._timer.cancel()
        if self._hedges_left:
            self._timer = self._loop.call_later(self._delay, self._on_timer)

    def _on_timer(self) -> None:
        self._is_due = True
        self._tell()

    async def _end(self) -> None:
        """Cancel what still runs, and wait until nothing does; each further cancellation reaches it too."""
        cancelled: CancelledError | None = None
        while running := self._cancel():
            try:
                await asyncio.wait(running)
            except CancelledError as error:
                cancelled = error
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # it refers to this frame, by its traceback

    def _cancel(self) -> list[Task[R]]:
        self._timer.cancel()
        running = [each.task for each in self._running if not each.task.done()]
        if not self._loop.is_closed():
            for each in running:
                each.cancel()
        return running

    def _measure(self, decisive: _Attempt[R]) -> None:
        """Tell how long the first attempt took, or, if another won, how long it took at least.

        Without the latter, the slowest calls would never count: the delay would sink with each hedge that
        it causes, and cause more of them.
        """
        if self._latencies is None or not decisive.has_succeeded() or self._attempts[0].has_failed():
            return
        self._latencies.add(_clock.monotonic() - self._started)

    def _first_of_failed(self) -> _Attempt[R]:
        first, *others = self._attempts
        error = first.task.exception()
        if others and error is not None:
            kinds = ", ".join(type(each.task.exception()).__qualname__ for each in others)
            note = f"all attempts of the hedge failed, the others with {kinds}"
            with contextlib.suppress(Exception):  # an exception may forbid attributes
                if note not in getattr(error, "__notes__", ()):  # from an earlier raise of the same object
                    error.add_note(note)
        return first
