"""`AdaptiveLimit` in any order of calls: AIMD against fractions, the gradient in what must always hold."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from resilience import AdaptiveLimit
from tests.models.machines import as_test

GRID = 1 / 8
ROUNDING = Fraction(1, 10**9)


class LimitMachine(RuleBasedStateMachine):
    """Calls begin and end in any order, while time passes on a grid on which sums are exact."""

    algorithm: Literal["aimd", "gradient"]

    @initialize(
        minimum=st.integers(1, 5),
        more=st.integers(0, 30),
        initial=st.integers(0, 30),
        decrease=st.sampled_from([0.25, 0.5, 0.875]),
        slow_call=st.sampled_from([None, 2.0]),
    )
    def open(self, minimum: int, more: int, initial: int, decrease: float, slow_call: float | None) -> None:
        maximum = minimum + more
        self.limit = AdaptiveLimit(
            min(minimum + initial, maximum),
            minimum=minimum,
            maximum=maximum,
            algorithm=self.algorithm,
            decrease=decrease,
            slow_call=slow_call,
            remeasure=30.0,
        )
        self.state = self.limit.new_state()
        self.now = 0.0
        self.running: list[tuple[float, int]] = []
        self.exact = Fraction(self.state.limit)
        self.decreased: float | None = None

    @rule(steps=st.integers(0, 40))
    def time_passes(self, steps: int) -> None:
        self.now += steps * GRID

    @rule(many=st.integers(1, 30))
    def begin(self, many: int) -> None:
        for _ in range(many):
            if len(self.running) < self.state.limit:
                self.running.append((self.now, len(self.running) + 1))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), overloaded=st.booleans())
    def end(self, data: st.DataObject, overloaded: bool) -> None:
        self.finish(data.draw(st.integers(0, len(self.running) - 1)), overloaded)

    @rule(overloaded=st.booleans())
    def end_all(self, overloaded: bool) -> None:
        while self.running:
            self.finish(0, overloaded)

    def finish(self, index: int, overloaded: bool) -> None:
        started, in_flight = self.running.pop(index)
        before = self.state.limit
        self.state.record(started, self.now, in_flight, overloaded=overloaded)
        after = self.state.limit
        assert self.limit.minimum <= after <= self.limit.maximum
        is_stale = self.decreased is not None and started <= self.decreased
        slow_call = self.limit.slow_call
        is_bad = overloaded or (slow_call is not None and self.now - started >= slow_call)
        if is_stale:
            assert after == before
        elif is_bad:
            self.decreased = self.now
        self.check(before, after, is_stale=is_stale, is_bad=is_bad, in_flight=in_flight)

    def check(self, before: int, after: int, *, is_stale: bool, is_bad: bool, in_flight: int) -> None:
        """Check what belongs to one algorithm."""
        raise NotImplementedError


class AimdMachine(LimitMachine):
    """Keeps the limit as a fraction."""

    algorithm = "aimd"

    def check(self, before: int, after: int, *, is_stale: bool, is_bad: bool, in_flight: int) -> None:
        if is_stale:
            return
        if is_bad:
            self.exact = max(before * Fraction(self.limit.decrease), Fraction(self.limit.minimum))
        elif in_flight >= Fraction(before, 2):
            self.exact = min(self.exact + Fraction(1, before), Fraction(self.limit.maximum))
        assert int(self.exact - ROUNDING) <= after <= int(self.exact + ROUNDING)


class GradientMachine(LimitMachine):
    """Keeps nothing: says what may change the limit, and by how much at most."""

    algorithm = "gradient"

    def check(self, before: int, after: int, *, is_stale: bool, is_bad: bool, in_flight: int) -> None:
        if is_stale:
            return
        if is_bad and after > before:
            # It was measuring with half of the limit, and goes back to a part of the whole.
            assert after <= (2 * before + 1) * self.limit.decrease + 2
        elif not is_bad:
            assert after >= before // 2
            assert after <= 2 * before + 2


test_aimd_agrees_with_fractions = as_test(AimdMachine)
test_gradient_keeps_its_bounds_and_changes_only_when_it_may = as_test(GradientMachine)
