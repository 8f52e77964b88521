"""`AdaptiveLimit`: follows what the calls tell, with a guard against each way of being fooled."""

import asyncio
import math
from datetime import timedelta
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreakerOpenError,
    adaptive_throttle,
    bulkhead,
)
from resilience._adaptive_limit_state import (
    NOISE,
    ROUNDS_AT_MINIMUM,
    SHORTEST_ROUND,
    Aimd,
    Gradient,
    LimitState,
)

ALGORITHMS = ["aimd", "gradient"]
both = pytest.mark.parametrize("algorithm", ALGORITHMS)


class Calls:
    """Calls one after another, each with the whole limit in use unless told otherwise."""

    def __init__(self, limit: AdaptiveLimit, at: float = 0.0) -> None:
        self.state = limit.new_state()
        self.now = at

    def end(
        self,
        count: int = 1,
        *,
        latency: float = 0.1,
        in_flight: int | None = None,
        overloaded: bool = False,
    ) -> int:
        """Let calls begin and end; return the limit after the last."""
        for _ in range(count):
            started = self.now
            self.now += latency
            used = self.state.limit if in_flight is None else in_flight
            self.state.record(started, self.now, used, overloaded=overloaded)
            self.now += 1e-6
        return self.state.limit

    def round(self, latency: float = 0.1, **options: Any) -> int:
        """Let as many calls begin and end as a round of the gradient has."""
        return self.end(max(SHORTEST_ROUND, self.state.limit), latency=latency, **options)


def gradient(initial: int = 20, **options: Any) -> Calls:
    """A gradient limit whose baseline was measured: 0.1 s, in two rounds, of which the second had half."""
    calls = Calls(AdaptiveLimit(initial, algorithm="gradient", **options))
    calls.round()
    if calls.state.limit < initial:
        calls.round()
    assert calls.state.limit == initial
    return calls


# --- Both ---


@both
def test_begins_with_the_initial_limit(algorithm: Any) -> None:
    assert AdaptiveLimit(7, algorithm=algorithm).new_state().limit == 7
    assert AdaptiveLimit(algorithm=algorithm).new_state().limit == 20


@both
def test_an_overload_takes_a_part_off(algorithm: Any) -> None:
    assert Calls(AdaptiveLimit(100, algorithm=algorithm)).end(overloaded=True) == 90
    assert Calls(AdaptiveLimit(100, algorithm=algorithm, decrease=0.5)).end(overloaded=True) == 50


@both
@pytest.mark.parametrize("decrease", [0.9, 0.999999999])
def test_an_overload_takes_one_off_at_least(algorithm: Any, decrease: float) -> None:
    calls = Calls(AdaptiveLimit(5, algorithm=algorithm, decrease=decrease))
    assert [calls.end(overloaded=True) for _ in range(6)] == [4, 3, 2, 1, 1, 1]


def test_what_was_nearly_gained_does_not_save_from_a_decrease() -> None:
    calls = Calls(AdaptiveLimit(5))
    calls.end(4)
    assert calls.state.limit == 5
    assert calls.end(overloaded=True) == 4


@both
def test_the_floor_and_the_ceiling_hold(algorithm: Any) -> None:
    calls = Calls(AdaptiveLimit(10, minimum=8, maximum=12, algorithm=algorithm))
    assert calls.end(1000, in_flight=12) == 12
    assert calls.end(50, overloaded=True) == 8


@both
def test_a_call_that_began_before_the_last_decrease_does_not_decrease_again(algorithm: Any) -> None:
    state = AdaptiveLimit(100, algorithm=algorithm).new_state()
    for number in range(100):  # all of one round trip fail
        state.record(1.0, 2.0 + number / 1000, 100, overloaded=True)
    assert state.limit == 90
    state.record(2.0, 3.0, 90, overloaded=True)  # began at the very moment of the decrease
    assert state.limit == 90
    state.record(2.0001, 3.0, 90, overloaded=True)
    assert state.limit == 81


