"""`ServerLimits`: what a server says of its limits holds for all calls, not only for the one that it tells.

The state is kept per origin, credentials and quota. A response that asks for a pause (429, or 403 and 503
with ``Retry-After``) or that tells that a quota is used up (also a 200) blocks that quota: calls that come
later wait until the block is over, and so do those that wait already. Who would have to wait too long gets
an error at once, and nothing is sent. When a block ends, those who wait go on one at a time, after a moment
that is up to chance, as other clients wait for the same end.

Nothing is known as long as no server has told anything, and then it costs one check.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, cast, get_args

from resilience import RateLimitExceededError, _arguments, _clock, _deadline, _events, _live
from resilience._keys import KeyTable
from resilience._switch import switch
from resilience_httpx._limit_keys import credentials_of, route_of
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx
from resilience_httpx._quota_windows import Quotas, Window
from resilience_httpx._rate_headers import Quota, ResetUnit, exhausted_for, has_quotas, quotas
from resilience_httpx._retry_after import retry_after
from resilience_httpx._waiters import Waiter, wake_all, wake_first

Passage: TypeAlias = list[tuple[Window, int]]
"""The windows that a request was let through, each with its round."""

MOST_KEYS = 1_000

_THROTTLING = frozenset({403, 429, 503})


class ServerLimits:
    """Has every call honour what a server says of its limits; the ``server_limits=`` of a client.

    Without it a client has one of its own, with the defaults. Clients that are given the same object share
    what they are told. Safe for concurrent tasks, threads and event loops.

    Args:
        max_wait: The longest time that a call waits for the end of a block; seconds or ``timedelta``, 0 or
            more; ``None``: as long as its time limits allow. Above it, and where the end lies past the
            deadline, `RateLimitExceededError` is raised at once, with ``retry_after``.
        pause_after_429: For how long to leave a server alone that answers 429 without telling; seconds or
            ``timedelta``, above 0. Default: only the call itself waits, by the backoff of its retry.
        reset_unit: What numbers in ``X-RateLimit-Reset`` are: ``"seconds"``, ``"milliseconds"``,
            ``"epoch_seconds"`` or ``"epoch_milliseconds"``; default: told by their size.
        key: Function of the request that returns what shares its limits, such as a tenant or a model;
            default: the credentials.
        name: What events and errors call it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range.

    Example:
        >>> limits = ServerLimits(max_wait=60, pause_after_429=10)
        >>> limits.snapshot()
        []
    """

    def __init__(
        self,
        *,
        max_wait: _arguments.Seconds | None = 30.0,
        pause_after_429: _arguments.Seconds | None = None,
        reset_unit: ResetUnit | None = None,
        key: Callable[[httpx.Request], Hashable] | None = None,
        name: str = "server_limits",
    ) -> None:
        self._max_wait = math.inf if max_wait is None else _arguments.seconds("max_wait", max_wait)
        self._pause_after_429 = (
            None
            if pause_after_429 is None
            else _arguments.seconds("pause_after_429", pause_after_429, above_zero=True)
        )
        if reset_unit is not None and reset_unit not in get_args(ResetUnit):
            raise ValueError(f"reset_unit must be one of {get_args(ResetUnit)}, got {reset_unit!r}")
        self._unit: ResetUnit | None = reset_unit
        self._key = _arguments.optional(_arguments.plain_function, "key", key)
        self._name = _arguments.text("name", name)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._table: KeyTable[Quotas] = KeyTable(Quotas, MOST_KEYS)
        self.has_heard = False
        """Whether any server has told anything."""
        _live.add(self)

    def number(self) -> int:
        """Return the number of a request that begins now."""
        return next(self._numbers)

    async def enter(self, request: httpx.Request) -> Passage | None:
        """Wait until a request may be sent.

        Returns:
            What `leave` needs when the request has ended; ``None`` if nothing is known of its limits.

        Raises:
            RateLimitExceededError: If the server takes it later than the call may wait.
        """
        if not switch.active:
            return None
        key, route = self._key_of(request), route_of(request)
        started = _clock.monotonic()
        waiter = Waiter()
        try:
            while True:
                now = _clock.monotonic()
                left = _left(now)
                with self._lock:
                    obstacle = self._obstacle(key, route, waiter, now)
                    if not isinstance(obstacle, Window):
                        break
                    wait = obstacle.wait(now)
                    is_refused = not self._max_wait or wait > self._max_wait or wait >= left
                    if not is_refused:
                        waiter.line_up(obstacle)
                if is_refused:
                    raise self._rejection(wait or None)
                await waiter.turn(wait, left)
        finally:
            if waiter.window is not None:
                with self._lock:
                    waiter.quit()
        if waiter.has_waited and _events.listeners:
            _events.emit("rate_limit.waited", self._name, seconds=_clock.monotonic() - started)
        return obstacle

    def leave(self, passage: Passage, *, answered: bool) -> None:
        """Note the end of a request that was let through.

        Args:
            passage: What `enter` returned.
            answered: Whether the attempt came to an end of its own.
        """
        with self._lock:
            for window, entered in passage:
                window.leave(entered, answered=answered)
                wake_first(window)

    def is_blocked(self, request: httpx.Request) -> bool:
        """Whether a request that was let through must not be sent now."""
        with self._lock:
            known = self._table.find(self._key_of(request))
            now = _clock.monotonic()
            return known is not None and any(window.wait(now) for window in known.of(route_of(request)))

    def has_something_to_say(self, response: httpx.Response) -> bool:
        """Whether `hear` may learn something; cheap, as it is asked of every response."""
        return response.status_code in _THROTTLING or has_quotas(response.headers)

    def hear(self, request: httpx.Request, response: httpx.Response, number: int) -> float | None:
        """Note what a response says.

        Args:
            request: The request as the caller made it.
            response: The response, to it or to what a redirect made of it.
            number: What `number` returned before it was sent.

        Returns:
            The seconds for which it asks to be left alone, if it does.
        """
        headers = response.headers
        wall = time.time()
        told = quotas(headers, wall, self._unit)
        pause = self._pause(response.status_code, headers, told, wall)
        if told or pause is not None:
            key = self._key_of(request, response.request.url)
            with self._lock:
                self.has_heard = True
                now = _clock.monotonic()
                known = self._table.at(key, now)
                heard = next(self._numbers)
                for window, longer in known.learn(
                    route_of(request), told, pause, number, heard, now
                ).items():
                    (wake_all if longer else wake_first)(window)
        return pause

    def reset(self) -> None:
        """Forget all that servers have told; those who wait go on."""
        with self._lock:
            for known in self._table:
                for window in known.windows.values():
                    wake_all(window)
            self._table.clear()
            self.has_heard = False

    def snapshot(self) -> list[dict[str, Any]]:
        """Return what is known as plain data, per origin and quota.

        The credentials are not in it: two of the same origin and quota are those of two credentials.
        """
        with self._lock:
            now = _clock.monotonic()
            return [
                {
                    "origin": cast("tuple[str, object]", key)[0],
                    "quota": name,
                    "remaining": window.remaining,
                    "blocked_for": window.wait(now),
                    "waiting": len(window.waiters),
                }
                for key, known in self._table.items()
                for name, window in known.windows.items()
            ]

    def on_page(self) -> dict[str, Any]:
        """Return the entry of these limits on the page of `resilience.snapshot`: totals only."""
        known = self.snapshot()
        return {
            "origins": len({each["origin"] for each in known}),
            "blocked": sum(each["blocked_for"] > 0 for each in known),
            "waiting": sum(each["waiting"] for each in known),
            "name": self._name,
            "kind": "server_limits",
            "policy": repr(self),
            "enabled": True,
        }

    def __repr__(self) -> str:
        return f"ServerLimits(name={self._name!r})"

    def _obstacle(self, key: Hashable, route: str, waiter: Waiter, now: float) -> Window | Passage | None:
        """Return what a request has to wait for, or let it through. Call it with the lock."""
        known = self._table.find(key)
        if known is None:
            return None
        windows = known.of(route)
        obstacles = [
            each for each in windows if each.wait(now) or each.is_crowded(now) or not waiter.is_next(each)
        ]
        if obstacles:
            return max(obstacles, key=lambda window: window.wait(now))
        return [(window, window.enter(now)) for window in windows]

    def _pause(self, status: int, headers: httpx.Headers, told: list[Quota], wall: float) -> float | None:
        if status not in _THROTTLING:
            return None
        asked = retry_after(headers, wall)
        if asked is None and status != 503:
            asked = exhausted_for(told)
        if asked is None and status == 429:
            asked = self._pause_after_429
        return asked

    def _rejection(self, wait: float | None) -> RateLimitExceededError:
        if _events.listeners:
            _events.emit("rate_limit.rejected", self._name, retry_after=wait)
        return RateLimitExceededError(retry_after=wait, policy=self._name)

    def _key_of(self, request: httpx.Request, url: httpx.URL | None = None) -> Hashable:
        origin = origin_of(request.url if url is None else url)
        return origin, credentials_of(request) if self._key is None else self._key(request)


def _left(now: float) -> float:
    """Return the seconds until the deadline of the running call."""
    left = _deadline.remaining(now)
    return math.inf if left is None else left
