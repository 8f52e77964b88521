"""`Percentile`: what it may be, and which sample it names."""

import math
import threading
from datetime import timedelta
from typing import Any

import pytest

from resilience import Percentile
from resilience._latency import LatencyWindow

# Those for which percentile x 1000 / 100 is a little more than the rank.
TENTHS = [each for each in range(10, 1001) if math.ceil(each / 10 * 1000 / 100) != each][:10]


def window_of(samples: "list[float] | range", percentile: float, **options: Any) -> LatencyWindow:
    window = LatencyWindow(Percentile(percentile, minimum_calls=1, **options))
    for each in samples:
        window.add(each)
    return window


@pytest.mark.parametrize(
    ("percentile", "expected"),
    [(1, 1), (1.5, 2), (50, 50), (50.5, 51), (90, 90), (95, 95), (99, 99), (99.5, 100), (100, 100)],
)
def test_of_a_hundred_samples_it_is_the_one_of_that_rank(percentile: float, expected: float) -> None:
    assert window_of(range(1, 101), percentile).delay == expected
    assert window_of(range(100, 0, -1), percentile).delay == expected


@pytest.mark.parametrize(
    ("count", "percentile", "expected"),
    [(1, 1, 1), (1, 100, 1), (2, 50, 1), (2, 51, 2), (3, 50, 2), (4, 75, 3), (20, 95, 19), (10, 95, 10)],
)
def test_of_few_samples_it_is_the_nearest_rank(count: int, percentile: float, expected: float) -> None:
    assert window_of(range(1, count + 1), percentile).delay == expected


@pytest.mark.parametrize("tenths", [10, 11, 333, 500, 501, *TENTHS, 950, 990, 999, 1000])
def test_no_rounding_moves_the_rank(tenths: int) -> None:
    assert TENTHS
    assert window_of(range(1, 1001), tenths / 10).delay == tenths


def test_before_there_are_samples_enough_it_is_the_initial_delay() -> None:
    window = LatencyWindow(Percentile(50, initial=9, minimum_calls=3))
    delays = [window.delay]
    for seconds in (1, 2, 3, 4):
        window.add(seconds)
        delays.append(window.delay)
    assert delays == [9, 9, 9, 2, 2]
    assert len(window) == 4
    window.reset()
    assert (window.delay, len(window)) == (9, 0)
    for _ in range(3):
        window.add(5)
    assert window.delay == 5


def test_the_oldest_samples_leave_also_among_equals() -> None:
    window = window_of([9, 1, 1, 9, 2], 100, window=3)
    assert (window.delay, len(window)) == (9, 3)
    window.add(2)
    assert (window.delay, len(window)) == (9, 3)
    window.add(2)
    assert (window.delay, len(window)) == (2, 3)
    assert window_of([5, 7], 100, window=1).delay == 7


@pytest.mark.parametrize("measured", [-5, 0, 1e-7])
def test_t63_a_clock_that_is_coarse_frozen_or_set_back_makes_no_delay_of_0(measured: float) -> None:
    assert window_of([measured], 50).delay == 1e-6


def test_samples_of_several_threads_are_all_counted() -> None:
    window = LatencyWindow(Percentile(50, minimum_calls=1, window=500))
    threads = [
        threading.Thread(target=lambda: [window.add(number % 7) for number in range(5000)])
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(window) == 500
    for _ in range(500):
        window.add(1)
    assert (window.delay, sorted(window._by_age)) == (1, window._by_length)


def test_it_shows_its_arguments_and_its_defaults_are_these() -> None:
    rule = Percentile(95)
    assert repr(rule) == "Percentile(95)"
    assert (rule.percentile, rule.initial, rule.minimum_calls, rule.window) == (95, 1.0, 20, 1000)
    other = Percentile(99.9, initial=timedelta(milliseconds=500), minimum_calls=5, window=5)
    assert repr(other) == "Percentile(99.9, initial=0.5, minimum_calls=5, window=5)"
    assert Percentile(1, initial=0).initial == 0
    assert Percentile(100).percentile == 100
    with pytest.raises(TypeError):
        Percentile(95, 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong", [None, "95", True, 0, 0.95, 0.999, 100.001, -1, float("nan"), float("inf")]
)
def test_a_wrong_percentile_is_told(wrong: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match="percentile must be a number from 1 to 100, got"
    ) as caught:
        Percentile(wrong)
    assert str(caught.value) == f"percentile must be a number from 1 to 100, got {wrong!r}"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("initial", -1),
        ("initial", None),
        ("initial", "1"),
        ("minimum_calls", 0),
        ("minimum_calls", 1.5),
        ("minimum_calls", 1001),
        ("window", 0),
        ("window", 19),
        ("window", "many"),
    ],
)
def test_wrong_options_are_told(name: str, wrong: Any) -> None:
    message = "minimum_calls must be at most window" if wrong in {19, 1001} else f"{name} must be"
    with pytest.raises((TypeError, ValueError), match=f"^{message}.*, got"):
        Percentile(95, **{name: wrong})
    with pytest.raises(ValueError, match=r"^minimum_calls must be at most window \(5\), got 6$"):
        Percentile(95, minimum_calls=6, window=5)
    assert Percentile(95, window=20).window == 20
    assert Percentile(95, minimum_calls=1000).minimum_calls == 1000
