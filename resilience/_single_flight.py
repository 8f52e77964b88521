"""Loads that several callers share: one call of the function for all who miss a key at the same time.

A `Flight` runs in a task of its own, so no caller's cancellation or time limit touches the others: each
waits by itself and may leave, and the last one to leave cancels the work. It runs in a copy of the first
caller's context, without that caller's deadline. `Flights` finds the flight to join, per event loop: a
flight of another loop, or of one that is closed, is never joined.

A flight that was detached, because its key was invalidated, goes on for those who wait for it; nobody
joins it any more and its value is not stored.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeAlias, TypeVar, cast

from resilience._deadline import innermost
from resilience._error_copy import copy_error

T = TypeVar("T")
Waiter: TypeAlias = "Future[list[Any]]"


_innermost: ContextVar[Flight[Any] | None] = ContextVar("resilience_flight", default=None)
"""The flight that the running code is part of."""


class Flight(Generic[T]):
    """One shared load. Belongs to its event loop.

    Args:
        loop: The loop it runs in.
        slot: What it is found by.
        tags: What it can be detached by, besides.
        in_background: Whether it goes on when nobody waits for it.
        on_end: Called when nobody may join it any more.

    Attributes:
        is_current: Whether its value is wanted in the store.
        has_ended: Whether its outcome was told.
        outer: The flight during which it began, if that is still under way then.
        in_background: Whether it goes on when nobody waits for it.
    """

    __slots__ = (
        "__weakref__",
        "_on_end",
        "_task",
        "_waiters",
        "has_ended",
        "in_background",
        "is_current",
        "loop",
        "outer",
        "slot",
        "tags",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        slot: Hashable,
        tags: tuple[Hashable, ...],
        *,
        in_background: bool,
        on_end: Callable[[Flight[T]], None],
    ) -> None:
        self.loop = loop
        self.slot = slot
        self.tags = tags
        self.is_current = True
        self.in_background = in_background
        self._on_end = on_end
        self.has_ended = False
        self.outer = _innermost.get()
        while self.outer is not None and self.outer.has_ended:
            self.outer = self.outer.outer
        self._task: asyncio.Task[None] | None = None
        self._waiters: dict[Waiter, None] = {}

    def start(self, load: Callable[[], Awaitable[T]]) -> None:
        """Begin to load, in a task of its own."""
        context = copy_context()
        context.run(innermost.set, None)
        context.run(_innermost.set, self)
        running = self._run(load)
        try:
            task = self._task = self.loop.create_task(running, context=context)
        except BaseException:
            running.close()
            self._on_end(self)
            raise
        task.add_done_callback(self._on_done)

    def lead(self, load: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Begin to load, and wait for the value."""
        waiter = self._join()
        self.start(load)
        return self._wait(waiter)

    def follow(self) -> Coroutine[Any, Any, T]:
        """Wait for the value of a load that has begun and not ended."""
        return self._wait(self._join())

    def is_around(self) -> bool:
        """Whether the running code is part of this load: waiting for it would never end."""
        flight = _innermost.get()
        while flight is not None and flight is not self:
            flight = flight.outer
        return flight is self

    def release(self) -> bool:
        """Let it go on only as long as somebody waits for it; return whether that ends it now."""
        self.in_background = False
        return self._cancel_if_alone()

    async def ended(self) -> None:
        """Wait until nothing of it runs any more."""
        task = self._task
        if task is not None and not task.done():
            await asyncio.wait((task,))

    def _join(self) -> Waiter:
        waiter: Waiter = self.loop.create_future()
        self._waiters[waiter] = None
        return waiter

    async def _wait(self, waiter: Waiter) -> T:
        """Return the value, or raise the error: the first waiter gets it itself, the others a copy."""
        try:
            outcome = await waiter
        except CancelledError:
            if self._leave(waiter):
                await self._until_ended()
            raise
        except BaseException:  # the waiting coroutine is closed: it must not wait any more
            self._leave(waiter)
            raise
        # Emptied, as the loop keeps the future that woke a task until the task waits again.
        error, value = outcome.pop(), outcome.pop()
        if error is None:
            return cast("T", value)
        try:
            raise error
        finally:
            del error  # it refers to this frame, by the traceback

    async def _run(self, load: Callable[[], Awaitable[T]]) -> None:
        try:
            value = await load()
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise  # `_on_done` tells it; and if the loop was closed over this task, nobody must be told
        except BaseException as error:
            self._end(None, error)
        else:
            # Told from here, not by a callback of the task: that would come a loop turn later, and a
            # timeout of a caller could overtake a result that is here already.
            self._end(value, None)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = CancelledError() if task.cancelled() else task.exception()
        self._end(None, error)
        self._task = None

    def _end(self, value: T | None, error: BaseException | None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        self._on_end(self)
        waiters = [each for each in self._waiters if not each.done()]
        errors = [error] * len(waiters) if error is None else _for_each(error, len(waiters))
        for waiter, own in zip(waiters, errors, strict=True):
            waiter.set_result([value, own])
        self._waiters.clear()

    def _leave(self, waiter: Waiter) -> bool:
        self._waiters.pop(waiter, None)
        return self._cancel_if_alone()

    def _cancel_if_alone(self) -> bool:
        task = self._task
        if self._waiters or self.in_background or self.has_ended or task is None or self.loop.is_closed():
            return False
        self._on_end(self)  # whoever comes now begins a new one
        task.cancel()
        return True

    async def _until_ended(self) -> None:
        """Wait until the cancelled work has cleaned up; each further cancellation reaches it as well."""
        task = self._task
        while task is not None and not task.done():
            try:
                await asyncio.wait((task,))
            except CancelledError:
                task.cancel()


def _for_each(error: BaseException, count: int) -> list[BaseException]:
    """Return the error and copies of it: what one caller adds to its own does not show in another's."""
    errors = [error]
    for _ in range(count - 1):
        twin = copy_error(error)
        if twin is None:
            errors.append(error)
            continue
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        errors.append(twin.with_traceback(error.__traceback__))
    return errors[:count]


class Flights(Generic[T]):
    """The flights that can be joined, by event loop and slot. Guarded by the lock of its owner.

    Attributes:
        background: Those that run in the background, whether they can be joined or not.
    """

    def __init__(self) -> None:
        self.background: set[Flight[T]] = set()
        self._tables: dict[AbstractEventLoop, dict[Hashable, Flight[T]]] = {}

    def find(self, loop: AbstractEventLoop, slot: Hashable) -> Flight[T] | None:
        """Return the flight to join."""
        table = self._tables.get(loop)
        return None if table is None else table.get(slot)

    def add(self, flight: Flight[T]) -> None:
        """Let a flight be found."""
        if flight.loop not in self._tables:
            self._forget_closed_loops()
            self._tables[flight.loop] = {}
        self._tables[flight.loop][flight.slot] = flight
        if flight.in_background:
            self.background.add(flight)

    def remove(self, flight: Flight[T]) -> None:
        """Forget a flight that has ended."""
        self.background.discard(flight)
        self._detach(flight)

    def detach(self, is_meant: Callable[[Flight[T]], bool]) -> None:
        """Let all flights that are meant be found no more; they go on."""
        for table in list(self._tables.values()):
            for flight in list(table.values()):
                if is_meant(flight):
                    self._detach(flight)

    def detach_slot(self, slot: Hashable) -> None:
        """Let the flights in a slot be found no more, in all loops; they go on."""
        for loop in list(self._tables):
            flight = self.find(loop, slot)
            if flight is not None:
                self._detach(flight)

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def _detach(self, flight: Flight[T]) -> None:
        flight.is_current = False
        table = self._tables.get(flight.loop)
        if table is not None and table.get(flight.slot) is flight:
            del table[flight.slot]
            if not table:
                del self._tables[flight.loop]

    def _forget_closed_loops(self) -> None:
        """Drop what loops left behind that were closed in the middle of a load."""
        self._tables = {loop: table for loop, table in self._tables.items() if not loop.is_closed()}
        self.background = {each for each in self.background if not each.loop.is_closed()}
