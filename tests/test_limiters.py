"""The limiters as pure state machines: what fits, when, and how exactly."""

import copy
import math
import random
import time
from types import SimpleNamespace

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from resilience import LeakyBucket, SlidingWindow, TokenBucket
from resilience._limiters import KeyedLimiter, Limiter, Queue, seconds_until
from resilience._sliding_window import AT_ONCE

LIMITERS = [SlidingWindow, lambda rate, per: TokenBucket(rate, per, burst=rate)]
both = pytest.mark.parametrize("make", LIMITERS, ids=["window", "bucket"])


def queue_of(*costs: float) -> Queue[SimpleNamespace]:
    queue: Queue[SimpleNamespace] = Queue()
    for cost in costs:
        queue.add(Caller(cost))
    return queue


class Caller:
    def __init__(self, cost: float) -> None:
        self.cost = cost


def replay(limiter: Limiter, now: float, costs: list[float]) -> float:
    """Serve callers one after another, each as early as it can be, and return when the last was served."""
    for cost in costs:
        while not limiter.take(now, cost):
            now += limiter.wait(now, cost)
    return now


@both
def test_takes_up_to_the_rate_at_once(make: type[KeyedLimiter]) -> None:
    limiter = make(3, 1.0)
    assert [limiter.take(0.0, 1) for _ in range(5)] == [True, True, True, False, False]


def test_t60_a_token_leaves_the_window_at_the_edge() -> None:
    window = SlidingWindow(2, 10.0)
    assert [window.take(at, 1) for at in (0.0, 4.0, 9.999, 10.0, 13.999, 14.0, 19.999, 20.0)] == [
        True, True, False, True, False, True, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("start", [0.0, 0.2, 1 / 3, 12345.678901, 1.7e9 + 0.1])
@pytest.mark.parametrize("rate", [1, 3, 7])
@pytest.mark.parametrize("per", [0.1, 1.0, 0.7, 3600.0])
@both
def test_t60_whoever_comes_back_after_the_wait_gets_it(
    make: type[KeyedLimiter], start: float, rate: int, per: float
) -> None:
    limiter = make(rate, per)
    now = start
    for _ in range(200):
        if not limiter.take(now, 1):
            wait = limiter.wait(now, 1)
            assert wait > 0
            now += wait
            assert limiter.take(now, 1)


@given(st.integers(1, 5), st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60))
def test_never_more_than_the_rate_in_any_period(rate: int, steps: list[tuple[float, int]]) -> None:
    window = SlidingWindow(rate, 1.0)
    now = 0.0
    admitted: list[float] = []
    for step, cost in steps:
        now += step
        cost = min(cost, rate)
        fits = sum(1 for at in admitted if at + 1.0 > now) + cost <= rate
        assert window.take(now, cost) is fits
        admitted += [now] * cost * fits
        assert window.available(now) == rate - sum(1 for at in admitted if at + 1.0 > now)
    for earlier, later in zip(admitted, admitted[rate:], strict=False):
        assert later >= earlier + 1.0


@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 9), max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.sampled_from(["window", "bucket"]),
)
def test_the_wait_behind_others_is_exact(rate: int, before: list[int], line: list[int], kind: str) -> None:
    limiter: KeyedLimiter = SlidingWindow(rate, 4.0) if kind == "window" else TokenBucket(rate, 4.0, rate)
    now = 0.0
    for cost in before:
        limiter.take(now, min(cost, rate))
        now += 0.25
    costs: list[float] = [min(cost, rate) for cost in line]
    if limiter.take(now, costs[0]):
        return
    expected = replay(copy_of(limiter), now, costs) - now
    assert limiter.wait(now, costs[-1], queue_of(*costs[:-1])) == pytest.approx(expected)


@pytest.mark.parametrize("cost", [1, 2, 3, 5])
def test_the_wait_among_equals_is_exact(cost: int) -> None:
    for waiting in range(20):
        window = SlidingWindow(5, 1.0)
        for at in (0.0, 0.1, 0.2, 0.3, 0.4):
            assert window.take(at, 1)
        expected = replay(copy_of(window), 0.5, [cost] * (waiting + 1)) - 0.5
        assert window.wait(0.5, cost, queue_of(*[cost] * waiting)) == pytest.approx(expected)


