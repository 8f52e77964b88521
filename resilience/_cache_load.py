"""What `cached` does when a call finds no fresh entry: load, once for all who ask, and keep the result.

A value that expired within its window is answered at once, while one load in the background replaces it.
A load that fails may be answered by an expired value as well, and its error may be remembered. What was
invalidated while it was loading reaches those who wait for it, and is not kept. A store that fails does
not fail the call: that is counted and told as ``cache.store_failed``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable, Hashable, Iterable
from functools import partial
from typing import Any, NamedTuple

from resilience import _arguments, _clock, _events
from resilience._cache_config import CachedConfig, tag_names
from resilience._cache_info import Counts
from resilience._cache_key import instance_of
from resilience._cache_memory import MemoryStore
from resilience._cache_store import Entry, Rest, Store
from resilience._error_copy import copy_error
from resilience._errors import RejectedError
from resilience._single_flight import Flight, Flights

MOST_REFRESHES = 100
"""How many loads of a cache run in the background at once; above that a value waits for a later call, or
expires."""


class Call(NamedTuple):
    """One call of a cached function."""

    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: Hashable
    name: str


class Loads:
    """The loads of one cache; safe for concurrent tasks, threads and loops.

    Args:
        config: The arguments of the cache.
        store: Where the values are kept.

    Attributes:
        counts: How often each thing happened.
        errors: The remembered errors, apart from the values, which they must not drive out.
        flights: The loads under way.
    """

    def __init__(self, config: CachedConfig, store: Store) -> None:
        self.counts = Counts()
        self.errors = MemoryStore(config.maxsize)
        self.flights = Flights(MOST_REFRESHES)
        self._config = config
        self._store = store
        self._lock = threading.Lock()

    async def answer(self, call: Call) -> Any:
        """Answer a call for which there was nothing at hand that answers it without further ado."""
        entry = self._store.find(call.key)
        if entry is None and self._store.is_shared:
            entry = await self._read_once(call)
        usable = self._usable(call, entry)
        if usable is not None:
            return self._copied(usable.value)
        flight = self.flights.find(call.key)
        if flight is not None and flight.is_around():
            # The function calls itself: it recurses as it would undecorated, instead of hanging.
            return await call.function(*call.args, **call.kwargs)
        if flight is not None:
            self.count("coalesced", call.name)
            return self._copied(await flight.follow())
        flight = self.flights.begin(call.key, self._tags(call))
        self.count("miss", call.name)
        return self._copied(await flight.lead(partial(self._load, flight, call)))

    def count(self, what: str, name: str, **attributes: object) -> None:
        """Count a thing, and tell it to the listeners."""
        with self._lock:
            setattr(self.counts, what, getattr(self.counts, what) + 1)
        if _events.listeners:
            _events.emit(f"cache.{what}", name, **attributes)

    # Loads are dropped first: then none of them can store its value after it was dropped here.

    def drop(self, keys: Iterable[Hashable]) -> Rest:
        """Drop values, errors and loads in flight."""
        keys = list(keys)
        self.flights.detach_slots([*keys, *map(_reading, keys)])
        self.errors.drop(keys)
        return self._store.drop(keys)

    def drop_tag(self, tag: Hashable) -> Rest:
        """Drop the values, errors and loads in flight that have a tag."""
        self.flights.detach(lambda flight: tag in flight.tags)
        self.errors.drop_tag(tag)
        return self._store.drop_tag(tag)

    def clear(self) -> Rest:
        """Drop all values, errors and loads in flight."""
        self.flights.detach(lambda _: True)
        self.errors.clear()
        return self._store.clear()

    def drop_instance(self, token: Hashable) -> None:
        """Drop the values and errors of an instance that is gone, soon."""
        for store in (self._store, self.errors):
            if isinstance(store, MemoryStore):  # the keys of others do not tell instances apart
                store.drop_tag_later(token)

    def reset(self) -> Rest:
        """Drop all, and begin to count at zero."""
        with self._lock:
            self.counts = Counts()
        return self.clear()

    # --- What is there already ----------------------------------------------------------------------

    def _usable(self, call: Call, entry: Entry | None) -> Entry | None:
        """Return the entry, fresh or expired, if it may answer the call; raise the error that may."""
        now = _clock.monotonic()
        if entry is not None and entry.is_of_use(now):
            is_refreshing = self._is_due(call, entry, now) and self._refresh(call, entry)
            self.count("hit", call.name, **({"reason": "refreshing"} if is_refreshing else {}))
            return entry
        error = self._remembered(call.key, now)
        window = self._config.stale_while_revalidate
        if error is not None:
            window = max(window, self._config.stale_if_error)
        if entry is not None and entry.is_of_use(now, window):
            self.count("stale", call.name, reason="revalidating" if error is None else "error")
            if error is None:
                self._refresh(call, entry)
            return entry
        if error is None:
            return None
        self.count("hit", call.name)
        try:
            raise error
        finally:
            del error  # it refers to this frame, by the traceback

    def _is_due(self, call: Call, entry: Entry, now: float) -> bool:
        """Whether a fresh entry is to be replaced; a remembered error puts that off."""
        early_refresh = self._config.early_refresh
        is_drawn = early_refresh > 0 and entry.is_due(now, early_refresh)
        return is_drawn and self._remembered(call.key, now) is None

    def _remembered(self, key: Hashable, now: float) -> BaseException | None:
        """Return a new copy of the error that is remembered for a key."""
        entry = self.errors.find(key) if self._config.error_ttl else None
        return copy_error(entry.value) if entry is not None and entry.is_of_use(now) else None

    def _copied(self, value: Any) -> Any:
        copy = self._config.copy
        return value if copy is None else copy(value)

    # --- In flight ----------------------------------------------------------------------------------

    def _refresh(self, call: Call, entry: Entry) -> bool:
        """Begin to replace an entry in the background, unless a load is under way or too much else is."""
        if self.flights.find(call.key) is not None:
            return False
        flight = self.flights.begin_in_background(call.key, self._tags(call))
        if flight is None:
            return False
        flight.start(partial(self._replace, flight, call, entry))
        return True

    async def _replace(self, flight: Flight, call: Call, entry: Entry) -> Any:
        """Load, unless another process has done so since the entry was read."""
        if self._store.is_shared:
            found = await self._read(call)
            if found is not None and found.replaces(entry) and found.is_of_use(_clock.monotonic()):
                return found.value
        return await self._load(flight, call)

    async def _load(self, flight: Flight, call: Call) -> Any:
        """Call the function; if it fails, an expired entry may stand in for its result."""
        is_refresh = flight.in_background
        began_at = _clock.monotonic()
        try:
            # Its own copy: the function may still change what it returned.
            value = self._copied(await self._call(flight, call))
            await self._keep(flight, call, value, began_at)
            return value
        except Exception as error:
            if is_refresh:
                self.count("refresh_failed", call.name, error=type(error).__name__)
            window = self._config.stale_if_error
            # Read now: what another process invalidated in the meantime is gone.
            entry = await self._read(call) if window else None
            if entry is None or not flight.is_wanted() or not entry.is_of_use(_clock.monotonic(), window):
                raise
            self.count("stale", call.name, reason="error")
            return entry.value

    async def _call(self, flight: Flight, call: Call) -> Any:
        try:
            return await call.function(*call.args, **call.kwargs)
        except Exception as error:
            # A rejection tells that the function was not called, and may end before any time to live.
            if self._config.error_ttl and not isinstance(error, RejectedError):
                self._remember(flight, call, error)
            raise

    def _remember(self, flight: Flight, call: Call, error: Exception) -> None:
        twin = copy_error(error)  # without the traceback, which would keep all frames of the call alive
        if twin is not None:
            now = _clock.monotonic()
            entry = Entry(call.key, twin, flight.tags, now, now + self._config.error_ttl)
            self.errors.put(entry, lambda: flight.is_current)

    async def _keep(self, flight: Flight, call: Call, value: Any, began_at: float) -> None:
        now = _clock.monotonic()
        config = self._config
        if config.error_ttl and flight.is_current:
            self.errors.drop((call.key,))
        if config.condition is not None and not config.condition(value):
            return
        ttl = self._time_to_live(value)
        if not (ttl or config.stale_while_revalidate or config.stale_if_error):
            return
        entry = Entry(
            call.key,
            value,
            flight.tags,
            now,
            now + ttl,
            took=max(now - began_at, 0.0) if config.early_refresh else 0.0,
            early_refresh=config.early_refresh,
        )
        for _ in range(await self._write(flight, call, entry)):
            self.count("evicted", call.name)

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

    async def _read_once(self, call: Call) -> Entry | None:
        """Return the entry of a call; all who ask for it at the same time share one look."""
        slot = _reading(call.key)
        flight = self.flights.find(slot)
        if flight is None:
            flight = self.flights.begin(slot, self._tags(call))
            waiting = flight.lead(partial(self._read, call))
        else:
            waiting = flight.follow()
        entry: Entry | None = await waiting
        return entry

    async def _read(self, call: Call) -> Entry | None:
        try:
            return await self._store.read(call.key)
        except Exception as error:
            self.count("store_failed", call.name, operation="get", error=type(error).__name__)
            return None

    async def _write(self, flight: Flight, call: Call, entry: Entry) -> int:
        try:
            return await self._store.write(entry, lambda: flight.is_current)
        except Exception as error:
            self.count("store_failed", call.name, operation="set", error=type(error).__name__)
            return 0


_READING = object()


def _reading(key: Hashable) -> Hashable:
    """Return the slot of the look into a shared store."""
    return _READING, key
