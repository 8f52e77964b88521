"""How a call is answered by the response cache: from the store, or by one exchange for all who ask.

An exchange with the server is a call of its own, in a task of its own: it goes on as long as somebody waits
for it. What it brings goes to all who wait, if the rules let it; the others send requests of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from resilience import _clock, _events
from resilience._cache_info import Counts
from resilience._cache_store import Entry, Store
from resilience._single_flight import Flight, Flights
from resilience_httpx import _cache_rules as rules
from resilience_httpx._cache_keys import Variation, tag_of, variant_of
from resilience_httpx._cache_rules import StoredResponse
from resilience_httpx._cache_visit import Answer, Found, Visit
from resilience_httpx._call import Call, Send, current
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx
from resilience_httpx._requests import fresh_copy

KEEP: Final = 86_400.0
"""Seconds for which an expired response is kept, to be shown to the server again or used if that fails."""

MOST_REFRESHES: Final = 100


class Exchanges:
    """Answers calls; safe for concurrent tasks, threads and loops.

    Args:
        store: Where the responses are kept.
        name: What events call it.
        stale_if_error: Seconds; see `ResponseCache`.
        max_entry_size: Bytes; see `ResponseCache`.

    Attributes:
        counts: How often each thing happened.
        flights: The exchanges under way.
    """

    def __init__(self, store: Store, name: str, stale_if_error: float, max_entry_size: int) -> None:
        self.counts = Counts()
        self.flights = Flights(MOST_REFRESHES)
        self._store = store
        self._name = name
        self._stale_if_error = stale_if_error
        self._max_entry_size = max_entry_size
        self._lock = threading.Lock()

    async def answer(
        self, visit: Visit, fetch: Callable[[Visit, Found | None], Awaitable[httpx.Response]]
    ) -> httpx.Response:
        """Answer a call.

        Args:
            visit: The call.
            fetch: The method of that name, under a time limit.
        """
        found = await self._find(visit)
        if found is not None and rules.is_fresh(found.stored, found.age, visit.request):
            return self._from_store(visit, found, "hit")
        if found is not None and found.is_within("stale-while-revalidate", visit.request, 0):
            self._refresh(visit, found)
            return self._from_store(visit, found, "stale", reason="revalidating")
        try:
            response = await fetch(visit, found)
        except Exception:
            stale = await self._stand_in(visit, found)
            if stale is None:
                raise
            return stale
        if response.status_code not in rules.SERVER_ERRORS:
            return response
        return await self._stand_in(visit, found) or response

    async def fetch(self, visit: Visit, found: Found | None) -> httpx.Response:
        """Ask the server, or wait for what it answers to another call."""
        flight = self.flights.find(visit.slot)
        if flight is None:
            flight = self.flights.begin(visit.slot, (tag_of(visit.request.url),))
            self._count("miss")
            answer: Answer = await flight.lead(partial(self._load, flight, visit, found))
            return answer.response
        if flight.is_around():  # the exchange itself asks for what it is to bring
            return await visit.alone(visit.request)
        self._count("coalesced")
        answer = await flight.follow()
        return answer.copied_for(visit) or await visit.alone(visit.request)

    async def forget(self, url: httpx.URL) -> None:
        """Drop all responses of a URL; a store that fails is told, not raised."""
        tag = tag_of(url)
        self.flights.detach(lambda flight: tag in flight.tags)
        try:
            await self._store.drop_tag(tag)
        except Exception as error:
            self._count("store_failed", operation="delete", error=type(error).__name__)

    async def forget_changed(self, request: httpx.Request, response: httpx.Response) -> None:
        """Drop the responses of what a method that is not safe says it has changed (section 4.4)."""
        for name in ("location", "content-location"):
            if name in response.headers:
                try:
                    url = request.url.join(response.headers[name])
                except Exception:  # no URL at all
                    continue
                if origin_of(url) == origin_of(request.url):
                    await self.forget(url)

    # --- What is there already ---

    async def _find(self, visit: Visit) -> Found | None:
        entry = await self._read(visit.key)
        if entry is not None and isinstance(entry.value, Variation):
            visit.slot = variant_of(visit.key, entry.value.names, visit.request)
            entry = await self._read(visit.slot)
        if entry is None or not isinstance(entry.value, StoredResponse):
            return None
        return Found(entry.value, entry.value.lifetime - (entry.expires_at - _clock.monotonic()))

    async def _stand_in(self, visit: Visit, found: Found | None) -> httpx.Response | None:
        """Return an expired response in place of a failure, if there is one that may be used."""
        # Looked up again: what was invalidated in the meantime is gone.
        found = None if found is None else await self._find(visit)
        if found is None or not found.is_within("stale-if-error", visit.request, self._stale_if_error):
            return None
        return self._from_store(visit, found, "stale", reason="error")

    def _from_store(self, visit: Visit, found: Found, what: str, **attributes: str) -> httpx.Response:
        self._count(what, **attributes)
        return visit.response(found.stored, found.age, what)

    # --- In flight ---

    def _refresh(self, visit: Visit, found: Found) -> None:
        """Begin an exchange in the background, unless one is under way or too many others are."""
        if self.flights.find(visit.slot) is not None:
            return
        flight = self.flights.begin_in_background(visit.slot, (tag_of(visit.request.url),))
        if flight is not None:
            flight.start(partial(self._load_anew, flight, visit, found))

    async def _load_anew(self, flight: Flight, visit: Visit, found: Found) -> Answer:
        try:
            answer = await self._load(flight, visit, found)
        except Exception as error:
            self._count("refresh_failed", error=type(error).__name__)
            raise
        if answer.response.status_code in rules.SERVER_ERRORS:
            self._count("refresh_failed", error=str(answer.response.status_code))
        return answer

    async def _load(self, flight: Flight, visit: Visit, found: Found | None) -> Answer:
        """Exchange with the server, and keep what it brings."""
        known = found.stored if found is not None and found.stored.has_validator else None
        # The caller's own object is sent as httpx does it, but not behind his back.
        request = visit.call.given if known is None and not flight.in_background else _copy(visit, known)
        response = await visit.exchange(request, visit.call)
        if response.status_code == 304 and known is not None:
            if rules.confirms(response, known):
                return await self._confirmed(flight, visit, known, response)
            response = await visit.exchange(_copy(visit, None), visit.call)
        if not visit.fits(response.request, response.headers.get("vary", "")):
            return Answer(visit.request, response, None, 0)
        kept = rules.storable(response, wall_clock=time.time(), is_private=visit.owner.is_private)
        age = _age(response)
        if kept is not None and kept.size <= self._max_entry_size:
            await self._keep(flight, visit, kept, age)
        elif found is not None and response.status_code not in (*rules.SERVER_ERRORS, 408, 429):
            await self._drop(visit.slot)
        return Answer(visit.request, response, kept or rules.copied_error(response), age)

    async def _confirmed(
        self, flight: Flight, visit: Visit, known: StoredResponse, response: httpx.Response
    ) -> Answer:
        new = rules.refreshed(known, response, time.time())
        age = _age(response)
        may_be_kept = rules.may_be_kept(new) and visit.fits(response.request, new.header("vary"))
        if may_be_kept:
            await self._keep(flight, visit, new, age)
        else:
            await self._drop(visit.slot)
        confirmed = visit.response(new, age, "revalidated")
        return Answer(visit.request, confirmed, new if may_be_kept else None, age)

    # --- The store, which may fail ---

    async def _keep(self, flight: Flight, visit: Visit, kept: StoredResponse, age: float) -> None:
        tags, now = (tag_of(visit.request.url),), _clock.monotonic()
        names = rules.varying(kept.header("vary"))
        key = variant_of(visit.key, names, visit.request) if names else visit.key
        if names:
            await self._write(flight, Entry(visit.key, Variation(names), tags, now, now + KEEP))
        await self._write(flight, Entry(key, kept, tags, now, now + kept.lifetime - age))

    async def _write(self, flight: Flight, entry: Entry) -> None:
        try:
            evicted = await self._store.write(entry, lambda: flight.is_current)
        except Exception as error:
            self._count("store_failed", operation="set", error=type(error).__name__)
            return
        for _ in range(evicted):
            self._count("evicted")

    async def _read(self, key: str) -> Entry | None:
        entry = self._store.find(key)
        try:
            entry = await self._store.read(key) if entry is None else entry
        except Exception as error:
            self._count("store_failed", operation="get", error=type(error).__name__)
            return None
        return entry if entry is not None and entry.is_of_use(_clock.monotonic(), KEEP) else None

    async def _drop(self, key: str) -> None:
        try:
            await self._store.drop((key,))
        except Exception as error:
            self._count("store_failed", operation="delete", error=type(error).__name__)

    def _count(self, what: str, **attributes: object) -> None:
        with self._lock:
            setattr(self.counts, what, getattr(self.counts, what) + 1)
        if _events.listeners:
            _events.emit(f"cache.{what}", self._name, **attributes)


def exchange_by(send: Send) -> Callable[[httpx.Request, Call], Awaitable[httpx.Response]]:
    """Make a function that sends a request as a call of its own, on behalf of another one."""

    async def exchange(request: httpx.Request, asking: Call) -> httpx.Response:
        call = asking.another(request)
        token = current.set(call)
        try:
            return await send(call.request)
        finally:
            current.reset(token)
            # What errors tell of the call that asked is what was done for it.
            asking.failure, asking.asked_pause = call.failure, call.asked_pause
            asking.attempts += call.attempts
            await call.end()

    return exchange


def _copy(visit: Visit, known: StoredResponse | None) -> httpx.Request:
    request = fresh_copy(visit.request)
    request.headers.update({} if known is None else rules.conditions(known))
    return request


def _age(response: httpx.Response) -> float:
    try:
        took: Any = response.elapsed.total_seconds()
    except RuntimeError:  # the transport does not say
        took = 0.0
    return rules.initial_age(response, took, time.time())
