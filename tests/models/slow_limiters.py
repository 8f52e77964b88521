"""The limiters and the line as one would explain them: lists, exact fractions, and everything tried out."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, TypeAlias

Number: TypeAlias = Fraction | float
"""Exact where real floats are, or the same floats."""

ANOTHER_CLOCK = 10
"""What was taken by more seconds than this in the future was taken under another clock: nobody owes it."""


class SlowLimiter(Protocol):
    def take(self, now: Number, cost: Number) -> bool: ...
    def earliest(self, now: Number, cost: Number) -> Number: ...
    def give_back(self, cost: Number, taken_at: Number) -> None: ...
    def available(self, now: Number) -> Number: ...
    def reset(self) -> None: ...


class SlowWindow:
    """One stamp for each token taken; it is free again one period later."""

    def __init__(self, rate: int, per: Number) -> None:
        self.rate, self.per = rate, per
        self.stamps: list[Number] = []

    def _leave(self, now: Number) -> None:
        self.stamps = [at for at in self.stamps if at <= now + ANOTHER_CLOCK and at + self.per > now]

    def take(self, now: Number, cost: Number) -> bool:
        self._leave(now)
        if len(self.stamps) + cost > self.rate:
            return False
        self.stamps += [now] * int(cost)
        return True

    def earliest(self, now: Number, cost: Number) -> Number:
        moments = [now, *(max(at + self.per, now) for at in self.stamps)]
        return next(
            moment for moment in moments
            if sum(at + self.per > moment for at in self.stamps) + cost <= self.rate
        )  # fmt: skip

    def give_back(self, cost: Number, taken_at: Number) -> None:
        for _ in range(int(cost)):
            if taken_at in self.stamps:
                self.stamps.remove(taken_at)

    def available(self, now: Number) -> Number:
        self._leave(now)
        return self.rate - len(self.stamps)

    def reset(self) -> None:
        self.stamps = []


class SlowBucket:
    """Tokens drip in until the bucket is full."""

    def __init__(self, rate: float, per: float, burst: float) -> None:
        self.drip = Fraction(rate) / Fraction(per)
        self.burst = self.tokens = Fraction(burst)
        self.at = Fraction(0)

    def available(self, now: Fraction) -> Fraction:
        if self.at - now > ANOTHER_CLOCK:
            return self.burst
        return min(self.tokens + (now - self.at) * self.drip, self.burst)

    def take(self, now: Fraction, cost: Fraction) -> bool:
        tokens = self.available(now)
        if tokens < cost:
            return False
        self.tokens, self.at = tokens - cost, now
        return True

    def earliest(self, now: Fraction, cost: Fraction) -> Fraction:
        return now + max(Fraction(0), cost - self.available(now)) / self.drip

    def give_back(self, cost: Fraction, taken_at: Fraction) -> None:
        """What dripped in, while others took, had room only as this was away."""
        self.tokens += max(cost - (self.at - taken_at) * self.drip, Fraction(0))

    def reset(self) -> None:
        self.tokens = self.burst


@dataclass(eq=False)
class Caller:
    name: int
    cost: Number
    taken_at: Number | None = None


@dataclass
class SlowLine:
    """Callers in a list; whoever is first takes tokens as soon as there are enough."""

    limiter: SlowLimiter
    waiting: list[Caller] = field(default_factory=list)

    def serve(self, now: Number) -> None:
        while self.waiting and self.limiter.take(now, self.waiting[0].cost):
            self.waiting.pop(0).taken_at = now

    def arrive(self, caller: Caller, now: Number, patience: float | None) -> Number | None:
        """Admit the caller, or let it wait; return the wait if that is too long for it."""
        self.serve(now)
        if not self.waiting and self.limiter.take(now, caller.cost):
            caller.taken_at = now
            return None
        wait = self.turn_of_next(now, caller.cost) - now
        if patience is not None and wait > patience:
            return wait
        self.waiting.append(caller)
        return None

    def turn_of_next(self, now: Number, cost: Number) -> Number:
        """When the next caller to come would get its turn: play it through."""
        limiter = copy.deepcopy(self.limiter)
        for each in (*(caller.cost for caller in self.waiting), cost):
            now = limiter.earliest(now, each)
            assert limiter.take(now, each)
        return now

    def next_turn(self, now: Number) -> Number | None:
        return self.limiter.earliest(now, self.waiting[0].cost) if self.waiting else None

    def leave(self, caller: Caller, now: Number) -> None:
        """The caller was cancelled, in the line or just after it had its turn."""
        if caller.taken_at is None:
            self.waiting.remove(caller)
        else:
            self.limiter.give_back(caller.cost, caller.taken_at)
        self.serve(now)

    def reset(self, now: Number) -> None:
        self.limiter.reset()
        self.serve(now)


class SlowTable:
    """Keys in the order of their last use, the latest last."""

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.order: list[Hashable] = []

    def admit(self, key: Hashable, idle: set[Hashable]) -> tuple[bool, list[Hashable]]:
        """Use a key; return whether it has a place of its own now, and who had to go for that."""
        if key in self.order:
            self.order.remove(key)
        elif len(self.order) >= self.max_keys:
            oldest = self.order[:8]
            gone = [each for each in oldest if each in idle][:1]
            busy = oldest[: oldest.index(gone[0])] if gone else oldest
            self.order = [each for each in self.order if each not in busy + gone] + busy
            if not gone:
                return False, []
            self.order.append(key)
            return True, gone
        self.order.append(key)
        return True, []
