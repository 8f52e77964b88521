"""The trip rules, compared with lists that remember everything."""

from hypothesis import given
from hypothesis import strategies as st

from resilience._breaker_windows import SLICES, InARow, RateOverCalls, RateOverSeconds

outcomes = st.lists(st.booleans(), max_size=60)
rates = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])


def tell(rule, bad, now=0.0, straight=True):
    """Count an outcome as the policy does: successes on the straight path first."""
    if straight and not bad and rule.take(now):
        return False
    return rule.add(bad, now)


@given(outcomes, st.integers(1, 5))
def test_in_a_row(bads, threshold):
    rule = InARow(threshold)
    for end, bad in enumerate(bads, 1):
        expected = end >= threshold and all(bads[end - threshold : end])
        assert tell(rule, bad) == expected
        assert rule.is_clean(0.0) == (not bad)


@given(outcomes, rates, st.integers(1, 12), st.data())
def test_rate_over_calls(bads, rate, window, data):
    minimum = data.draw(st.integers(1, window))
    straight = data.draw(st.booleans())
    rule = RateOverCalls("failure_rate", "failures", rate, window, minimum)
    for end, bad in enumerate(bads, 1):
        seen = bads[:end][-window:]
        expected = len(seen) >= minimum and any(seen) and sum(seen) / len(seen) >= rate
        if tell(rule, bad, straight=straight) != expected:
            # A success may leave out the question where the answer was yes before and nobody acted on it.
            assert expected
            assert not bad
        assert rule.is_clean(0.0) == (not any(seen))
        assert rule.facts(0.0) == {"failures": sum(seen), "calls": len(seen), "rate": sum(seen) / len(seen)}


@given(outcomes, rates, st.integers(1, 12), st.integers(1, 12))
def test_rate_over_calls_trips_at_the_same_call_as_the_list(bads, rate, window, minimum):
    minimum = min(minimum, window)
    rule = RateOverCalls("failure_rate", "failures", rate, window, minimum)
    for end, bad in enumerate(bads, 1):
        seen = bads[:end][-window:]
        expected = len(seen) >= minimum and any(seen) and sum(seen) / len(seen) >= rate
        assert tell(rule, bad) == expected
        if expected:
            return


steps = st.lists(st.tuples(st.sampled_from([0, 0, 0.1, 0.4, 1, 3, 7, 30]), st.booleans()), max_size=60)


@given(steps, rates, st.integers(1, 12), st.sampled_from([0.0, 1e6 + 0.37]))
def test_rate_over_seconds_trips_at_the_same_call_as_the_list(steps, rate, minimum, start):
    rule = RateOverSeconds("slow_call_rate", "slow_calls", rate, 10.0, minimum)
    seen: list[tuple[float, bool]] = []
    now = start
    for wait, bad in steps:
        now += wait
        seen.append((now, bad))
        width = 10.0 / SLICES
        within = [bad for at, bad in seen if int(at / width) > int(now / width) - SLICES]
        expected = len(within) >= minimum and any(within) and sum(within) / len(within) >= rate
        assert tell(rule, bad, now) == expected
        assert rule.is_clean(now) == (not any(within))
        assert rule.facts(now)["calls"] == len(within)
        assert rule.facts(now)["slow_calls"] == sum(within)
        if expected:
            return


def test_t20_failures_between_successes_trip_a_rate_but_no_row():
    row, rate = InARow(5), RateOverCalls("failure_rate", "failures", 0.5, 20, 10)
    pattern = [True] * 4 + [False]
    assert not any(tell(row, bad) for bad in pattern * 20)
    assert any(tell(rate, bad) for bad in pattern * 20)


def test_t20_a_rate_judges_only_from_its_minimum_on():
    for rule in (
        RateOverCalls("failure_rate", "failures", 0.5, 100, 10),
        RateOverSeconds("failure_rate", "failures", 0.5, 10.0, 10),
    ):
        assert [tell(rule, True) for _ in range(10)] == [False] * 9 + [True]


