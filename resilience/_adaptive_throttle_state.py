"""How many of the calls an `adaptive_throttle` rejects: pure, ``now`` is a parameter.

The formula is that of "Handling Overload" in Google's "Site Reliability Engineering" (2016)::

    chance of rejection = max(0, (requests - ratio x accepts) / (requests + 1))

where requests are all calls of the window, rejected ones included, and accepts those that succeeded. A
call that is still running counts from its start on, or failures that take long would be invisible
(zeromicro/go-zero#5011). But it counts only as much of a request as the part of the finished requests
that was not accepted: counted in full, a burst of healthy calls would look like an outage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resilience._breaker_windows import RateOverSeconds
from resilience._interpreter import HAS_GIL

if TYPE_CHECKING:
    from resilience._adaptive_throttle_config import AdaptiveThrottleConfig


class ThrottleState:
    """The requests of the last seconds, of all calls or of those with one key.

    Everything is called under the lock of the policy. Where the interpreter has one of its own, the
    policy may go past both when `room` is left, as it makes no call between that comparison and its store.

    Attributes:
        requests: The requests that ended in the window; bad are those that were not accepted.
        running: How many calls run.
        room: Below how many running calls the chance is 0, as of the last look; negative if it is time
            for another one.
    """

    __slots__ = ("_config", "requests", "room", "running")

    def __init__(self, config: AdaptiveThrottleConfig) -> None:
        self._config = config
        self.running = 0
        self.reset()

    def reset(self) -> None:
        """Forget the requests that ended; calls that run are still known to run."""
        config = self._config
        self.requests = RateOverSeconds("ratio", "failures", 1.0, config.window, config.minimum_calls)
        self.room = math.inf if HAS_GIL else -math.inf

    def admit(self, now: float, draw: float) -> float:
        """Ask for a call to be made.

        Args:
            now: Monotonic seconds.
            draw: A random number from 0 up to 1, without 1.

        Returns:
            0 if the call may be made, else the chance with which it was rejected.
        """
        chance = self.chance(now)
        if draw < chance:
            self._add(now, bad=True)
            return chance
        self.running += 1
        return 0.0

    def end(self, now: float, *, accepted: bool) -> None:
        """End a call that was made."""
        self.running -= 1
        self._add(now, bad=not accepted)

    def abandon(self) -> None:
        """End a call that counts as nothing."""
        self.running -= 1

    def chance(self, now: float) -> float:
        """Return the chance that a call is rejected now."""
        finished, accepts, rejected_part = self._counts(now)
        excess = finished - self._config.ratio * accepts
        is_calm = finished < self._config.minimum_calls or rejected_part == 0
        if HAS_GIL:
            self.room = math.inf if is_calm else -excess / rejected_part
        if is_calm:
            return 0.0
        running = self.running * rejected_part
        chance = (excess + running) / (finished + running + 1)
        return min(max(0.0, chance), self._config.max_rejection_rate)

    def snapshot(self, now: float) -> dict[str, float]:
        """Return figures as plain data."""
        finished, accepts, _ = self._counts(now)
        return {
            "rejection_rate": self.chance(now),
            "requests": finished,
            "accepts": accepts,
            "running": self.running,
        }

    def is_idle(self, now: float) -> bool:
        """Whether dropping this state would forgive no failure and lose no running call."""
        return self.running == 0 and self.requests.is_clean(now)

    def _counts(self, now: float) -> tuple[float, float, float]:
        """Return the requests that ended, those accepted, and the part of those not accepted."""
        facts = self.requests.facts(now)
        return facts["calls"], facts["calls"] - facts["failures"], facts["rate"]

    def _add(self, now: float, *, bad: bool) -> None:
        self.requests.add(bad, now)
        self.room = -math.inf
