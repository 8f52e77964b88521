"""`TokenBucket`: a steady rate, and a burst of up to ``burst`` tokens after a pause.

The bucket keeps how many tokens it held at one moment; what it holds later follows from the elapsed
time. The test is made on the tokens before any are taken, and what is refused is never stored, so
roundings do not add up. The algorithm is the token bucket of Turner, "New directions in communications"
(IEEE Communications Magazine, 1986).
"""

from __future__ import annotations

import math
from typing import Any

from resilience import _arguments
from resilience._clock import SET_BACK
from resilience._limiters import NOBODY, KeyedLimiter, Limiter, Queue, Rule, seconds_until

RESIDUE = 1e-9
"""Tokens that may be missing through rounding; they are owed, so they cannot add up."""

ONE = 1 - RESIDUE
"""Tokens that must be there to take one."""


class TokenBucket(KeyedLimiter):
    """A steady rate with bursts: it holds at most ``burst`` tokens, and gets ``rate`` per period.

    It holds the state, so policies that are given one object share one limit. Safe for concurrent
    tasks, threads and loops.

    Args:
        rate: Tokens per period, above 0; fractions are allowed.
        per: The period, seconds or ``timedelta``, above 0.
        burst: The total capacity, above 0; default: ``rate``, but at least 1.

    Raises:
        TypeError: If ``rate`` or ``burst`` is not a number, or ``per`` not a duration.
        ValueError: If one of them is out of range.

    Example:
        >>> from resilience import rate_limited
        >>> quota = TokenBucket(10, burst=50)
        >>> read, write = rate_limited(quota), rate_limited(quota, cost=5)
    """

    __slots__ = ("at", "tokens")

    def __init__(self, rate: float, per: _arguments.Seconds = 1.0, burst: float | None = None) -> None:
        tokens = _arguments.number("rate", rate, above_zero=True)
        seconds = _arguments.seconds("per", per, above_zero=True)
        capacity = max(tokens, 1) if burst is None else _arguments.number("burst", burst, above_zero=True)
        self.begin(Rule(tokens, seconds, capacity, whole=False))

    def begin(self, rule: Rule) -> None:
        """Start full."""
        Limiter.__init__(self, rule)
        self.tokens = float(rule.capacity)
        self.at = 0.0

    def fresh(self) -> TokenBucket:
        """Return a full bucket of the same rule."""
        bucket = TokenBucket.__new__(TokenBucket)
        bucket.begin(self.rule)
        return bucket

    def take(self, now: float, cost: float) -> bool:
        """Take tokens if there are enough; otherwise nothing changes."""
        rule = self.rule
        tokens = self.tokens + (now - self.at) * rule.per_second
        if tokens > rule.capacity:
            tokens = rule.capacity
        if tokens < cost - RESIDUE:
            if self.at - now <= SET_BACK:
                return False
            tokens = rule.capacity
        self.tokens = tokens - cost
        self.at = now
        return True

    def wait(self, now: float, cost: float, ahead: Queue[Any] = NOBODY) -> float:
        """Return the seconds until a caller behind those ``ahead`` gets its turn."""
        # The bucket is never full while somebody waits, so what it gets until then is all taken.
        per_second = self.rule.per_second
        needed = ahead.total + cost - RESIDUE
        due = self.at + (ahead.total + cost - self.tokens) / per_second
        while self.tokens + (due - self.at) * per_second < needed:
            due = math.nextafter(due, math.inf)
        return seconds_until(due, now)

    def give_back(self, cost: float, taken_at: float) -> None:
        """Undo a `take`: the call never began."""
        # What dripped in until others took may have had room only because these tokens were away.
        self.tokens += max(cost - (self.at - taken_at) * self.rule.per_second, 0)

    def reset(self) -> None:
        """Give all tokens back."""
        self.tokens = float(self.rule.capacity)

    def available(self, now: float) -> float:
        """Return the number of tokens that may be taken now."""
        if self.at - now > SET_BACK:
            return self.rule.capacity
        tokens = self.tokens + (now - self.at) * self.rule.per_second
        return min(max(tokens, 0), self.rule.capacity)

    def is_idle(self, now: float) -> bool:
        """Whether a new limiter would decide the same, and nobody waits."""
        return self.line is None and self.available(now) >= self.rule.capacity

    def __repr__(self) -> str:
        return f"TokenBucket({self.rule.rate}, per={self.rule.per}, burst={self.rule.capacity})"


class LeakyBucket(TokenBucket):
    """aiolimiter's leaky bucket: ``rate`` tokens at once, then one each ``per / rate`` seconds.

    It admits what an ``AsyncLimiter(rate, per)`` admits, as a bucket that leaks and one that is filled
    are the same seen from two sides. Other than that, it goes by the clock of the policies.

    It holds the state, so policies that are given one object share one limit. Safe for concurrent
    tasks, threads and loops.

    Args:
        rate: Tokens per period, above 0; also the most that are given at once.
        per: The period, seconds or ``timedelta``, above 0.

    Raises:
        TypeError: If ``rate`` is not a number, or ``per`` not a duration.
        ValueError: If one of them is out of range.

    Example:
        >>> from resilience import rate_limited
        >>> quota = LeakyBucket(10)
        >>> read, write = rate_limited(quota), rate_limited(quota, cost=5)
    """

    __slots__ = ()

    def __init__(self, rate: float, per: _arguments.Seconds = 1.0) -> None:
        super().__init__(rate, per, burst=rate)

    def __repr__(self) -> str:
        return f"LeakyBucket({self.rule.rate}, per={self.rule.per})"