def copy_of(limiter: KeyedLimiter) -> KeyedLimiter:
    twin = limiter.fresh()
    for slot in ("log", "_start", "tokens", "at"):
        if hasattr(limiter, slot):
            setattr(twin, slot, copy.copy(getattr(limiter, slot)))
    return twin


def test_t55_a_bucket_does_not_drift() -> None:
    bucket = TokenBucket(10, 1.0, burst=10)
    now = 12345.678901
    taken = 0
    for _ in range(300_000):
        taken += bucket.take(now, 1)
        now += 0.001
    assert taken == 10 + 3000 - 1


@pytest.mark.parametrize("start", [0.0, 12345.678901, 1.7e9 + 0.123])
@pytest.mark.parametrize("burst", [1, 3, 10, 1000])
@pytest.mark.parametrize("rate", [1 / 3600, 0.3, 7, 1e4])
def test_t55_a_full_bucket_gives_exactly_its_burst(start: float, burst: int, rate: float) -> None:
    bucket = TokenBucket(rate, burst=burst)
    assert sum(bucket.take(start, 1) for _ in range(burst + 2)) == burst


def test_t55_tenths_add_up_to_a_whole() -> None:
    bucket = TokenBucket(1, burst=1)
    assert [bucket.take(0.0, 0.1) for _ in range(11)] == [True] * 10 + [False]


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 4)), max_size=60))
def test_a_bucket_gives_no_more_than_burst_and_rate(steps: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(2.0, 1.0, burst=4)
    now, given_out = 0.0, 0.0
    for step, cost in steps:
        now += step
        given_out += cost * bucket.take(now, cost)
        assert given_out <= 4 + 2 * now + 1e-6


@both
def test_t58_what_is_refused_takes_nothing(make: type[KeyedLimiter]) -> None:
    limiter = make(3, 1.0)
    assert limiter.take(0.0, 2)
    assert not any(limiter.take(0.0, 2) for _ in range(100))
    assert limiter.available(0.0) == 1
    assert limiter.take(0.0, 1)


@both
def test_what_is_given_back_can_be_taken(make: type[KeyedLimiter]) -> None:
    limiter = make(3, 1.0)
    for at in (0.0, 0.0, 0.0):
        assert limiter.take(at, 1)
    limiter.give_back(2, 0.0)
    assert limiter.available(0.0) == 2
    limiter.give_back(1, 0.0)
    limiter.give_back(1, 0.0)  # more than was taken makes none
    assert [limiter.take(0.0, 1) for _ in range(4)] == [True, True, True, False]


def test_what_dripped_in_only_because_others_were_away_is_not_given_back_too() -> None:
    bucket = TokenBucket(1, burst=1)
    assert bucket.take(0.0, 1)
    assert bucket.take(1.0, 1)
    bucket.give_back(1, 0.0)
    assert not bucket.take(1.0, 1), "this would be the second one at 1.0"
    bucket.give_back(1, 1.0)
    assert bucket.take(1.0, 1)
    assert bucket.take(2.0, 0.5)
    bucket.give_back(1, 1.5)
    assert bucket.available(2.0) == 1


def test_a_window_forgets_the_admission_that_was_given_back() -> None:
    window = SlidingWindow(2, 1.0)
    assert window.take(1.0, 1)
    assert window.take(1.5, 1)
    window.give_back(1, 1.0)
    assert window.take(1.6, 1)
    assert not window.take(2.0, 1), "1.5 and 1.6 are still in the window"
    assert window.take(2.5, 1)


def test_many_tokens_are_given_back_quickly() -> None:
    window = SlidingWindow(100_000, 60.0)
    assert window.take(0.0, 50_000)
    assert window.take(1.0, 50_000)
    began = time.perf_counter()
    window.give_back(50_000, 1.0)
    assert time.perf_counter() - began < 1, "not one search for each token"
    assert window.available(1.0) == 50_000
    assert window.available(60.0) == 100_000


def test_only_its_own_tokens_are_given_back() -> None:
    window = SlidingWindow(1000, 1.0)
    assert window.take(1.0, 700)
    assert window.take(1.5, 250)
    assert window.take(2.0, 100), "some of the 700 are forgotten"
    window.give_back(700, 1.0)
    assert window.available(2.0) == 650


def test_what_has_left_the_window_is_not_given_back_again() -> None:
    window = SlidingWindow(1, 1.0)
    assert window.take(0.0, 1)
    assert window.take(1.0, 1)
    window.give_back(1, 0.0)
    assert window.available(1.0) == 0
    window = SlidingWindow(8, 1.0)
    assert window.take(0.0, 1)
    assert window.take(0.5, 7)
    assert window.available(1.0) == 1
    window.give_back(1, 0.0)
    assert window.available(1.0) == 1, "those of 0.5 are all in it"


@both
def test_reset_gives_all_back(make: type[KeyedLimiter]) -> None:
    limiter = make(3, 1.0)
    assert limiter.take(5.0, 3)
    limiter.reset()
    assert limiter.available(5.0) == 3
    assert limiter.take(5.0, 3)


def test_reset_also_forgets_how_much_of_the_log_has_left() -> None:
    window = SlidingWindow(100, 1.0)
    assert window.take(0.0, 10)
    assert window.take(0.5, 80)
    assert window.available(1.0) == 20
    assert window.start == 10
    window.reset()
    assert window.available(1.0) == 100


@both
def test_b16_idle_only_when_nothing_would_be_forgiven(make: type[KeyedLimiter]) -> None:
    limiter = make(2, 1.0)
    assert limiter.is_idle(0.0)
    assert limiter.take(0.0, 1)
    assert not limiter.is_idle(0.49)
    assert limiter.is_idle(1.0)


@both
def test_t63_a_clock_that_was_set_back_does_not_stop_it(make: type[KeyedLimiter]) -> None:
    limiter = make(2, 1.0)
    assert [limiter.take(1.7e9, 1) for _ in range(2)] == [True, True]
    assert limiter.take(100.0, 1)
    limiter = make(2, 1.0)
    assert limiter.take(1.7e9, 1)
    taken = sum(limiter.take(100.0 + step / 10, 1) for step in range(100))
    assert 19 <= taken <= 22


@both
def test_t63_what_was_taken_under_another_clock_is_not_owed(make: type[KeyedLimiter]) -> None:
    limiter = make(2, 1.0)
    assert limiter.take(110.0, 2)
    assert limiter.available(100.0) == 0, "a thread may be late by so much"
    assert not limiter.take(100.0, 1)
    assert limiter.available(math.nextafter(100.0, 0)) == 2
    assert limiter.take(math.nextafter(100.0, 0), 2)


@both
def test_an_interrupted_thread_with_an_older_reading_gains_nothing(make: type[KeyedLimiter]) -> None:
    limiter = make(2, 1.0)
    assert sum(limiter.take(at, 1) for at in (5.0, 4.9, 5.0, 5.05)) == 2


def test_a_window_needs_memory_only_for_what_is_in_it() -> None:
    window = SlidingWindow(10**9, 1.0)
    for call in range(50_000):
        assert window.take(call / 100, 1)
    assert len(window.log) < 100 + 2 * AT_ONCE
    small = SlidingWindow(100, 1.0)
    for call in range(50_000):
        small.take(call / 1000, 1)
    assert len(small.log) <= 140


@pytest.mark.parametrize("cost", [1, 3, 64, 100])
def test_a_window_forgets_as_much_as_it_logs(cost: int) -> None:
    window = SlidingWindow(10**9, 1.0)
    for call in range(20_000):
        assert window.take(call / 10, cost)
    assert len(window.log) < 2 * 10 * cost + 4 * AT_ONCE


def test_a_window_takes_no_more_without_a_look_than_is_free_and_in_proportion() -> None:
    window = SlidingWindow(AT_ONCE + 10, 1.0)
    assert window.take(0.0, 1)
    assert window.free == AT_ONCE - 1
    assert window.take(0.5, AT_ONCE - 1)
    assert window.free == 0
    assert window.take(0.5, 1)
    assert window.free == 9
    assert not window.take(0.5, 10)
    assert window.free == 0
    assert window.take(1.0, 1)
    assert window.free == 9
    large = SlidingWindow(10**9, 1.0)
    assert large.take(0.0, 300)
    assert large.free == 0
    assert large.take(0.5, 1)
    assert large.free == 299, "as many as are in the window"


def test_defaults() -> None:
    assert repr(SlidingWindow(3)) == "SlidingWindow(3, per=1.0)"
    assert repr(SlidingWindow(600 / 60)) == "SlidingWindow(10, per=1.0)"
    assert repr(TokenBucket(3)) == "TokenBucket(3, per=1.0, burst=3)"
    assert repr(TokenBucket(0.5)) == "TokenBucket(0.5, per=1.0, burst=1)"
    assert repr(LeakyBucket(3, 2)) == "LeakyBucket(3, per=2)"


def test_a_leaky_bucket_gives_no_more_than_its_rate_at_once() -> None:
    assert LeakyBucket(0.5).rule.capacity == 0.5
    assert AsyncLimiter(0.5).max_rate == 0.5


BAD_RATES = [0, -1, math.nan, math.inf, 10**400, True, "3", None, [3]]


@pytest.mark.parametrize("make", [SlidingWindow, TokenBucket, LeakyBucket])
@pytest.mark.parametrize("rate", BAD_RATES)
def test_t28_wrong_rates(make: type[Limiter], rate: object) -> None:
    with pytest.raises((TypeError, ValueError), match="rate"):
        make(rate)


@pytest.mark.parametrize("make", [SlidingWindow, TokenBucket, LeakyBucket])
@pytest.mark.parametrize("per", [0, -1, math.nan, math.inf, True, "3", None])
def test_t28_wrong_periods(make: type[Limiter], per: object) -> None:
    with pytest.raises((TypeError, ValueError), match="per must be"):
        make(1, per)


def test_a_window_takes_whole_rates_only() -> None:
    with pytest.raises(TypeError, match="rate must be a whole number of 1 or more, got 2.5"):
        SlidingWindow(2.5)


@pytest.mark.parametrize("burst", [0, -1, math.nan, True, "3"])
def test_wrong_bursts(burst: object) -> None:
    with pytest.raises((TypeError, ValueError), match="burst must be"):
        TokenBucket(1, burst=burst)


@pytest.mark.parametrize(("rate", "per"), [(1e-300, 1e300), (1e300, 1e-300)])
def test_rates_that_no_float_can_hold(rate: float, per: float) -> None:
    with pytest.raises(ValueError, match="rate / per"):
        TokenBucket(rate, per)


def test_a_queue_counts_what_its_callers_ask_for() -> None:
    queue: Queue[Caller] = Queue()
    callers = [Caller(cost) for cost in (0.1, 0.2, 0.1)]
    assert queue.all_ask_for(7)
    for caller in callers:
        queue.add(caller)
    assert queue.total == pytest.approx(0.4)
    assert not queue.all_ask_for(0.1)
    queue.remove(callers[1])
    assert queue.total == pytest.approx(0.2)
    assert queue.all_ask_for(0.1)
    assert not queue.all_ask_for(0.2)
    assert list(queue) == [callers[0], callers[2]]
    queue.remove(callers[0])
    queue.remove(callers[2])
    assert (len(queue), queue.total) == (0, 0)


def test_fractions_that_have_left_a_queue_leave_no_residue() -> None:
    queue = queue_of(0.1, 0.2, 0.3)
    for caller in list(queue):
        queue.remove(caller)
    assert queue.total == 0


def test_waits_are_long_rather_than_rounded_down() -> None:
    randomly = random.Random(7)
    for _ in range(2000):
        bucket = TokenBucket(randomly.uniform(0.001, 1e5), randomly.uniform(0.001, 100), burst=3)
        now = randomly.uniform(0, 1e6)
        assert bucket.take(now, randomly.uniform(1.5, 3))
        cost = randomly.uniform(1.6, 3)
        if not bucket.take(now, cost):
            assert bucket.take(now + bucket.wait(now, cost), cost)


def test_seconds_until_are_never_too_few() -> None:
    now, due = 2**-53, 1 + 2**-52
    assert now + (due - now) < due, "the rounding that this is about"
    assert now + seconds_until(due, now) >= due
    assert seconds_until(12.5, 2.25) == 10.25