@both
def test_a_call_that_began_before_the_last_decrease_does_not_increase(algorithm: Any) -> None:
    state = AdaptiveLimit(20, algorithm=algorithm).new_state()
    state.record(1.0, 2.0, 20, overloaded=True)
    for number in range(500):
        state.record(1.0 + number / 1000, 2.1, 20, overloaded=False)
    assert state.limit == 18


@both
def test_does_not_grow_when_calls_use_less_than_half_of_it(algorithm: Any) -> None:
    assert Calls(AdaptiveLimit(20, algorithm=algorithm)).end(1000, in_flight=9) == 20
    assert Calls(AdaptiveLimit(20, algorithm=algorithm)).end(1000, in_flight=10) > 20


@both
def test_a_limit_of_one_grows_again(algorithm: Any) -> None:
    calls = Calls(AdaptiveLimit(2, algorithm=algorithm))
    assert calls.end(overloaded=True) == 1
    most = {"aimd": 3, "gradient": 4}[algorithm]  # one call is less than half of it
    assert calls.end(1000, in_flight=1) == most
    assert calls.end(1000) > 10


@both
def test_a_call_slower_than_healthy_is_overload_even_if_it_succeeds(algorithm: Any) -> None:
    limit = AdaptiveLimit(100, algorithm=algorithm, slow_call=timedelta(seconds=2))
    assert limit.slow_call == 2.0
    assert Calls(limit).end(latency=1.999) == 100
    assert Calls(limit).end(latency=2.0) == 90


@both
def test_t28_zero_latency_and_time_zero_are_values(algorithm: Any) -> None:
    state = AdaptiveLimit(20, algorithm=algorithm).new_state()
    state.record(0.0, 0.0, 100, overloaded=True)
    assert state.limit == 18
    for number in range(1, 1000):
        state.record(float(number), float(number), 100, overloaded=False)
    assert state.limit > 20


@both
def test_t63_in_a_frozen_clock_one_overload_counts_once(algorithm: Any) -> None:
    state = AdaptiveLimit(20, algorithm=algorithm).new_state()
    for _ in range(1000):
        state.record(5.0, 5.0, 20, overloaded=True)
    assert state.limit == 18


@both
@pytest.mark.parametrize("frozen", [1e9, 1.9e9])
def test_t63_works_on_when_the_clock_is_set_back(algorithm: Any, frozen: float) -> None:
    calls = Calls(AdaptiveLimit(100, algorithm=algorithm), at=frozen)
    calls.end(300)
    calls.end(overloaded=True)
    calls.now = 1000.0
    calls.end(1)  # the first that ends only shows that the clock was set back
    before = calls.state.limit
    assert calls.end(2, overloaded=True) < before
    low = calls.state.limit
    assert calls.end(2000) > low


@both
def test_a_call_during_which_the_clock_was_set_back_counts_as_nothing(algorithm: Any) -> None:
    state = AdaptiveLimit(20, algorithm=algorithm).new_state()
    state.record(5.0, 4.0, 20, overloaded=True)
    assert state.limit == 20
    state.record(5.0, 5.0, 20, overloaded=True)
    assert state.limit == 18


@both
def test_a_little_back_is_another_thread_and_no_clock_set_back(algorithm: Any) -> None:
    state = AdaptiveLimit(20, algorithm=algorithm).new_state()
    state.record(99.0, 100.0, 20, overloaded=True)
    state.record(89.9, 90.0, 18, overloaded=True)
    assert state.limit == 18
    state.record(89.8, 89.9, 18, overloaded=True)  # more than 10 s: the clock was set back
    state.record(89.91, 90.0, 18, overloaded=True)
    assert state.limit == 16


@both
def test_holds_a_fixed_number_of_values(algorithm: Any) -> None:
    calls = Calls(AdaptiveLimit(algorithm=algorithm))
    calls.end(3000)
    for kind in type(calls.state).__mro__:
        for name in getattr(kind, "__slots__", ()):
            value = getattr(calls.state, name)
            assert value is None or isinstance(value, (int, float, AdaptiveLimit)), name
    assert not hasattr(calls.state, "__dict__")


# --- AIMD ---