def test_a_success_trips_when_it_completes_the_minimum():
    for rule in (
        RateOverCalls("failure_rate", "failures", 0.5, 100, 4),
        RateOverSeconds("failure_rate", "failures", 0.5, 10.0, 4),
    ):
        assert [tell(rule, bad) for bad in (True, True, False, False)] == [False, False, False, True]


def test_a_success_trips_when_old_successes_leave_the_seconds():
    rule = RateOverSeconds("failure_rate", "failures", 0.5, 10.0, 3)
    for bad in [False] * 10:
        assert not tell(rule, bad, 0.0)
    assert not tell(rule, True, 5.0)
    assert not tell(rule, True, 5.0)
    assert tell(rule, False, 10.0)


def test_seven_of_a_hundred_are_seven_percent():
    assert 0.07 * 100 > 7, "so a product would not do"
    rule = RateOverCalls("failure_rate", "failures", 0.07, 100, 100)
    assert [tell(rule, number >= 93) for number in range(100)] == [False] * 99 + [True]


def test_a_rate_of_zero_trips_at_the_first_failure_and_not_before():
    rule = RateOverCalls("failure_rate", "failures", 0.0, 10, 2)
    assert [tell(rule, bad) for bad in (False, False, False, True)] == [False, False, False, True]


def test_memory_is_bounded():
    calls = RateOverCalls("failure_rate", "failures", 1.0, 100, 100)
    seconds = RateOverSeconds("failure_rate", "failures", 1.0, 10.0, 100)
    for number in range(10_000):
        tell(calls, number % 2 == 0)
        tell(seconds, number % 2 == 0, number * 0.07)
    assert len(calls._bad_at) <= 100
    assert len(seconds._slices) <= SLICES


def test_seconds_may_stand_still_or_go_back():
    rule = RateOverSeconds("failure_rate", "failures", 1.0, 10.0, 3)
    assert [tell(rule, True, now) for now in (100.0, 90.0, 100.0)] == [False, False, True]


def test_t63_a_clock_that_is_set_back_ends_a_window_of_seconds():
    rule = RateOverSeconds("failure_rate", "failures", 1.0, 10.0, 3)
    assert [tell(rule, True, now) for now in (100.0, 100.0, 89.75)] == [False, False, False]
    assert rule.facts(89.75) == {"failures": 1, "calls": 1, "rate": 1.0}
    assert [tell(rule, True, now) for now in (95.0, 96.0)] == [False, True]


def test_t63_after_the_clock_was_set_back_it_forgets_as_before():
    rule = RateOverSeconds("failure_rate", "failures", 0.5, 10.0, 100)
    for _ in range(3):
        tell(rule, True, 1e9)
    assert not rule.is_clean(1e9)
    assert rule.is_clean(5.0), "what it holds was written under another clock"
    assert not rule.take(4.0) or rule.facts(5.0)["calls"] == 1
    tell(rule, True, 5.0)
    assert rule.facts(14.75)["failures"] == 1
    assert rule.facts(15.0)["failures"] == 0
    assert [rule.take(now) for now in (15.25, 15.5)] == [True, False]


def test_t63_successes_after_the_clock_was_set_back_cost_no_question():
    rule = RateOverSeconds("failure_rate", "failures", 0.5, 10.0, 100)
    tell(rule, False, 1e9)
    assert all(rule.take(1.0) for _ in range(3))
    tell(rule, True, 1.0)
    assert rule.facts(1.0)["failures"] == 1


def test_calls_are_counted_however_they_are_told():
    for rule in (
        RateOverCalls("failure_rate", "failures", 1.0, 3, 3),
        RateOverSeconds("failure_rate", "failures", 1.0, 3.0, 3),
    ):
        for bad in [False] * 10 + [True] * 5:
            tell(rule, bad)
        assert rule.calls == 15


def test_every_slice_is_straight_after_its_first_call():
    rule = RateOverSeconds("failure_rate", "failures", 0.5, 10.0, 1000)
    taken = [rule.take(now) or rule.add(False, now) for now in (0.0, 0.1, 0.49, 0.5, 0.6)]
    assert taken == [False, True, True, False, True]
    assert rule.facts(0.6)["calls"] == 5
