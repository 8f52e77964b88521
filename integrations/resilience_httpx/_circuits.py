"""One circuit per origin: hosts that have nothing to do with each other must not share one.

A breaker with ``key=`` decides for itself. One without has a single circuit, so it guards a single origin:
the client's own, as far as that is known, else the first that is asked for. Other origins get circuits of
the same configuration, which belong to the breaker as well: every client that is given the object shares
them. So its handle (``state``, ``force_open``, ``reset`` ...) is that of the client's own origin.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

from resilience import CircuitBreaker, RejectedError, circuit_breaker
from resilience_httpx._call import Send
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx


class NeutralError(RejectedError):
    """Carries a failure that says nothing about the server's health past the breaker.

    To a breaker a rejection from further in is neither success nor failure, whatever its ``on`` is.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def circuit_per_origin() -> CircuitBreaker:
    """Make the breaker of a client that was given none."""
    return circuit_breaker(key=origin_of_request)


def guard(breaker: CircuitBreaker, send: Send, use: str, home: str | None) -> Send:
    """Put a function under a breaker, with one circuit per origin.

    Args:
        breaker: The breaker.
        send: The function.
        use: What events call a breaker without a name.
        home: The client's own origin, if it is known.
    """
    if breaker.config.key is not None:
        return breaker.wrap(send, use)
    with _lock:
        family = _families.get(breaker)
        if family is None:
            family = _families[breaker] = _Family(breaker)
    if home is not None:
        family.claim(home)
    own = breaker.wrap(send, use)
    others: Send | None = None

    async def guarded(request: httpx.Request) -> httpx.Response:
        nonlocal others
        origin = origin_of(request.url)
        if origin == (family.own or family.claim(origin)):
            return await own(request)
        if not breaker.enabled:
            return await send(request)
        if others is None:
            others = family.others(use).wrap(send, use)
        return await others(request)

    return guarded


class _Family:
    """The origin that a breaker itself guards, and the breaker for all other origins."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.own: str | None = None
        # Not the breaker itself: the table of families would keep it alive.
        self._config, self._name = breaker.config, breaker.given_name
        self._others: CircuitBreaker | None = None

    def claim(self, origin: str) -> str:
        """Let the breaker itself guard an origin, unless it has one; return the one that it has."""
        with _lock:
            self.own = self.own or origin
            return self.own

    def others(self, use: str) -> CircuitBreaker:
        """Return the breaker for all other origins, made when the first of them is asked for."""
        with _lock:
            others = self._others
            if others is None:
                config = self._config._replace(key=origin_of_request)
                others = self._others = CircuitBreaker(config, name=self._name)
                others.note_use(use)
            return others


_lock = threading.Lock()
_families: WeakKeyDictionary[CircuitBreaker, _Family] = WeakKeyDictionary()


def origin_of_request(request: httpx.Request) -> str:
    """Return what a request's circuit is told apart by."""
    return origin_of(request.url)