def test_aimd_gains_one_per_round_trip() -> None:
    calls = Calls(AdaptiveLimit(20))
    assert calls.end(19) == 20
    assert calls.end(2) == 21
    assert calls.end(19) == 21
    assert calls.end(2) == 22


def test_aimd_does_not_go_by_latency() -> None:
    calls = Calls(AdaptiveLimit(20))
    for latency in (0.001, 0.1, 10.0, 1000.0):
        before = calls.state.limit
        assert calls.end(30, latency=latency) > before


def test_aimd_is_the_default() -> None:
    assert type(AdaptiveLimit().new_state()) is Aimd
    assert type(AdaptiveLimit(algorithm="aimd").new_state()) is Aimd
    assert type(AdaptiveLimit(algorithm="gradient").new_state()) is Gradient


# --- Gradient ---


def test_gradient_grows_by_the_square_root_while_latency_is_healthy() -> None:
    calls = gradient(16)
    assert calls.end(15) == 16
    assert calls.end(1) == 20
    assert calls.round() == 24  # 20 + 4.47 in full, 24.47
    assert calls.round() == 29  # 24.47 + 4.9 = 29.37


def test_gradient_shrinks_in_proportion_when_calls_queue_on_the_other_side() -> None:
    calls = gradient(40, tolerance=1.5)
    healthy = 0.1 * 1.5 + NOISE
    assert calls.round(0.2) == int(40 * healthy / 0.2) == 30


def test_gradient_shrinks_to_a_half_at_most_in_a_round() -> None:
    assert gradient(40).round(10.0) == 20


def test_gradient_latency_within_tolerance_and_noise_is_no_queue() -> None:
    for tolerance in (1.0, 2.0):
        edge = 0.1 * tolerance + NOISE
        assert gradient(16, tolerance=tolerance).round(edge - 1e-9) == 20
        assert gradient(16, tolerance=tolerance).round(edge + 1e-9) == 15
    assert NOISE == 0.001


def test_gradient_single_slow_calls_are_noise() -> None:
    calls = gradient(20)
    calls.end(19)
    assert calls.end(1, latency=0.5) == 24  # the mean is 0.12


def test_gradient_a_round_has_ten_calls_at_least() -> None:
    calls = gradient(4)
    assert calls.end(SHORTEST_ROUND - 1) == 4
    assert calls.end(1) == 6
    assert SHORTEST_ROUND == 10


def test_gradient_does_not_shrink_when_calls_use_less_than_half_of_it() -> None:
    calls = gradient(20)
    assert calls.round(10.0, in_flight=9) == 20
    assert calls.round(10.0, in_flight=10) == 10


def test_gradient_use_is_the_mean_of_the_round() -> None:
    calls = gradient(20)
    calls.end(19, in_flight=1)
    assert calls.end(1, in_flight=20) == 20


def test_gradient_each_round_counts_its_use_from_zero() -> None:
    calls = gradient(20)
    calls.end(19, in_flight=10)
    assert calls.end(1, in_flight=9) == 20
    calls.end(19, in_flight=10)
    assert calls.end(1, in_flight=10) == 24


def test_gradient_the_best_round_is_the_baseline() -> None:
    calls = gradient(16)
    assert calls.round(0.05) == 20
    assert calls.round(0.1) == 12  # twice as much as the best: 20.x * (0.05 * 1.25 + NOISE) / 0.1


def test_b20_calls_of_another_round_do_not_count() -> None:
    state = gradient(20).state
    for number in range(100):  # began in the rounds before; slow, as the limit was too high then
        state.record(0.5 + number / 1000, 30.0, 20, overloaded=False)
    assert state.limit == 20
    calls = Calls(AdaptiveLimit())
    calls.state, calls.now = state, 30.0
    assert calls.round() == 24


def test_b20_while_the_baseline_is_measured_calls_of_the_higher_limit_do_not_count() -> None:
    calls = Calls(AdaptiveLimit(20, algorithm="gradient"))
    assert calls.round(1.0) == 10  # it measures
    dip = calls.now
    for number in range(1, 100):  # they queued behind twenty
        calls.state.record(dip - number / 1000, dip + 2.0, 20, overloaded=False)
    assert calls.state.limit == 10
    calls.now = dip + 2.0
    assert calls.round(0.1) == 20
    assert calls.round(0.2) < 20  # the baseline is 0.1 and not more


