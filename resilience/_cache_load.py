"""What `cached` does when a call finds no fresh entry: load, once for all who ask, and keep the result.

A value that expired within its window is answered at once, while one load in the background replaces it.
A load that fails may be answered by an expired value as well, and its error may be remembered. What was
invalidated while it was loading reaches those who wait for it, and is not kept. A store that fails does
not fail the call: that is counted and told as ``cache.store_failed``.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from resilience import _arguments, _clock, _events
from resilience._cache_config import CachedConfig, tag_names
from resilience._cache_key import instance_of
from resilience._cache_memory import MemoryStore
from resilience._cache_store import Entry, Rest, Store
from resilience._error_copy import copy_error
from resilience._errors import RejectedError
from resilience._single_flight import Flight, Flights

MOST_REFRESHES = 100
"""How many loads run in the background at once; above that, a later call has the value replaced."""

_EVENTS = {
    "hits": "cache.hit",
    "misses": "cache.miss",
    "stale": "cache.stale",
    "coalesced": "cache.coalesced",
    "evictions": "cache.evicted",
    "refresh_failures": "cache.refresh_failed",
    "store_failures": "cache.store_failed",
}


class Counts:
    """How often each thing happened."""

    __slots__ = tuple(_EVENTS)

    hits: int
    misses: int
    stale: int
    coalesced: int
    evictions: int
    refresh_failures: int
    store_failures: int

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin at zero."""
        for each in _EVENTS:
            setattr(self, each, 0)


class Call(NamedTuple):
    """One call of a cached function."""

    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: Hashable
    name: str


class Answer(NamedTuple):
    """The value of a call, and whether it is to be replaced by a load in the background."""

    value: Any
    is_outdated: bool = False


