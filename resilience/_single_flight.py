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
import threading
from asyncio import AbstractEventLoop, CancelledError, Future
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeAlias

from resilience._deadline import innermost
from resilience._error_copy import copy_error

Waiter: TypeAlias = "Future[list[Any]]"

_innermost: ContextVar[Flight | None] = ContextVar("resilience_flight", default=None)
"""The flight that the running code is part of."""


class Flight:
    """One shared load. Belongs to its event loop.

    Args:
        flights: Where it is found, until it ends.
        slot: What it is found by.
        tags: What it can be detached by, besides.
        in_background: Whether it goes on when nobody waits for it.

    Attributes:
        is_current: Whether its value is wanted in the store.
        has_ended: Whether its outcome was told.
        outer: The flight during which it began, if that was still under way then.
    """

    def __init__(
        self, flights: Flights, slot: Hashable, tags: tuple[Hashable, ...], *, in_background: bool
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.slot = slot
        self.tags = tags
        self.in_background = in_background
        self.is_current = True
        self.has_ended = False
        self.outer = _innermost.get()
        while self.outer is not None and self.outer.has_ended:
            self.outer = self.outer.outer
        self._flights = flights
        self._task: asyncio.Task[None] | None = None
        self._waiters: dict[Waiter, None] = {}

    def start(self, load: Callable[[], Awaitable[Any]]) -> None:
        """Begin to load, in a task of its own."""
        context = copy_context()
        context.run(innermost.set, None)
        context.run(_innermost.set, self)
        running = self._run(load)
        try:
            task = self._task = self.loop.create_task(running, context=context)
        except BaseException:
            running.close()
            self._flights.remove(self)
            raise
        task.add_done_callback(self._on_done)

    def lead(self, load: Callable[[], Awaitable[Any]]) -> Coroutine[Any, Any, Any]:
        """Begin to load, and wait for the value."""
        waiter = self._join()
        self.start(load)
        return self._wait(waiter)

    def follow(self) -> Coroutine[Any, Any, Any]:
        """Wait for the value of a load that has begun and not ended."""
        return self._wait(self._join())

    def is_around(self) -> bool:
        """Whether the running code is part of this load: waiting for it would never end."""
        flight = _innermost.get()
        while flight is not None and flight is not self:
            flight = flight.outer
        return flight is self

    def is_wanted(self) -> bool:
        """Whether somebody waits for it, and its key was not invalidated."""
        return self.is_current and bool(self._waiters)

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

    async def _wait(self, waiter: Waiter) -> Any:
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
            return value
        try:
            raise error
        finally:
            del error  # it refers to this frame, by the traceback

    async def _run(self, load: Callable[[], Awaitable[Any]]) -> None:
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

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self.has_ended:
            return
        self.has_ended = True
        self._flights.remove(self)
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
        self._flights.remove(self)  # whoever comes now begins a new one
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
    return [error if number == 0 else _twin(error) for number in range(count)]


def _twin(error: BaseException) -> BaseException:
    twin = copy_error(error)
    if twin is None:
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


class Flights:
    """The flights that can be joined, by event loop and slot; safe for several threads.

    Args:
        most_in_background: How many run in the background at once, in all loops together.
    """

    def __init__(self, most_in_background: int) -> None:
        self._most_in_background = most_in_background
        self._background: set[Flight] = set()  # whether they can be joined or not
        self._tables: dict[AbstractEventLoop, dict[Hashable, Flight]] = {}
        self._lock = threading.RLock()  # reentrant, as comparing two slots may run anything

    def find(self, slot: Hashable) -> Flight | None:
        """Return the flight to join in the running loop."""
        with self._lock:
            table = self._tables.get(asyncio.get_running_loop())
            return None if table is None else table.get(slot)

    def begin(self, slot: Hashable, tags: tuple[Hashable, ...]) -> Flight:
        """Make a flight in the running loop, to be found until it ends."""
        flight = Flight(self, slot, tags, in_background=False)
        with self._lock:
            self._add(flight)
        return flight

    def begin_in_background(self, slot: Hashable, tags: tuple[Hashable, ...]) -> Flight | None:
        """Make a flight that goes on when nobody waits for it, unless too many are under way."""
        flight = Flight(self, slot, tags, in_background=True)
        with self._lock:
            self._forget_closed_loops()
            if len(self._background) >= self._most_in_background:
                return None
            self._background.add(flight)
            self._add(flight)
        return flight

    def remove(self, flight: Flight) -> None:
        """Forget a flight that has ended."""
        with self._lock:
            self._background.discard(flight)
            self._detach(flight)

    def detach_slots(self, slots: Iterable[Hashable]) -> None:
        """Let the flights in some slots be found no more, in all loops; they go on."""
        with self._lock:
            for slot in slots:
                for table in list(self._tables.values()):
                    flight = table.get(slot)
                    if flight is not None:
                        self._detach(flight)

    def detach(self, is_meant: Callable[[Flight], bool]) -> None:
        """Let all flights that are meant be found no more; they go on."""
        with self._lock:
            flights = [flight for table in self._tables.values() for flight in table.values()]
            for flight in filter(is_meant, flights):
                self._detach(flight)

    async def close_background(self) -> None:
        """End the flights in the background that nobody waits for, those of this loop before it returns."""
        with self._lock:
            self._forget_closed_loops()
            flights = list(self._background)
        loop = asyncio.get_running_loop()
        for each in flights:
            if each.loop is not loop:
                with suppress(RuntimeError):  # closed just now, and its flights with it
                    each.loop.call_soon_threadsafe(each.release)
        for each in [each for each in flights if each.loop is loop and each.release()]:
            await each.ended()

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._tables.values()))

    def _add(self, flight: Flight) -> None:
        if flight.loop not in self._tables:
            self._forget_closed_loops()
        self._tables.setdefault(flight.loop, {})[flight.slot] = flight

    def _detach(self, flight: Flight) -> None:
        flight.is_current = False
        table = self._tables.get(flight.loop)
        if table is not None and table.get(flight.slot) is flight:
            del table[flight.slot]
            if not table:
                del self._tables[flight.loop]

    def _forget_closed_loops(self) -> None:
        """Drop what loops left behind that were closed in the middle of a load."""
        self._tables = {loop: table for loop, table in self._tables.items() if not loop.is_closed()}
        self._background = {each for each in self._background if not each.loop.is_closed()}