def test_the_baseline_does_not_drift_with_a_queue_that_the_limit_makes_itself() -> None:
    calls = gradient(20, remeasure=60.0)
    calls.now += 60.0
    for _ in range(20):
        # The other side works on ten at once: the latency follows the number of calls.
        calls.round(0.1 * max(1.0, calls.state.limit / 10))
        calls.now += 30.0
    assert calls.state.limit < 20


def test_the_baseline_is_measured_again_with_half_of_the_limit() -> None:
    calls = gradient(20, remeasure=60.0)
    calls.now = 57.0
    assert calls.round() == 24
    calls.now = 100.0
    assert calls.round(0.3) == 12
    assert calls.round(0.3) == 24  # the other side has become slower, and that is healthy now
    assert calls.round(0.3) == 29


def test_the_baseline_is_measured_again_after_the_time_that_was_set() -> None:
    for since, limit in ((59.9, 24), (60.1, 10)):
        calls = gradient(20)
        calls.now += since
        assert calls.round() == limit
    calls = gradient(20, remeasure=timedelta(hours=1))
    calls.now += 3500
    assert calls.round() == 24


@pytest.mark.parametrize("initial", [1, 8])
def test_rounds_that_take_longer_than_that_are_judged_too(initial: int) -> None:
    calls = Calls(AdaptiveLimit(initial, algorithm="gradient", remeasure=60.0))
    assert max(calls.round(10.0) for _ in range(10)) > initial


def test_the_baseline_is_measured_at_once_when_less_than_half_is_used() -> None:
    calls = gradient(20)
    calls.now += 60
    assert calls.round(0.3, in_flight=9) == 20
    assert calls.round(0.3) == 24


def test_measuring_never_goes_down_to_one_or_below_the_floor() -> None:
    for initial, options, during in (
        (2, {}, 2),
        (3, {}, 3),
        (4, {}, 2),
        (9, {"minimum": 5}, 9),
        (10, {"minimum": 5}, 5),
    ):
        calls = Calls(AdaptiveLimit(initial, algorithm="gradient", **options))
        assert calls.round() == during, initial


def test_an_overload_while_it_measures_ends_that_and_counts_from_the_full_limit() -> None:
    calls = gradient(20)
    calls.now += 60
    assert calls.round() == 10
    assert calls.end(overloaded=True) == 18
    assert calls.round(0.3) == 9  # measures now
    assert calls.round(0.3) == 18


def test_at_the_floor_the_baseline_is_measured_again_after_five_rounds() -> None:
    calls = gradient(4, minimum=4)
    for _ in range(ROUNDS_AT_MINIMUM):
        assert calls.round(0.3) == 4
    assert calls.round(0.3) == 4  # measures
    assert calls.round(0.3) == 6
    assert ROUNDS_AT_MINIMUM == 5


def test_after_measuring_at_the_floor_it_takes_five_rounds_again() -> None:
    calls = gradient(4, minimum=4)
    for latency in (0.3, 0.9):
        for _ in range(ROUNDS_AT_MINIMUM):
            assert calls.round(latency) == 4
        assert calls.round(latency) == 4  # measures
    assert calls.round(0.9) == 6


def test_t63_the_baseline_is_measured_again_when_the_clock_was_set_back() -> None:
    calls = gradient(20)
    calls.now = 59.0
    assert calls.round() == 24
    calls.now = 5.0
    calls.end(1)  # shows that the clock was set back
    assert calls.round(0.3) == 12  # measures
    assert calls.round(0.3) == 24
    assert calls.round(0.3) == 29


def test_a_round_above_the_floor_starts_that_count_again() -> None:
    calls = gradient(4, minimum=4)
    for _ in range(ROUNDS_AT_MINIMUM - 1):
        assert calls.round(0.3) == 4
    assert calls.round(0.1) == 6
    for _ in range(ROUNDS_AT_MINIMUM):
        assert calls.round(0.3) == 4
    assert calls.round(0.3) == 4  # measures
    assert calls.round(0.3) == 6


