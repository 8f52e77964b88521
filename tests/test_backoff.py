"""The waits of `retry`: how long, how random, and never longer than their cap."""

import asyncio
import copy
import math
import pickle
import random
import statistics
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import DecorrelatedJitter, FullJitter, retry
from resilience._backoff import Constant, Steps, backoff, cap_of
from tests.support.virtual_time import now
from tests.test_retry import Flaky

ATTEMPTS = (1, 2, 1024, 1025, 10**6)
ALMOST_ONE = 1 - 2**-53  # the largest number that random() returns

both = pytest.mark.parametrize("jitter", [FullJitter, DecorrelatedJitter])


@pytest.fixture
def highest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every draw be the highest one."""
    monkeypatch.setattr(random, "random", lambda: ALMOST_ONE)


# --- Full jitter ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("highest")
def test_t26_full_jitter_is_safe_for_any_number_of_attempts() -> None:
    for wait, bounds in [
        (FullJitter(), [0.1, 0.2, 30, 30, 30]),
        (FullJitter(2, max=5), [2, 4, 5, 5, 5]),
        (FullJitter(40), [30, 30, 30, 30, 30]),
        (FullJitter(0), [0, 0, 0, 0, 0]),
        (FullJitter(3, max=0), [0, 0, 0, 0, 0]),
        (FullJitter(1e-300, max=7), [1e-300, 2e-300, 7, 7, 7]),
        (FullJitter(1, factor=1), [1, 1, 1, 1, 1]),
        (FullJitter(1, factor=1.0), [1, 1, 1, 1, 1]),
        (FullJitter(1, factor=3), [1, 3, 30, 30, 30]),
        (FullJitter(1, max=1e300, factor=1e308), [1, 1e300, 1e300, 1e300, 1e300]),
        (FullJitter(1e-200, max=2, factor=10**308), [1e-200, 2, 2, 2, 2]),
    ]:
        assert [wait.delay(attempts, 0.0) for attempts in ATTEMPTS] == pytest.approx(bounds), wait


@pytest.mark.usefixtures("highest")
def test_the_bound_of_full_jitter_doubles_up_to_its_cap() -> None:
    bounds = [FullJitter().delay(attempts, 99.0) for attempts in range(1, 12)]
    assert bounds == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])


def test_full_jitter_draws_from_zero_to_its_bound() -> None:
    delays = [FullJitter(4).delay(2, 0.0) for _ in range(2000)]
    assert min(delays) < 0.1
    assert max(delays) > 7.9
    assert statistics.mean(delays) == pytest.approx(4, abs=0.3)


# --- Decorrelated jitter ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "delays"),
    [
        (0.0, [2, 2, 2, 2, 2]),
        (0.5, [4, 7, 11.5, 16, 16]),  # half way between 2 and three times the wait before, at most 30
        (ALMOST_ONE, [6, 18, 30, 30, 30]),
    ],
)
def test_decorrelated_jitter_draws_up_to_three_times_the_wait_before(
    monkeypatch: pytest.MonkeyPatch, draw: float, delays: list[float]
) -> None:
    monkeypatch.setattr(random, "random", lambda: draw)
    wait = DecorrelatedJitter(2)
    seen: list[float] = []
    for attempts in range(1, 6):
        seen.append(wait.delay(attempts, seen[-1] if seen else 0.0))
    assert seen == pytest.approx(delays)


@pytest.mark.usefixtures("highest")
def test_t26_decorrelated_jitter_is_safe_for_any_number_of_attempts() -> None:
    for wait, first, later in [
        (DecorrelatedJitter(), 0.3, 30),
        (DecorrelatedJitter(0), 0, 30),
        (DecorrelatedJitter(0, max=0), 0, 0),
        (DecorrelatedJitter(5, max=5), 5, 5),
        (DecorrelatedJitter(5, max=6), 6, 6),
        (DecorrelatedJitter(1, max=1e308), 3, 1e308),
    ]:
        for attempts in ATTEMPTS:
            assert wait.delay(attempts, 0.0) == pytest.approx(first)
            assert wait.delay(attempts, 1e308) == pytest.approx(later)


async def test_a_decorrelated_jitter_of_zero_never_waits() -> None:
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(5, wait=DecorrelatedJitter(0))(flaky)()
    assert flaky.times == [0] * 5


async def test_t24_overlapping_calls_have_each_their_own_wait_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: ALMOST_ONE)
    policy = retry(4, wait=DecorrelatedJitter(1))
    flakies = [Flaky(ConnectionError, takes=index / 10) for index in range(4)]
    await asyncio.gather(*(policy(flaky)() for flaky in flakies), return_exceptions=True)
    for index, flaky in enumerate(flakies):
        took = index / 10
        assert flaky.times == pytest.approx([0, 3 + took, 12 + 2 * took, 39 + 3 * took])
    again = Flaky(ConnectionError)
    began = now()
    with pytest.raises(ConnectionError):
        await policy(again)()
    assert [at - began for at in again.times] == pytest.approx([0, 3, 12, 39])


async def test_t24_the_block_form_has_its_own_wait_before_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: ALMOST_ONE)
    times: list[float] = []
    with pytest.raises(ConnectionError):  # noqa: PT012
        async for attempt in retry(4, wait=DecorrelatedJitter(1)).attempts():
            with attempt:
                times.append(now())
                raise ConnectionError
    assert times == pytest.approx([0, 3, 12, 39])


@pytest.mark.usefixtures("punctual")
async def test_a_wait_that_retry_after_made_longer_counts_as_the_wait_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: ALMOST_ONE)
    busy = ConnectionError()
    busy.retry_after = 5  # type: ignore[attr-defined]
    flaky = Flaky(busy, ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(3, wait=DecorrelatedJitter(1))(flaky)()
    assert flaky.times == pytest.approx([0, 5, 20])


async def test_with_a_stop_of_the_users_it_knows_the_wait_before_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: ALMOST_ONE)
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(wait=DecorrelatedJitter(1), stop=lambda state: state.attempt_number == 4)(flaky)()
    assert flaky.times == pytest.approx([0, 3, 12, 39])


# --- Both -------------------------------------------------------------------------------------------


@both
def test_t27_jitter_survives_the_cap_and_stays_below_it(jitter: Any) -> None:
    wait = jitter(max=30)
    delays = [wait.delay(1000, 30.0) for _ in range(500)]
    assert max(delays) <= 30
    assert min(delays) < 5
    assert len(set(delays)) > 490
    assert statistics.mean(delays) == pytest.approx(15, abs=2)


@given(
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e300),
    st.integers(1, 2000),
    st.floats(0, ALMOST_ONE),
)
def test_t27_no_wait_is_above_the_cap_or_below_zero(
    one: float, other: float, before: float, attempts: int, draw: float
) -> None:
    initial, most = sorted((one, other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "random", lambda: draw)
        assert 0 <= FullJitter(initial, most).delay(attempts, before) <= most
        assert initial <= DecorrelatedJitter(initial, most).delay(attempts, before) <= most


@both
def test_the_module_random_is_the_source_so_that_tests_may_seed_it(jitter: Any) -> None:
    def draws() -> list[float]:
        random.seed(5)
        return [jitter().delay(5, 2.0) for _ in range(10)]

    assert draws() == draws()
    assert len(set(draws())) == 10


@both
async def test_retry_waits_as_long_as_it_says(jitter: Any) -> None:
    random.seed(7)
    expected, before = [0.0], 0.0
    for attempts in range(1, 6):
        before = jitter(1, max=4).delay(attempts, before)
        expected.append(expected[-1] + before)
    random.seed(7)
    flaky = Flaky(ConnectionError)
    with pytest.raises(ConnectionError):
        await retry(6, wait=jitter(1, max=4))(flaky)()
    assert flaky.times == pytest.approx(expected)


@both
@pytest.mark.parametrize(("asked", "times"), [(5, [0, 5]), (5.1, [0])])
@pytest.mark.usefixtures("punctual")
async def test_the_cap_is_also_that_for_retry_after(jitter: Any, asked: float, times: list[float]) -> None:
    error = ConnectionError()
    error.retry_after = asked  # type: ignore[attr-defined]
    flaky = Flaky(error, "value")
    await asyncio.gather(retry(wait=jitter(max=5))(flaky)(), return_exceptions=True)
    assert flaky.times == times


def test_defaults() -> None:
    assert FullJitter() == FullJitter(0.1, 30.0, 2.0) == backoff(None)
    assert DecorrelatedJitter() == DecorrelatedJitter(0.1, 30.0)
    assert FullJitter(timedelta(seconds=1), timedelta(minutes=1)) == FullJitter(1, max=60)
    assert DecorrelatedJitter(timedelta(seconds=1), timedelta(minutes=1)) == DecorrelatedJitter(1, max=60)


def test_they_show_what_they_were_given() -> None:
    assert repr(FullJitter(0.5)) == "FullJitter(initial=0.5, max=30.0, factor=2.0)"
    assert repr(retry(wait=DecorrelatedJitter(1))) == "retry(wait=DecorrelatedJitter(initial=1, max=30.0))"


@both
def test_t24_they_are_frozen_and_can_be_copied_and_compared(jitter: Any) -> None:
    wait = jitter(1, max=5)
    for name in ("initial", "max", "before"):
        with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
            setattr(wait, name, 3)
    assert wait == jitter(1, max=5) == copy.deepcopy(wait) == pickle.loads(pickle.dumps(wait))
    assert wait != jitter(1, max=6)
    assert len({wait, jitter(1, max=5)}) == 1
    assert not hasattr(wait, "__dict__")
    assert backoff(wait) is wait


@both
@pytest.mark.parametrize("name", ["initial", "max"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**400, ValueError),
        (timedelta(seconds=-1), ValueError),
        ("1", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_wrong_durations_are_named(jitter: Any, name: str, value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"^{name} must be seconds .* of 0 or more, got"):
        jitter(**{name: value})


@pytest.mark.parametrize(
    ("value", "kind"),
    [(0.99, ValueError), (0, ValueError), (-2, ValueError), (math.inf, ValueError), ("2", TypeError)],
)
def test_a_wrong_factor_is_named(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"^factor must be a number of .*, got {value!r}"):
        FullJitter(factor=value)


def test_a_cap_below_the_lower_bound_is_named() -> None:
    with pytest.raises(ValueError, match=r"^max must be at least initial \(5 s\), got 4"):
        DecorrelatedJitter(5, max=4)


@both
def test_the_class_in_place_of_a_wait_is_a_clear_error(jitter: Any) -> None:
    with pytest.raises(
        TypeError, match=f"wait must be a strategy, got the class {jitter.__name__}: call it"
    ):
        retry(wait=jitter)


# --- The others -------------------------------------------------------------------------------------


def test_constant_and_steps() -> None:
    assert [backoff(2).delay(attempts, 9.0) for attempts in ATTEMPTS] == [2] * 5
    assert [backoff([1, 2, 3]).delay(attempts, 9.0) for attempts in (1, 2, 3, 4, 10**6)] == [1, 2, 3, 3, 3]
    assert backoff([1]) == Steps((1,))
    assert backoff(timedelta(seconds=3)) == Constant(3)
    assert backoff(lambda state: 1) == FullJitter()


@pytest.mark.parametrize("wait", ["1", b"1", bytearray(b"1"), {1}, object()])
def test_what_is_no_wait_is_named(wait: object) -> None:
    with pytest.raises(
        TypeError, match="^wait must be seconds, a sequence of seconds, a jitter or a tenacity"
    ):
        backoff(wait)


@pytest.mark.parametrize(
    ("longest", "cap"),
    [
        (5, 5),
        (0, 0),
        (timedelta(minutes=1), 60),
        (2.9e9, 2.9e9),
        (3e9, 30),
        (math.inf, 30),
        (math.nan, 30),
        (-1, 30),
        (True, 30),
        ("5", 30),
        (None, 30),
    ],
)
def test_t28_the_cap_of_a_wait_is_its_max_if_that_is_one(longest: Any, cap: float) -> None:
    class Wait:
        max = longest

    assert cap_of(Wait()) == cap
    assert cap_of(object()) == 30
