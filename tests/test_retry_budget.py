"""`RetryBudget`: at most so many retries per call and per second, in any window."""

import asyncio
import itertools
import math
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import CircuitBreakerOpenError, RetryBudget, _retry_budget, retry
from resilience._retry_budget import Slice
from tests.support.virtual_time import now


def reserve_all(budget: RetryBudget, at: float, most: int = 1000) -> int:
    taken = 0
    while taken < most and budget.reserve(at):
        taken += 1
    return taken


def test_b13_counts_calls_made_and_not_calls_in_flight() -> None:
    budget = RetryBudget(ratio=0.5, min_per_second=0)
    for _ in range(10):
        budget.count(0.0)
    assert reserve_all(budget, 0.0) == 5


def test_rare_calls_have_retries_as_well() -> None:
    assert reserve_all(RetryBudget(ratio=0, min_per_second=2, window=5), 0.0) == 10


def test_t28_zero_ratio_and_zero_minimum_allow_nothing() -> None:
    budget = RetryBudget(ratio=0, min_per_second=0)
    budget.count(0.0)
    assert not budget.reserve(0.0)


def test_rounding_takes_no_retry_away() -> None:
    budget = RetryBudget(ratio=0.29, min_per_second=0)
    for _ in range(100):
        budget.count(0.0)
    assert reserve_all(budget, 0.0) == 29


@pytest.mark.parametrize("start", [0.0, 3.0, 1e9])
def test_retries_come_back_when_the_window_has_passed(start: float) -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    assert reserve_all(budget, start) == 10
    for later in (0.5, 1.0, 9.0, 9.99):
        assert not budget.reserve(start + later)
    assert reserve_all(budget, start + 10) == 10


def test_calls_leave_the_window() -> None:
    budget = RetryBudget(ratio=1, min_per_second=0, window=10)
    budget.count(0.0)
    budget.count(9.5)
    assert budget.snapshot(9.9)["calls"] == 2
    assert budget.snapshot(10.0)["calls"] == 1
    assert reserve_all(budget, 10.0) == 1
    assert budget.snapshot(19.6) == {"calls": 0, "retries": 1, "retries_left": 0}
    assert budget.snapshot(20.0) == {"calls": 0, "retries": 0, "retries_left": 0}


def test_a_call_counts_for_a_whole_window_even_at_the_very_end_of_a_slice() -> None:
    budget = RetryBudget(ratio=1, min_per_second=0, window=10)
    budget.count(0.0)
    budget.count(10 / _retry_budget._SLICES)
    assert budget.snapshot(10.0)["calls"] == 1
    assert budget.snapshot(11.0)["calls"] == 0


events = st.lists(st.tuples(st.floats(0, 1.5), st.integers(0, 5), st.integers(0, 5)), max_size=60)


@settings(deadline=None, max_examples=150)
@given(events, st.sampled_from([0.0, 0.2, 1.0, 1.7]), st.sampled_from([0.0, 0.3, 2.0]))
def test_never_more_than_counting_each_on_its_own_allows(
    steps: list[tuple[float, int, int]], ratio: float, minimum: float
) -> None:
    budget = RetryBudget(ratio, minimum, window=5)
    now = 0.0
    calls: list[float] = []
    retries: list[float] = []
    for passed, new_calls, asked in steps:
        now += passed
        for _ in range(new_calls):
            budget.count(now)
            calls.append(now)
        for _ in range(asked):
            if not budget.reserve(now):
                break
            retries.append(now)
            horizon = now - 5
            recent = sum(at > horizon + 1e-6 for at in retries)
            assert recent <= ratio * sum(at > horizon - 1e-6 for at in calls) + minimum * 5 + 1e-6
    assert len(budget._past) <= 12


def reserved(budget: RetryBudget, at: float) -> Slice:
    retry = budget.reserve(at)
    assert retry is not None
    return retry


def test_refund_gives_back_one_retry_of_its_own_slice() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    first = reserved(budget, 0.0)
    assert reserve_all(budget, 5.0) == 9
    budget.refund(first)
    assert budget.snapshot(5.0)["retries"] == 9
    assert reserve_all(budget, 5.0) == 1
    assert budget.snapshot(10.0)["retries"] == 10


def test_refund_of_what_has_left_the_window_gives_nothing() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    first = reserved(budget, 0.0)
    assert reserve_all(budget, 20.0) == 10
    budget.refund(first)
    assert not budget.reserve(20.0)


def test_refund_of_what_was_forgotten_gives_nothing() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    first = reserved(budget, 0.0)
    budget.reset()
    assert reserve_all(budget, 0.0) == 10
    budget.refund(first)
    assert not budget.reserve(0.0)


def test_refund_of_a_thread_that_read_the_clock_a_little_earlier() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    budget.count(5.0)
    budget.refund(reserved(budget, 4.9999))
    assert budget.snapshot(5.0)["retries"] == 0