def test_an_overload_starts_the_round_again() -> None:
    calls = gradient(20)
    calls.end(19, latency=2.0)
    assert calls.end(overloaded=True) == 18
    assert calls.round() == 22  # the slow calls are forgotten


def test_latency_of_zero_as_baseline_does_not_shrink_the_limit() -> None:
    calls = Calls(AdaptiveLimit(20, algorithm="gradient"))
    calls.round(0.0)
    calls.round(0.0)
    assert calls.round(NOISE / 2) == 24
    assert calls.round(1.0) == 12


# --- What is overload ---


class SlowDownError(Exception):
    """What a client raises for the status 429 or 503."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__()
        self.retry_after = retry_after


class BrokenError(Exception):
    """An error whose property fails."""

    @property
    def retry_after(self) -> float:
        raise RuntimeError("no response to read it from")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), True),
        (BrokenError(), False),
        (CallTimeoutError(), True),
        (SlowDownError(2.0), True),
        (SlowDownError(0.0), True),
        (SlowDownError(None), False),
        (KeyError("bad argument"), False),
        (ConnectionResetError(), False),
        (CircuitBreakerOpenError(retry_after=3.0), False),
        (BulkheadFullError(retry_after=3.0), False),
    ],
)
def test_signs_of_overload(error: Exception, expected: bool) -> None:
    assert AdaptiveLimit().is_overload(error) is expected


def test_on_says_what_overload_is() -> None:
    assert AdaptiveLimit(on=KeyError).is_overload(KeyError())
    assert not AdaptiveLimit(on=KeyError).is_overload(TimeoutError())
    assert AdaptiveLimit(on=(KeyError, OSError)).is_overload(OSError())
    assert AdaptiveLimit(on=lambda error: error.args).is_overload(ValueError("busy")) is True
    assert AdaptiveLimit(on=lambda error: error.args).is_overload(ValueError()) is False
    assert not AdaptiveLimit(on=Exception).is_overload(CircuitBreakerOpenError())


# --- In a bulkhead ---


async def test_a_bulkhead_learns_from_successes_and_overloads_alone() -> None:
    slots = bulkhead(AdaptiveLimit(10, decrease=0.5))

    async def call(error: BaseException | None, seconds: float = 1.0) -> None:
        await asyncio.sleep(seconds)
        if error is not None:
            raise error

    async def limit_after(error: BaseException | None) -> int:
        await asyncio.sleep(0.1)  # a call that begins in the moment of a decrease counts as begun before
        calls = (slots.call(call, error) for _ in range(slots.snapshot()["max_concurrent"]))
        await asyncio.gather(*calls, return_exceptions=True)
        limit: int = slots.snapshot()["max_concurrent"]
        return limit

    assert await limit_after(KeyError()) == 10
    assert await limit_after(CircuitBreakerOpenError(retry_after=1.0)) == 10
    assert await limit_after(asyncio.CancelledError()) == 10
    assert await limit_after(TimeoutError()) == 5
    assert await limit_after(SlowDownError(3.0)) == 2
    assert await limit_after(None) == 3


async def test_each_key_of_a_bulkhead_has_a_limit_of_its_own() -> None:
    slots = bulkhead(AdaptiveLimit(10), key=lambda host: host)

    @slots
    async def fetch(host: str) -> None:
        await asyncio.sleep(1)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await fetch("slow")
    assert slots.at("slow").snapshot()["max_concurrent"] == 9
    assert slots.at("other").snapshot()["max_concurrent"] == 10


# --- The object ---


def test_it_is_frozen_and_each_state_is_new() -> None:
    limit = AdaptiveLimit(30)
    with pytest.raises(AttributeError):
        limit.initial = 40  # type: ignore[misc]
    one, two = limit.new_state(), limit.new_state()
    one.record(1.0, 2.0, 30, overloaded=True)
    assert (one.limit, two.limit) == (27, 30)
    assert isinstance(one, LimitState)
    assert limit == AdaptiveLimit(30) != AdaptiveLimit(31)
    assert hash(limit) == hash(AdaptiveLimit(30))


def test_its_defaults() -> None:
    limit = AdaptiveLimit()
    assert (limit.initial, limit.minimum, limit.maximum, limit.algorithm) == (20, 1, 200, "aimd")
    assert (limit.decrease, limit.slow_call, limit.tolerance, limit.remeasure) == (0.9, None, 1.25, 60.0)


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(AdaptiveLimit()) == "AdaptiveLimit()"
    assert repr(AdaptiveLimit(20, maximum=30)) == "AdaptiveLimit(maximum=30)"
    assert repr(AdaptiveLimit(5, algorithm="gradient")) == "AdaptiveLimit(5, algorithm='gradient')"
    assert repr(AdaptiveLimit(on=KeyError)) == "AdaptiveLimit(on=KeyError)"
    assert repr(AdaptiveLimit(slow_call=2, remeasure=30)) == "AdaptiveLimit(slow_call=2, remeasure=30)"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"initial": 0}, ValueError, "initial must be a whole number of 1 or more, got 0"),
        ({"initial": 20.0}, TypeError, "initial must be a whole number of 1 or more, got 20.0"),
        ({"initial": True}, TypeError, "initial must be a whole number of 1 or more, got True"),
        ({"initial": 201}, ValueError, "initial must be at most maximum (200), got 201"),
        ({"minimum": 21}, ValueError, "initial must be a whole number of 21 or more, got 20"),
        ({"minimum": 0}, ValueError, "minimum must be a whole number of 1 or more, got 0"),
        ({"minimum": None}, TypeError, "minimum must be a whole number of 1 or more, got None"),
        ({"maximum": 0}, ValueError, "maximum must be a whole number of 1 or more, got 0"),
        ({"maximum": math.inf}, TypeError, "maximum must be a whole number of 1 or more, got inf"),
        ({"maximum": 19}, ValueError, "initial must be at most maximum (19), got 20"),
        ({"minimum": 5, "maximum": 4}, ValueError, "maximum must be a whole number of 5 or more, got 4"),
        ({"algorithm": "vegas"}, ValueError, "algorithm must be 'aimd' or 'gradient', got 'vegas'"),
        ({"algorithm": []}, ValueError, "algorithm must be 'aimd' or 'gradient', got []"),
        ({"decrease": 0}, ValueError, "decrease must be a number above 0 and below 1, got 0"),
        ({"decrease": 1}, ValueError, "decrease must be a number above 0 and below 1, got 1"),
        ({"decrease": "half"}, TypeError, "decrease must be a number above 0 and below 1, got 'half'"),
        (
            {"slow_call": 0},
            ValueError,
            "slow_call must be seconds (a number or a timedelta) above 0, got 0",
        ),
        ({"tolerance": 0.99}, ValueError, "tolerance must be a number of 1 or more, got 0.99"),
        ({"tolerance": math.nan}, ValueError, "tolerance must be a number of 1 or more, got nan"),
        ({"tolerance": None}, TypeError, "tolerance must be a number of 1 or more, got None"),
        (
            {"remeasure": 0},
            ValueError,
            "remeasure must be seconds (a number or a timedelta) above 0, got 0",
        ),
        ({"remeasure": None}, TypeError, "remeasure must be seconds (a number or a timedelta) above 0"),
        ({"on": 3}, TypeError, "on must be an exception type or a tuple of them, got 3"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        AdaptiveLimit(**arguments)
    assert str(caught.value).startswith(text)


def test_an_async_predicate_would_always_be_true() -> None:
    async def ask(error: Exception) -> bool:
        return False

    with pytest.raises(TypeError, match="on must be a function that is not async"):
        AdaptiveLimit(on=ask)


def test_the_edges_of_the_range_are_allowed() -> None:
    assert AdaptiveLimit(1, minimum=1, maximum=1, tolerance=1).new_state().limit == 1
    assert adaptive_throttle(1).config.ratio == 1
