"""`LatencyWindow` against a list that is sorted anew for each question."""

import math
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilience import Percentile
from resilience._latency import LatencyWindow
from tests.models.machines import as_test

INITIAL = 77.0


class LatencyMachine(RuleBasedStateMachine):
    """Samples, among them many equal ones and some of a clock that was set back."""

    @initialize(tenths=st.integers(10, 1000), window=st.integers(1, 12), data=st.data())
    def open(self, tenths: int, window: int, data: st.DataObject) -> None:
        self.part = Fraction(tenths, 1000)
        self.window = window
        self.minimum = data.draw(st.integers(1, window))
        rule = Percentile(tenths / 10, initial=INITIAL, minimum_calls=self.minimum, window=window)
        self.latencies = LatencyWindow(rule)
        self.samples: list[float] = []

    @rule(seconds=st.integers(-2, 8) | st.floats(0, 1e9))
    def add(self, seconds: float) -> None:
        self.latencies.add(seconds)
        self.samples.append(max(1e-6, seconds))

    @rule()
    def reset(self) -> None:
        self.latencies.reset()
        self.samples.clear()

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "latencies"):
            return
        recent = sorted(self.samples[-self.window :])
        assert len(self.latencies) == len(recent)
        if len(recent) < self.minimum:
            assert self.latencies.delay == INITIAL
        else:
            assert self.latencies.delay == recent[math.ceil(self.part * len(recent)) - 1]


test_latencies = as_test(LatencyMachine)