def test_a_budget_without_end() -> None:
    budget = RetryBudget(ratio=1e308, min_per_second=1e308, window=10)
    budget.count(0.0)
    assert budget.reserve(0.0)
    assert budget.snapshot(0.0)["retries_left"] > 1e15


def test_t63_a_clock_that_is_set_back_does_not_block_it_for_ever() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    assert reserve_all(budget, 1_700_000_000.0) == 10  # frozen time
    assert reserve_all(budget, 500.0) == 10


def test_a_thread_that_read_the_clock_a_little_earlier_is_counted() -> None:
    budget = RetryBudget(ratio=1, min_per_second=0, window=10)
    budget.count(5.0)
    budget.count(4.9)
    assert reserve_all(budget, 4.8) == 2


def test_a_retry_counts_for_a_whole_window_whichever_thread_was_quicker() -> None:
    budget = RetryBudget(ratio=0, min_per_second=0.3, window=10)
    for read in (5.0, 5.5, 5.25):
        assert budget.reserve(read)
    assert budget.snapshot(15.4)["retries"] == 3
    assert budget.snapshot(15.5)["retries"] == 0


async def test_a_snapshot_is_that_of_now() -> None:
    budget = RetryBudget(ratio=0, min_per_second=1, window=10)
    assert reserve_all(budget, 0.0, most=4) == 4
    assert budget.snapshot() == {"calls": 0, "retries": 4, "retries_left": 6}
    await asyncio.sleep(9.5)
    assert budget.snapshot()["retries"] == 4
    await asyncio.sleep(0.5)
    assert budget.snapshot() == {"calls": 0, "retries": 0, "retries_left": 10}


def test_reset_forgets_everything() -> None:
    budget = RetryBudget(ratio=1, min_per_second=0)
    budget.count(0.0)
    assert budget.reserve(0.0)
    budget.reset()
    assert budget.snapshot(0.0) == {"calls": 0, "retries": 0, "retries_left": 0}


def test_without_the_gil_every_call_takes_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retry_budget, "HAS_GIL", False)
    budget = RetryBudget(ratio=1, min_per_second=0)
    for _ in range(3):
        budget.count(0.0)
        assert budget.current.end == -math.inf
    assert reserve_all(budget, 0.0) == 3


def test_b11_threads_together_never_overshoot() -> None:
    budget = RetryBudget(ratio=0, min_per_second=50, window=10)
    taken: list[int] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        taken.append(sum(budget.reserve(0.0) is not None for _ in range(200)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(taken) == 500


def test_threads_that_count_while_slices_begin_lose_nothing() -> None:
    budget = RetryBudget(ratio=1, min_per_second=0, window=1000)
    time = itertools.count()
    barrier = threading.Barrier(5)

    def count() -> None:
        barrier.wait()
        for _ in range(4000):
            budget.count(float(next(time)) / 100)

    def look() -> None:
        barrier.wait()
        for _ in range(400):
            budget.snapshot(float(next(time)) / 100)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=each) for each in [count] * 4 + [look]]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert budget.snapshot(next(time) / 100) == {"calls": 16_000, "retries": 0, "retries_left": 16_000}


def test_repr_shows_what_was_given() -> None:
    assert repr(RetryBudget()) == "RetryBudget()"
    assert repr(RetryBudget(0.1, window=60)) == "RetryBudget(ratio=0.1, window=60)"


@pytest.mark.parametrize("name", ["ratio", "min_per_second", "window"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .* got {value}"):
        RetryBudget(**{name: value})


@pytest.mark.parametrize("name", ["ratio", "min_per_second", "window"])
@pytest.mark.parametrize("value", ["1", None, True])
def test_wrong_type(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be .* got {value!r}"):
        RetryBudget(**{name: value})


def test_window_of_zero() -> None:
    with pytest.raises(ValueError, match="window must be .* above 0, got 0"):
        RetryBudget(window=0)


def test_each_policy_has_a_budget_of_its_own_unless_given_one() -> None:
    shared = RetryBudget()
    assert retry().budget is not retry().budget
    assert retry(budget=shared).budget is retry(budget=shared).budget is shared
    assert retry(budget=None).budget is None


async def test_repeating_what_our_own_policies_refused_is_not_charged() -> None:
    policy = retry(attempts=None, deadline=60, on=CircuitBreakerOpenError, wait=1, budget=RetryBudget(0, 0))
    refusals = iter([CircuitBreakerOpenError(retry_after=2), CircuitBreakerOpenError(retry_after=3)])

    @policy
    async def call() -> str:
        if error := next(refusals, None):
            raise error
        return "admitted"

    assert await call() == "admitted"
    assert now() == 5
    assert policy.snapshot()["budget"]["retries"] == 0