class Loads:
    """The loads of one cache; safe for concurrent tasks, threads and loops.

    Args:
        config: The arguments of the cache.
        store: Where the values are kept.

    Attributes:
        counts: How often each thing happened.
        errors: The remembered errors, apart from the values, which they must not drive out.
    """

    def __init__(self, config: CachedConfig, store: Store) -> None:
        self.counts = Counts()
        self.errors = MemoryStore(config.maxsize)
        self._config = config
        self._store = store
        self._flights: Flights[Answer] = Flights()
        self._lock = threading.RLock()  # reentrant, as comparing two keys may run anything

    async def answer(self, call: Call, entry: Entry | None) -> Any:
        """Answer a call for which there was no fresh entry at hand."""
        loop = asyncio.get_running_loop()
        answer = None if self._store.is_shared else self._from_entry(call, entry)
        if answer is None:
            flight = self._find(loop, call.key)
            if flight is None:
                flight = self._board(loop, call.key, call)
                answer = await flight.lead(partial(self._answer_in_flight, flight, call))
            elif flight.is_around():
                # The function calls itself: it recurses as it would undecorated, instead of hanging.
                return await call.function(*call.args, **call.kwargs)
            else:
                self.count("coalesced", call.name)
                return (await flight.follow()).value
        if answer.is_outdated:
            self._refresh(loop, call)
        return answer.value

    def count(self, what: str, name: str, **attributes: object) -> None:
        """Count a thing, and tell it to the listeners."""
        with self._lock:
            setattr(self.counts, what, getattr(self.counts, what) + 1)
        if _events.listeners:
            _events.emit(_EVENTS[what], name, **attributes)

    def drop(self, keys: Iterable[Hashable]) -> Rest:
        """Drop values, errors and loads in flight."""
        keys = list(keys)
        # The loads first: then none of them can store its value after it was dropped here.
        with self._lock:
            for key in keys:
                self._flights.detach_slot(key)
                self._flights.detach_slot(_in_background(key))
        self.errors.drop(keys)
        return self._store.drop(keys)

    def drop_tag(self, tag: Hashable) -> Rest:
        """Drop the values, errors and loads in flight that have a tag."""
        with self._lock:
            self._flights.detach(lambda flight: tag in flight.tags)
        self.errors.drop_tag(tag)
        return self._store.drop_tag(tag)

    def clear(self) -> Rest:
        """Drop all values, errors and loads in flight."""
        with self._lock:
            self._flights.detach(lambda _: True)
        self.errors.clear()
        return self._store.clear()

    def reset_counts(self) -> None:
        """Begin to count at zero."""
        with self._lock:
            self.counts.reset()

    def in_flight(self) -> int:
        """Return how many loads can be joined now."""
        with self._lock:
            return len(self._flights)

    async def aclose(self) -> None:
        """End the loads in the background, those of this loop before it returns."""
        loop = asyncio.get_running_loop()
        with self._lock:
            flights = list(self._flights.background)
        for each in flights:
            if each.loop is not loop:
                with suppress(RuntimeError):  # closed, and its loads with it
                    each.loop.call_soon_threadsafe(each.release)
        for flight in [each for each in flights if each.loop is loop and each.release()]:
            await flight.ended()

    # --- What is there already ----------------------------------------------------------------------

    def _from_entry(self, call: Call, entry: Entry | None) -> Answer | None:
        """Answer from an entry, fresh or expired, or from a remembered error, if that is possible."""
        now = _clock.monotonic()
        if entry is not None and now < entry.expires_at:
            self.count("hits", call.name)
            return Answer(entry.value)
        error = self._remembered(call.key, now)
        window = self._config.stale_while_revalidate
        if error is not None:
            window = max(window, self._config.stale_if_error)
        if entry is not None and now < entry.expires_at + window:
            self.count("stale", call.name, reason="revalidating" if error is None else "error")
            return Answer(entry.value, is_outdated=error is None)
        if error is not None:
            self.count("hits", call.name)
            try:
                raise error
            finally:
                del error  # it refers to this frame, by the traceback
        return None

    def _remembered(self, key: Hashable, now: float) -> BaseException | None:
        """Return a new copy of the error that is remembered for a key."""
        entry = self.errors.find(key) if self._config.error_ttl else None
        return copy_error(entry.value) if entry is not None and now < entry.expires_at else None

    # --- In flight ----------------------------------------------------------------------------------

    def _find(self, loop: asyncio.AbstractEventLoop, slot: Hashable) -> Flight[Answer] | None:
        with self._lock:
            return self._flights.find(loop, slot)

    def _board(
        self, loop: asyncio.AbstractEventLoop, slot: Hashable, call: Call, *, in_background: bool = False
    ) -> Flight[Answer]:
        flight = Flight(loop, slot, self._tags(call), in_background=in_background, on_end=self._on_end)
        with self._lock:
            self._flights.add(flight)
        return flight

    def _on_end(self, flight: Flight[Answer]) -> None:
        with self._lock:
            self._flights.remove(flight)

    async def _answer_in_flight(self, flight: Flight[Answer], call: Call) -> Answer:
        entry = None
        if self._store.is_shared:
            entry = await self._read(call)
            answer = self._from_entry(call, entry)
            if answer is not None:
                return answer
        refresh = self._find(flight.loop, _in_background(call.key))
        try:
            if refresh is not None and not refresh.is_around():
                self.count("coalesced", call.name)
                return await refresh.follow()
            self.count("misses", call.name)
            return Answer(await self._load(flight, call))
        except Exception:
            # Looked up now: in memory, what was invalidated in the meantime is gone.
            entry = entry if self._store.is_shared else self._store.find(call.key)
            if entry is None or not flight.is_current or not self._may_stand_in(entry):
                raise
            self.count("stale", call.name, reason="error")
            return Answer(entry.value)

    def _may_stand_in(self, entry: Entry) -> bool:
        """Whether an expired value may be the answer when the load fails."""
        return _clock.monotonic() < entry.expires_at + self._config.stale_if_error

    def _refresh(self, loop: asyncio.AbstractEventLoop, call: Call) -> None:
        """Begin to load in the background, unless that is under way or too much else is."""
        slot = _in_background(call.key)
        with self._lock:
            if self._flights.find(loop, slot) or len(self._flights.background) >= MOST_REFRESHES:
                return
        flight = self._board(loop, slot, call, in_background=True)
        flight.start(partial(self._refresh_in_flight, flight, call))

    async def _refresh_in_flight(self, flight: Flight[Answer], call: Call) -> Answer:
        try:
            return Answer(await self._load(flight, call))
        except Exception as error:
            self.count("refresh_failures", call.name, error=type(error).__name__)
            raise

    async def _load(self, flight: Flight[Answer], call: Call) -> Any:
        try:
            value = await call.function(*call.args, **call.kwargs)
        except Exception as error:
            # A rejection tells that the function was not called, and may end before any time to live.
            if self._config.error_ttl and not isinstance(error, RejectedError):
                await self._remember(flight, call, error)
            raise
        await self._keep(flight, call, value)
        return value

    async def _remember(self, flight: Flight[Answer], call: Call, error: Exception) -> None:
        twin = copy_error(error)  # without the traceback, which would keep all frames of the call alive
        if twin is not None:
            entry = Entry(twin, _clock.monotonic() + self._config.error_ttl, flight.tags)
            await self.errors.write(call.key, entry, lambda: flight.is_current)

    async def _keep(self, flight: Flight[Answer], call: Call, value: Any) -> None:
        now = _clock.monotonic()
        config = self._config
        if config.error_ttl and flight.is_current:
            self.errors.drop((call.key,))
        if config.condition is not None and not config.condition(value):
            return
        ttl = self._time_to_live(value)
        if not (ttl or config.stale_while_revalidate or config.stale_if_error):
            return
        for _ in range(await self._write(flight, call, Entry(value, now + ttl, flight.tags))):
            self.count("evictions", call.name)

    def _time_to_live(self, value: Any) -> float:
        ttl = self._config.ttl
        if callable(ttl):
            ttl = _arguments.seconds("the result of ttl=", ttl(value))
        return ttl * (1 - self._config.jitter * random.random())

    def _tags(self, call: Call) -> tuple[Hashable, ...]:
        tags = self._config.tags
        if callable(tags):
            tags = tag_names("the result of tags=", tags(*call.args, **call.kwargs))
        instance = instance_of(call.key)
        return tags if instance is None else (*tags, instance)

    # --- The store, which may fail ------------------------------------------------------------------

    async def _read(self, call: Call) -> Entry | None:
        try:
            return await self._store.read(call.key)
        except Exception as error:
            self.count("store_failures", call.name, operation="get", error=type(error).__name__)
            return None

    async def _write(self, flight: Flight[Answer], call: Call, entry: Entry) -> int:
        try:
            return await self._store.write(call.key, entry, lambda: flight.is_current)
        except Exception as error:
            self.count("store_failures", call.name, operation="set", error=type(error).__name__)
            return 0


_BACKGROUND = object()


def _in_background(key: Hashable) -> Hashable:
    """Return the slot of the load that replaces an outdated value."""
    return _BACKGROUND, key
