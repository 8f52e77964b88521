"""How many calls an `AdaptiveLimit` lets run: state machines, pure, ``now`` is a parameter.

Both work in round trips. After a change that must show in the results first, only calls that began under
the new limit count: results of an earlier one would lower it again and again for one overload, or raise it
for the latency of another limit (envoyproxy/envoy#11579). Both grow only while at least half of the limit
is in use, as calls that do not need a limit cannot prove it (``Gradient2Limit`` of
Netflix/concurrency-limits).

Everything is called under the lock of the policy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from resilience._clock import SET_BACK

if TYPE_CHECKING:
    from resilience._adaptive_limit import AdaptiveLimit

SHORTEST_ROUND = 10
"""Calls that a round of `Gradient` has at least: the mean of fewer is mostly noise."""

ROUNDS_AT_MINIMUM = 5
"""Rounds after which `Gradient` no longer believes that the baseline asks for the minimum."""

NOISE = 0.001
"""Seconds that never count as latency: the turns of a busy event loop take as long."""


class LimitState(ABC):
    """A limit that follows what the calls tell of the load on the other side.

    Attributes:
        limit: How many calls may run now.
    """

    __slots__ = ("_config", "_exact", "_since", "limit")

    def __init__(self, config: AdaptiveLimit) -> None:
        self._config = config
        self._since = -math.inf  # calls that began up to then no longer count
        self._set(config.initial)

    def record(self, started: float, now: float, in_flight: int, *, overloaded: bool) -> None:
        """Learn from a call that ended.

        Args:
            started: When it began, monotonic seconds.
            now: When it ended.
            in_flight: How many calls ran when it began, itself included.
            overloaded: Whether it failed because of overload.
        """
        if now < self._since - SET_BACK:
            self._forget_times(now)
        if started <= self._since or now < started:
            return
        latency = now - started
        slow_call = self._config.slow_call
        if overloaded or (slow_call is not None and latency >= slow_call):
            self._decrease(now)
        else:
            self._learn(latency, now, in_flight)

    @abstractmethod
    def _learn(self, latency: float, now: float, in_flight: int, /) -> None:
        """Learn from a call that was healthy."""

    def _decrease(self, now: float) -> None:
        self._set(self.limit * self._config.decrease)
        self._since = now

    def _forget_times(self, now: float) -> None:
        """Begin anew when the clock was set back: what lies ahead would keep every call from counting."""
        self._since = now

    def _set(self, limit: float) -> None:
        self._exact = min(max(limit, self._config.minimum), self._config.maximum)
        self.limit = int(self._exact)

    def _is_used(self, in_flight: float) -> bool:
        return 2 * in_flight >= self.limit


class Aimd(LimitState):
    """Additive increase, multiplicative decrease: one more per round trip, a part less per overload.

    This is the congestion avoidance of TCP (Chiu and Jain, 1989; RFC 5681).
    """

    __slots__ = ()

    def _learn(self, _latency: float, _now: float, in_flight: int, /) -> None:
        if self._is_used(in_flight):
            self._set(self._exact + 1 / self.limit)


class Gradient(LimitState):
    """Follows latency: shrinks when calls queue on the other side, before they fail.

    It compares the mean latency of each round with the baseline, that of the best round. Up to
    ``tolerance`` times the baseline the limit grows by its square root, above it shrinks in proportion,
    at most to a half. The baseline is measured again every ``remeasure`` seconds, with half of the limit
    for one round if more is in use, so that the queue which the limit itself makes is not taken for the
    normal latency. After Netflix' ``Gradient2Limit`` and Envoy's adaptive concurrency filter.
    """

    __slots__ = (
        "_at_minimum",
        "_baseline",
        "_began",
        "_calls",
        "_in_flight",
        "_measured",
        "_resume",
        "_seconds",
    )

    def __init__(self, config: AdaptiveLimit) -> None:
        super().__init__(config)
        self._baseline = math.inf
        self._measured = -math.inf  # when the baseline was measured last
        self._began = 0.0  # when the first call of the round did
        self._resume: float | None = None  # the limit to go back to after the round that measures
        self._at_minimum = 0  # rounds in a row
        self._begin_round(self._since)

    def _learn(self, latency: float, now: float, in_flight: int, /) -> None:
        if self._calls == 0:
            self._began = now - latency
        self._calls += 1
        self._seconds += latency
        self._in_flight += in_flight
        if self._calls < max(SHORTEST_ROUND, self.limit):
            return
        mean = self._seconds / self._calls
        is_used = self._is_used(self._in_flight / self._calls)
        self._begin_round(now)
        if self._resume is not None:
            self._set(self._resume)
            self._measure(mean, now)
        # Not when it ended: rounds that take longer than that would measure for ever and never judge.
        elif self._began - self._measured < self._config.remeasure:
            self._judge(mean, is_used=is_used)
        elif is_used and self.limit // 2 >= max(2, self._config.minimum):
            # Not down to 1: the calls that then find no place, and are retried, would be a storm of their
            # own (envoyproxy/envoy#9007).
            self._resume = self._exact
            self._set(self.limit // 2)
        else:
            self._measure(mean, now)

    def _judge(self, mean: float, *, is_used: bool) -> None:
        self._baseline = min(self._baseline, mean)
        if not is_used:
            return
        healthy = self._baseline * self._config.tolerance + NOISE
        if mean <= healthy:
            self._set(self._exact + math.sqrt(self.limit))
        else:
            self._set(self._exact * max(0.5, healthy / mean))
        self._at_minimum = self._at_minimum + 1 if self.limit == self._config.minimum else 0
        if self._at_minimum >= ROUNDS_AT_MINIMUM:  # the other side is slower now (envoyproxy/envoy#10647)
            self._measured = -math.inf

    def _measure(self, mean: float, now: float) -> None:
        self._baseline = mean
        self._measured = now
        self._resume = None
        self._at_minimum = 0

    def _decrease(self, now: float) -> None:
        if self._resume is not None:  # there is no time to measure
            self._set(self._resume)
            self._resume = None
        super()._decrease(now)
        self._begin_round(now)

    def _forget_times(self, now: float) -> None:
        self._measured = -math.inf
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._since = now
        self._calls = 0
        self._seconds = 0.0
        self._in_flight = 0
