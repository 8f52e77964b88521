"""The token bucket and the leaky bucket against exact fractions: alone, and with their line."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience import LeakyBucket, TokenBucket
from resilience._limiters import Queue
from tests.models.line_machine import LineMachine
from tests.models.machines import as_test
from tests.models.slow_limiters import Caller, SlowBucket, SlowLine

ROUNDING = 1e-6
"""Tokens by which floats may differ from fractions here."""

rates = st.sampled_from([1 / 3600, 0.3, 1, 7.0, 1e4])
fractions_of_a_burst = st.floats(0.01, 1)


class BucketMachine(RuleBasedStateMachine):
    """The state machine alone, with any numbers; within a rounding, either decision is right."""

    @initialize(rate=rates, per=st.sampled_from([1.0, 0.1, 60.0]), burst=st.sampled_from([0.5, 1, 3, 10.0]))
    def open(self, rate: float, per: float, burst: float) -> None:
        self.now = 0.0
        self.second = per / rate  # for one token
        self.burst = burst
        self.bucket = TokenBucket(rate, per, burst)
        self.slow = SlowBucket(rate, per, burst)
        self.admitted: list[tuple[float, float]] = []

    @rule(share=fractions_of_a_burst)
    def takes(self, share: float) -> None:
        cost, now = share * self.burst, Fraction(self.now)
        spare = self.slow.available(now) - Fraction(cost)
        fits = self.bucket.take(self.now, cost)
        if abs(spare) > ROUNDING:
            assert fits is (spare > 0)
        if fits:
            self.slow.tokens, self.slow.at = spare, now
            self.admitted.append((self.now, cost))

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        at, cost = data.draw(st.sampled_from(self.admitted))
        self.admitted.remove((at, cost))
        self.bucket.give_back(cost, at)
        self.slow.give_back(Fraction(cost), Fraction(at))

    @rule(tokens=st.floats(0, 12))
    def time_passes(self, tokens: float) -> None:
        self.now += tokens * self.second

    @rule(share=fractions_of_a_burst)
    def somebody_comes_back_in_time(self, share: float) -> None:
        cost = share * self.burst
        wait = self.bucket.wait(self.now, cost)
        if wait > 0:
            self.now += wait
            assert self.bucket.available(self.now) >= cost - ROUNDING
            self.takes(share)
            assert self.admitted[-1] == (self.now, cost)

    @rule(ahead=st.lists(fractions_of_a_burst, max_size=12), share=fractions_of_a_burst)
    def the_wait_in_line_is_exact(self, ahead: list[float], share: float) -> None:
        line, queue = SlowLine(self.slow), Queue[Caller]()
        line.waiting = [Caller(name, Fraction(each * self.burst)) for name, each in enumerate(ahead)]
        cost = share * self.burst
        if self.slow.available(Fraction(self.now)) >= (line.waiting[0].cost if ahead else cost):
            return  # nobody would wait
        for caller in line.waiting:
            queue.add(caller)
        due = line.turn_of_next(Fraction(self.now), Fraction(cost))
        wait = self.bucket.wait(self.now, cost, queue)
        assert wait == pytest.approx(float(due - Fraction(self.now)), abs=10 * ROUNDING * self.second)

    @rule()
    def is_reset(self) -> None:
        self.bucket.reset()
        self.slow.reset()
        self.admitted = []

    @rule(seconds=st.floats(100, 1e4))
    def the_clock_is_set_back(self, seconds: float) -> None:
        """A test froze it, or thawed it: what was taken under the other clock is forgotten."""
        self.now = float(self.slow.at) - seconds
        fits = self.bucket.take(self.now, self.burst)
        assert fits
        self.slow.tokens, self.slow.at = Fraction(0), Fraction(self.now)
        self.admitted = []

    @invariant()
    def both_agree(self) -> None:
        there = max(self.slow.available(Fraction(self.now)), 0)
        assert self.bucket.available(self.now) == pytest.approx(float(there), abs=ROUNDING)
        if abs(there - Fraction(self.burst)) > ROUNDING:
            assert not self.bucket.is_idle(self.now)

    @invariant()
    def no_more_than_the_burst_and_what_drips_in(self) -> None:
        for first, (begin, _) in enumerate(self.admitted):
            taken = 0.0
            for end, cost in self.admitted[first:]:
                taken += cost
                assert taken <= self.burst + (end - begin) / self.second + 10 * ROUNDING


class BucketLineMachine(LineMachine):
    """A bucket in use, with a line before it."""

    def make(self, data: st.DataObject) -> None:
        rate = data.draw(st.sampled_from([0.5, 1, 2, 4]), "rate")
        per = data.draw(st.sampled_from([0.5, 1.0, 2.0]), "per")
        self.capacity = data.draw(st.integers(1, 5), "burst")
        self.limiter = TokenBucket(rate, per, self.capacity)
        self.slow = SlowBucket(rate, per, self.capacity)


class LeakyLineMachine(LineMachine):
    """A leaky bucket in use, with a line before it."""

    def make(self, data: st.DataObject) -> None:
        self.capacity = data.draw(st.sampled_from([1, 2, 4]), "rate")
        per = data.draw(st.sampled_from([0.5, 1.0, 2.0]), "per")
        self.limiter = LeakyBucket(self.capacity, per)
        self.slow = SlowBucket(self.capacity, per, self.capacity)


test_bucket = as_test(BucketMachine)
test_bucket_with_its_line = as_test(BucketLineMachine)
test_leaky_bucket_with_its_line = as_test(LeakyLineMachine)
