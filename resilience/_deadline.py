"""Time limits on calls: what `timeout` and ``retry(deadline=)`` are made of, and `deadline()`.

A `TimeLimit` belongs to one policy and cuts its calls off after a fixed number of seconds. All calls
of one policy have the same limit, so they expire in the order in which they began: one queue and one
timer per event loop do for all of them, at a fraction of the price of a timer per call.

A `Scope` is one call under a limit. It knows by identity whether a cancellation is its own work, so an
inner ``TimeoutError``, another scope's expiry and the caller's cancellation all stay what they are.
Scopes nest through a context variable: that is how whatever waits inside learns the nearest deadline.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import current_task, get_running_loop
from contextvars import Context, ContextVar
from typing import Any

from resilience import _clock

innermost: ContextVar[Scope | None] = ContextVar("resilience_deadline", default=None)
"""The scope that the running code is directly inside of."""

_innermost, _set_innermost = innermost.get, innermost.set


def deadline() -> float | None:
    """Return the seconds left until the nearest deadline that the running code is under.

    Every open `timeout` or ``retry(deadline=)`` around the running code counts. A task that outlives
    the scope in which it was made is free of that scope's limit.

    Returns:
        Seconds, 0.0 when the deadline has passed, or ``None`` when there is no deadline.

    Example:
        >>> deadline() is None
        True
    """
    left = remaining(_clock.monotonic())
    return left if left is None else max(left, 0.0)


def remaining(now: float) -> float | None:
    """Return the seconds from ``now`` to the nearest open deadline, negative once it has passed."""
    nearest: float | None = None
    scope = _innermost()
    while scope is not None:
        is_open = scope.task is not None
        if is_open and (nearest is None or scope.when < nearest):
            nearest = scope.when
        scope = scope.outer
    return None if nearest is None else nearest - now


def _open_or_outer(scope: Scope | None) -> Scope | None:
    """Return the scope or, if it has closed, the next one around it that is open."""
    while scope is not None and scope.task is None:
        scope = scope.outer
    return scope


class Scope:
    """One call under a time limit. Belongs to the task that opened it."""

    # Filled in by `TimeLimit.open`: an ``__init__`` would be a tenth of the price of a call.
    __slots__ = ("__weakref__", "cancelling", "expired", "outer", "queue", "task", "when")

    when: float
    outer: Scope | None
    task: asyncio.Task[object] | None  # none once the scope has been closed
    queue: _Queue
    cancelling: int
    expired: bool

    def close(self) -> bool:
        """End the scope.

        Returns:
            Whether a ``CancelledError`` that is leaving the scope was sent by the scope, and by nobody
            else as well: then it is a timeout. A cancellation by the caller always wins.
        """
        # Contexts that were copied inside, by timers and tasks, keep the scope: not also the task, with
        # its result and its error.
        task, self.task = self.task, None
        self.queue.scopes.pop(self, None)
        # The context may keep it as well: closed, it counts for nobody, and the next one takes its place.
        # To put the outer one back would be a tenth of the price of a call.
        if _innermost() is not self:
            self._leave_those_inside()
        return self.expired and task is not None and task.uncancel() <= self.cancelling

    def _leave_those_inside(self) -> None:
        """Leave the scopes inside that are still open: those of a generator that nobody closed."""
        inside, is_one_open = _innermost(), False
        while inside is not None and inside is not self:
            is_one_open = is_one_open or inside.task is not None
            inside = inside.outer
        if is_one_open and inside is self:  # else it is another task that closes the scope, for a generator
            _set_innermost(self.outer)

    def cut_off(self) -> None:
        """Cancel what runs inside, unless it has ended."""
        if self.task is not None:
            self.expired = True
            self.task.cancel()


class TimeLimit:
    """A fixed limit on the duration of calls; safe for concurrent tasks, threads and loops.

    Args:
        seconds: The limit; 0 cuts a call off when it first waits.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._queues: dict[asyncio.AbstractEventLoop, _Queue] = {}
        self._latest: _Queue | None = None

    def open(self, now: float, make: type[Scope] = Scope) -> Scope:
        """Put the running task under the limit, until `Scope.close`.

        Raises:
            RuntimeError: If no task is running.
        """
        loop = get_running_loop()
        task = current_task(loop)
        if task is None:
            raise RuntimeError("what has a time limit must run in a task")
        queue = self._latest
        if queue is None or queue.loop is not loop:
            queue = self._queue_of(loop)
        scope = make()
        scope.when = now + self.seconds
        scope.task = task
        scope.queue = queue
        scope.cancelling = task.cancelling()
        scope.expired = False
        outer = _innermost()
        if outer is not None and outer.task is None:
            outer = outer.outer
        if outer is not None:
            # Closed scopes are left out, or tasks that start each other would form an endless chain.
            outer = _open_or_outer(outer)
            if outer is not None:
                outer.outer = _open_or_outer(outer.outer)
        scope.outer = outer
        _set_innermost(scope)
        queue.scopes[scope] = None
        if queue.timer is None:
            queue.arm(self.seconds)
        return scope

    def _queue_of(self, loop: asyncio.AbstractEventLoop) -> _Queue:
        with self._lock:
            queue = self._queues.get(loop)
            if queue is None:
                live = {each: queue for each, queue in self._queues.items() if not each.is_closed()}
                queue = live[loop] = _Queue(loop, self.seconds)
                self._queues = live
            self._latest = queue
            return queue


class _Queue:
    """The open scopes of one limit in one loop, oldest first, and the timer for the oldest."""

    __slots__ = ("_context", "_seconds", "loop", "scopes", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = loop
        self._seconds = seconds
        self.scopes: dict[Scope, None] = {}  # a dict, as a scope that closes must leave at once
        self.timer: asyncio.TimerHandle | None = None
        self._context = Context()  # the timer is for all calls: it must not keep the context of one alive

    def arm(self, seconds: float) -> None:
        delay = max(seconds, _clock.SHORTEST_WAIT)
        self.timer = self.loop.call_later(delay, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self.timer = None
        now = _clock.monotonic()
        while self.scopes:
            scope = next(iter(self.scopes))
            # Never later than that, not even if the clock was set back, as when frozen time ends.
            scope.when = min(scope.when, now + self._seconds)
            if scope.when > now:
                self.arm(scope.when - now)
                return
            del self.scopes[scope]
            # Three loop turns later: a result that arrives in this turn is taken by the task in the
            # next one, or by the task of a shared load, from which the waiting one takes it a turn
            # later; and a result wins over a timeout.
            call_soon: Any = self.loop.call_soon
            call_soon(call_soon, call_soon, scope.cut_off)


def open_until(when: float, now: float) -> Scope:
    """Put the running task under a deadline, until `Scope.close`.

    For a call that is under its limit in several pieces: they are not in the order in which their calls
    began, so each has a timer of its own.
    """
    return TimeLimit(when - now).open(now, _ScopeWithTimer)


class _ScopeWithTimer(Scope):
    __slots__ = ()

    def close(self) -> bool:
        if self.queue.timer is not None:
            self.queue.timer.cancel()
        is_cut_off = super().close()
        if _innermost() is self:
            _set_innermost(self.outer)
        return is_cut_off

    def _leave_those_inside(self) -> None:
        """Do nothing: a block in a generator can end while a call that began after it goes on."""
