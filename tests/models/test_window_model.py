"""The sliding window against a list of stamps: alone, and with its line."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience import SlidingWindow, _sliding_window
from resilience._limiters import Queue
from tests.models.line_machine import LineMachine
from tests.models.machines import as_test
from tests.models.slow_limiters import Caller, SlowLine, SlowWindow

A_FEW = 4
"""How many are handed out and forgotten at a time here, so that small windows come to that edge too."""

costs = st.integers(1, 3 * A_FEW)


class WindowMachine(RuleBasedStateMachine):
    """The state machine alone, at any time that a float can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(_sliding_window, "AT_ONCE", A_FEW)

    def teardown(self) -> None:
        self.patch.undo()

    @initialize(rate=st.integers(1, 3 * A_FEW), per=st.sampled_from([1.0, 0.1, 3600.0, 1 / 3]))
    def open(self, rate: int, per: float) -> None:
        self.rate, self.per, self.now = rate, per, 0.0
        self.window = SlidingWindow(rate, per)
        self.slow = SlowWindow(rate, per)
        self.admitted: list[tuple[float, int]] = []

    @rule(cost=costs)
    def takes(self, cost: int) -> None:
        cost = min(cost, self.rate)
        fits = self.slow.take(self.now, cost)
        assert self.window.take(self.now, cost) is fits
        if fits:
            self.admitted.append((self.now, cost))

    @rule(ages=st.lists(st.floats(0, 1), max_size=8))
    def the_straight_path_takes(self, ages: list[float]) -> None:
        """Threads that have read the clock at any time, and come in any order."""
        for age in ages:
            at = self.now - age * self.per / 4
            if self.window.free and at >= self.window.rule.since:
                self.window.free -= 1
                self.window.rule.since = at
                self.window.log.append(at)
                assert self.slow.take(at, 1)
                self.admitted.append((at, 1))

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def gives_back(self, data: st.DataObject) -> None:
        at, cost = data.draw(st.sampled_from(self.admitted))
        self.admitted.remove((at, cost))
        self.window.give_back(cost, at)
        self.slow.give_back(cost, at)

    @rule(periods=st.floats(0, 3))
    def time_passes(self, periods: float) -> None:
        self.now += periods * self.per

    @precondition(lambda self: self.slow.stamps)
    @rule(data=st.data(), side=st.sampled_from([-math.inf, None, math.inf]))
    def a_token_is_about_to_leave(self, data: st.DataObject, side: float | None) -> None:
        edge = data.draw(st.sampled_from(self.slow.stamps)) + self.per
        self.now = max(self.now, edge if side is None else math.nextafter(edge, side))

    @rule(seconds=st.floats(100, 1e9))
    def the_clock_is_set_back(self, seconds: float) -> None:
        """A test froze it, or thawed it: what was taken under the other clock is forgotten."""
        self.now = min([self.now, *(at for at, _ in self.admitted)]) - seconds
        self.somebody_looks()
        self.admitted = []

    @rule()
    def is_reset(self) -> None:
        self.window.reset()
        self.slow.reset()
        self.admitted = []

    @rule(ahead=st.lists(costs, max_size=12), cost=costs)
    def the_wait_in_line_is_exact(self, ahead: list[int], cost: int) -> None:
        line, queue = SlowLine(self.slow), Queue[Caller]()
        line.waiting = [Caller(name, min(each, self.rate)) for name, each in enumerate(ahead)]
        for caller in line.waiting:
            queue.add(caller)
        cost = min(cost, self.rate)
        if self.window.take(self.now, line.waiting[0].cost if ahead else cost):
            self.is_reset()
            return  # nobody would wait
        assert self.window.free == 0
        due = line.turn_of_next(self.now, cost)
        wait = self.window.wait(self.now, cost, queue)
        assert self.now + wait == pytest.approx(due, rel=1e-12)
        if not ahead:
            assert self.slow.earliest(self.now + wait, cost) == self.now + wait, "it comes back too early"

    @rule()
    def somebody_looks(self) -> None:
        assert self.window.available(self.now) == self.slow.available(self.now)

    @invariant()
    def both_agree(self) -> None:
        assert self.window.is_idle(self.now) is (self.slow.available(self.now) == self.rate)
        assert list(self.window.log) == sorted(self.window.log)

    @invariant()
    def never_more_than_the_rate_in_any_period(self) -> None:
        admitted = sorted(at for at, cost in self.admitted for _ in range(cost))
        for earlier, later in zip(admitted, admitted[self.rate :], strict=False):
            assert later >= earlier + self.per


class WindowLineMachine(LineMachine):
    """The window in use, with a line before it."""

    def make(self, data: st.DataObject) -> None:
        self.capacity = data.draw(st.integers(1, 5), "rate")
        per = data.draw(st.sampled_from([0.5, 1.0, 2.0]), "per")
        self.limiter = SlidingWindow(self.capacity, per)
        self.slow = SlowWindow(self.capacity, Fraction(per))


test_window = as_test(WindowMachine)
test_window_with_its_line = as_test(WindowLineMachine)
