"""What is known of a server's quotas: pure state, guarded by the lock of its owner.

Responses arrive in another order than they were made in, so each request has a number, and each word of the
server's is stamped with the number that was next when it was heard. A word that leaves less is believed at
once; one that leaves more, or blocks for longer, only if its request began after the last word.

When a block ends, a single request is let through; each response makes room for two, as the slow start of
TCP does (RFC 5681), so that the end of a block is not the next stampede.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resilience_httpx._rate_headers import LONGEST_RESET, Quota

if TYPE_CHECKING:
    from resilience_httpx._waiters import Waiter

MOST_WINDOWS = 32
MOST_ROUTES = 1_000

LEASE = 1.0
"""Seconds after which a request that does not return no longer keeps the next one from its turn."""

_CROWD = 64  # requests under way from which on nobody counts any more


class Window:
    """One quota of a server's, until it resets."""

    __slots__ = (
        "_allowed",
        "_blocked_until",
        "_entered_at",
        "_heard",
        "_in_flight",
        "_remaining",
        "_resets_at",
        "_round",
        "waiters",
    )

    def __init__(self) -> None:
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._remaining = math.inf
        self._resets_at = -math.inf
        self._blocked_until = -math.inf
        self._heard = -1
        self._round = 0
        self._in_flight = 0
        self._allowed = math.inf
        self._entered_at = -math.inf

    @property
    def remaining(self) -> float | None:
        """What is left, if that is known."""
        return None if self._remaining == math.inf else max(self._remaining, 0.0)

    def wait(self, now: float) -> float:
        """Return the seconds until the server takes a request again, as far as it said."""
        if now >= self._resets_at:
            if self._remaining < 1:
                self._close()
            self._remaining = math.inf
        until = self._blocked_until
        if self._remaining < 1:
            until = max(until, self._resets_at)
        return max(until - now, 0.0)

    def is_crowded(self, now: float) -> bool:
        """Whether as many requests are under way as may be, after a block."""
        return self._in_flight >= self._allowed and now < self._entered_at + LEASE

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be forgiven by forgetting it."""
        return not (self.waiters or self._in_flight or self.wait(now))

    def enter(self, now: float) -> int:
        """Let a request through; return the round that it belongs to."""
        self._remaining -= 1
        self._in_flight += 1
        self._entered_at = now
        return self._round

    def leave(self, entered: int, *, answered: bool) -> None:
        """Note the end of a request."""
        if entered != self._round:
            return  # a block has begun since then, which counts anew
        self._in_flight -= 1
        if answered:
            self._allowed = self._allowed + 1 if self._allowed < _CROWD else math.inf

    def block(self, seconds: float, number: int, heard: int, now: float) -> None:
        """Let nothing through for some seconds.

        Args:
            seconds: For how long.
            number: The number of the request whose response says so.
            heard: The number that is next.
            now: The time.
        """
        left = self.wait(now)
        if 0 < left < seconds and number <= self._heard:
            return
        self._blocked_until = now + seconds
        self._remaining = math.inf
        self._heard = heard
        self._close()

    def report(self, quota: Quota, number: int, heard: int, now: float) -> None:
        """Note what is left, those under way deducted; for the arguments see `block`."""
        left = quota.remaining - max(self._in_flight - 1, 0)
        if number <= self._heard and now < self._resets_at:
            self._remaining = min(self._remaining, left)
        else:
            self._remaining = left
            self._resets_at = now + quota.reset
            if number > self._heard and left >= 1:
                self._blocked_until = -math.inf
            self._heard = heard

    def _close(self) -> None:
        self._round += 1
        self._in_flight = 0
        self._allowed = 1.0


class Quotas:
    """All that is known of the quotas of one client with one server."""

    def __init__(self) -> None:
        self.windows: dict[str, Window] = {}
        self._routes: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def of(self, route: str) -> list[Window]:
        """Return the windows that requests of a route pass: that of all, and those that it was told of."""
        names = ("", *self._routes.get(route, ()))
        return [self.windows[name] for name in names if name in self.windows]

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be forgiven by forgetting it."""
        return all(window.is_idle(now) for window in self.windows.values())

    def learn(
        self, route: str, told: Sequence[Quota], pause: float | None, number: int, heard: int, now: float
    ) -> dict[Window, bool]:
        """Note what a response tells.

        Args:
            route: What requests that have the same quotas have in common.
            told: The quotas.
            pause: Seconds for which the server asks to be left alone, if it does. It goes before the reset
                of what is used up; if nothing is, it holds for all requests.
            number: The number of the request.
            heard: The number that is next.
            now: The time.

        Returns:
            The windows that it is about, and whether each is blocked for longer now.
        """
        names = tuple(each.name for each in told if each.name)
        if names:
            self._remember(route, names)
        used_up = {each.name for each in told if each.remaining < 1}
        waits: dict[Window, float] = {}
        if pause is not None:
            for name in used_up or {""}:
                if (window := self._window(name, now)) is not None:
                    waits[window] = window.wait(now)
                    window.block(min(pause, LONGEST_RESET), number, heard, now)
        for each in told:
            if (pause is None or each.name not in used_up) and (
                window := self._window(each.name, now)
            ) is not None:
                waits.setdefault(window, window.wait(now))
                window.report(each, number, heard, now)
        return {window: window.wait(now) > before for window, before in waits.items()}

    def _remember(self, route: str, names: tuple[str, ...]) -> None:
        self._routes[route] = names
        self._routes.move_to_end(route)
        if len(self._routes) > MOST_ROUTES:
            self._routes.popitem(last=False)

    def _window(self, name: str, now: float) -> Window | None:
        """Return the window of a quota, made now if there is room for it."""
        window = self.windows.get(name)
        if window is not None:
            return window
        if len(self.windows) >= MOST_WINDOWS:
            self.windows = {each: kept for each, kept in self.windows.items() if not kept.is_idle(now)}
        if len(self.windows) >= MOST_WINDOWS and name:
            return None
        window = self.windows[name] = Window()
        return window
