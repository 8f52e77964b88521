"""`RetryBudget` against lists of stamps: never more generous, and stricter by one slice at most."""

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from resilience import RetryBudget
from resilience._retry_budget import Slice
from tests.models.machines import as_test

WINDOW = 10.0
SLICE = 1.0

# All of them are sums of a few powers of two, so that time adds up exactly and meets every boundary.
steps = st.sampled_from([0.0, 0.125, 0.5, 0.875, 1.0, 3.0, 8.875, 9.0, 9.875, 10.0, 11.0, 40.0])
ratios = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])
minima = st.sampled_from([0.0, 0.125, 0.25, 1.0])

Charge = tuple[Slice, "Stamp"]


class Stamp:
    """When something happened: by the clock that its thread read, and by the latest reading of all."""

    def __init__(self, read: float, latest: float) -> None:
        self.read = read
        self.latest = latest


class BudgetMachine(RuleBasedStateMachine):
    """Calls, retries, refunds and resets in an order and at times of hypothesis' choice."""

    charges: Bundle[Charge] = Bundle("charges")

    @initialize(ratio=ratios, minimum=minima, start=st.sampled_from([0.0, 0.5, 2.0**20]))
    def make(self, ratio: float, minimum: float, start: float) -> None:
        self.ratio = ratio
        self.always = minimum * WINDOW
        self.budget = RetryBudget(ratio, minimum, WINDOW)
        self.now = start
        self.calls: list[Stamp] = []
        self.retries: list[Stamp] = []

    # --- The model: each call and each retry counts for exactly one window ---

    def most_calls(self, at: float) -> int:
        return sum(call.latest > at - WINDOW for call in self.calls)

    def fewest_calls(self) -> int:
        """Count them if each leaves a slice too early."""
        return sum(call.read > self.now - WINDOW + SLICE for call in self.calls)

    def fewest_retries(self) -> int:
        return sum(retry.read > self.now - WINDOW for retry in self.retries)

    def most_retries(self, at: float) -> int:
        """Count them if each leaves a slice too late."""
        return sum(retry.latest > at - WINDOW - SLICE for retry in self.retries)

    def charge(self, at: float) -> "Charge | None":
        taken = self.budget.reserve(at)
        if taken is None:
            allowed = self.ratio * self.fewest_calls() + self.always
            assert self.most_retries(at) + 1 > allowed, "refused, though there is room by a slice"
            return None
        allowed = self.ratio * self.most_calls(at) + self.always
        assert self.fewest_retries() + 1 <= allowed, "allowed more than counting each on its own does"
        stamp = Stamp(at, self.now)
        self.retries.append(stamp)
        return taken, stamp

    # --- What happens ---

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 6))
    def calls_begin(self, count: int) -> None:
        for _ in range(count):
            self.budget.count(self.now)
            self.calls.append(Stamp(self.now, self.now))

    @rule(late=st.sampled_from([0.125, 0.5, 0.875]))
    def a_call_begins_in_a_thread_that_read_the_clock_before(self, late: float) -> None:
        assume(self.calls)
        self.budget.count(self.now - late)
        self.calls.append(Stamp(self.now - late, self.now))

    @rule(target=charges, count=st.integers(1, 4))
    def retries_begin(self, count: int) -> object:
        taken = [self.charge(self.now) for _ in range(count)]
        return multiple(*(each for each in taken if each))

    @rule(target=charges, late=st.sampled_from([0.125, 0.5, 0.875]))
    def a_retry_begins_in_a_thread_that_read_the_clock_before(self, late: float) -> object:
        taken = self.charge(self.now - late)
        return multiple(*filter(None, [taken]))

    @rule(charge=consumes(charges))
    def a_retry_is_not_made_after_all(self, charge: Charge) -> None:
        taken, stamp = charge
        self.budget.refund(taken)
        self.retries = [retry for retry in self.retries if retry is not stamp]

    @rule(target=charges)
    def as_many_retries_as_there_are_left(self) -> object:
        left = self.budget.snapshot(self.now)["retries_left"]
        taken = [self.charge(self.now) for _ in range(int(left))]
        assert all(taken)
        assert self.charge(self.now) is None
        return multiple(*filter(None, taken))

    @rule()
    def everything_is_forgotten(self) -> None:
        self.budget.reset()
        self.calls.clear()
        self.retries.clear()

    @rule(target=charges, seconds=st.sampled_from([11.5, 100.0, 2.0**20]))
    def the_clock_is_set_back(self, seconds: float) -> object:
        self.now -= seconds
        self.calls.clear()
        self.retries.clear()
        return multiple(*filter(None, [self.charge(self.now)]))

    # --- What holds at all times ---

    @invariant()
    def the_counts_are_those_of_the_model_within_one_slice(self) -> None:
        shown = self.budget.snapshot(self.now)
        assert self.fewest_calls() <= shown["calls"] <= self.most_calls(self.now)
        assert self.fewest_retries() <= shown["retries"] <= self.most_retries(self.now)

    @invariant()
    def it_keeps_a_few_slices_and_no_more(self) -> None:
        assert len(self.budget._past) <= WINDOW / SLICE + 1


test_b11_b13_budget = as_test(BudgetMachine)
