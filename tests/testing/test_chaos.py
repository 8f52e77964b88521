"""Chaos policies: off until switched on, the same in every run, and told of when in the wrong place."""

import asyncio
import contextlib
import math
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from resilience import (
    CallTimeoutError,
    StackOrderWarning,
    circuit_breaker,
    inactive,
    map_errors,
    policies,
    retry,
    stack,
    timeout,
    track_metrics,
)
from resilience.testing import Chaos, EventRecorder, inject_errors, inject_latency, inject_result
from tests.support.virtual_time import now

MAKE: dict[str, Callable[..., Chaos]] = {
    "latency": lambda **settings: inject_latency(10, **settings),
    "errors": lambda **settings: inject_errors(ConnectionError, **settings),
    "result": lambda **settings: inject_result("injected", **settings),
}
every_kind = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


async def fetch(value: object = "real") -> object:
    return value


async def outcome(function: Callable[..., Any], *args: object) -> object:
    """Return what is seen of a call: its result, its error, or how long it took."""
    began = now()
    try:
        value = await function(*args)
    except Exception as error:
        return error
    return now() - began or value


async def struck(policy: Chaos, calls: int) -> list[bool]:
    decorated = policy(fetch)
    return [await outcome(decorated) != "real" for _ in range(calls)]


# --- On and off -------------------------------------------------------------------------------------------


@every_kind
async def test_it_is_off_by_default(make: Callable[..., Chaos]) -> None:
    policy = make()
    assert policy.enabled is False
    assert await struck(policy, 20) == [False] * 20
    assert policy.snapshot() == {"enabled": False, "calls": 0, "injected": 0}


@every_kind
async def test_enabled_switches_it(make: Callable[..., Chaos]) -> None:
    policy = make(enabled=True)
    assert await struck(policy, 1) == [True]
    policy.enabled = False
    assert await struck(policy, 1) == [False]
    policy.enabled = True
    assert await struck(policy, 1) == [True]
    with inactive():
        assert await struck(policy, 1) == [False]
    assert policy.snapshot() == {"enabled": True, "calls": 2, "injected": 2}


@every_kind
async def test_active_switches_it_on_for_a_block(make: Callable[..., Chaos]) -> None:
    policy = make()
    with policy.active():
        assert await struck(policy, 1) == [True]
    assert await struck(policy, 1) == [False]
    first, second = policy.active(), policy.active()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert await struck(policy, 1) == [True]
    second.__exit__(None, None, None)
    assert await struck(policy, 1) == [False]
    with pytest.raises(ZeroDivisionError), policy.active():
        raise ZeroDivisionError
    assert await struck(policy, 1) == [False]
    policy.enabled = True
    with policy.active():
        pass
    assert await struck(policy, 1) == [True]


# --- How often --------------------------------------------------------------------------------------------


@every_kind
async def test_the_rate_is_kept_and_runs_repeat(make: Callable[..., Chaos]) -> None:
    source = Random(7)
    expected = [source.random() < 0.3 for _ in range(200)]
    assert 40 < sum(expected) < 80
    policy = make(rate=0.3, seed=7)
    for _ in range(2):
        with policy.active():
            assert await struck(policy, 200) == expected
    assert policy.snapshot() == {"enabled": False, "calls": 200, "injected": sum(expected)}
    assert await struck(make(rate=0.3, seed=7, enabled=True), 200) == expected
    assert await struck(make(rate=0.3, seed=8, enabled=True), 200) != expected
    assert await struck(make(rate=0.3, enabled=True), 200) == await struck(
        make(rate=0.3, seed=0, enabled=True), 200
    )


@every_kind
async def test_reset_and_active_begin_anew_but_a_nested_block_does_not(make: Callable[..., Chaos]) -> None:
    policy = make(rate=0.5, enabled=True)
    whole = await struck(policy, 40)
    policy.reset()
    assert policy.snapshot() == {"enabled": True, "calls": 0, "injected": 0}
    assert await struck(policy, 40) == whole
    with policy.active():
        begin = await struck(policy, 20)
        with policy.active():
            assert begin + await struck(policy, 20) == whole


@every_kind
@pytest.mark.parametrize(("rate", "strikes"), [(0, False), (0.0, False), (1, True), (1.0, True)])
async def test_never_and_always(make: Callable[..., Chaos], rate: float, strikes: bool) -> None:
    assert await struck(make(rate=rate, enabled=True), 100) == [strikes] * 100


@every_kind
async def test_the_default_is_always(make: Callable[..., Chaos]) -> None:
    assert await struck(make(enabled=True), 100) == [True] * 100


@every_kind
async def test_the_global_random_numbers_are_left_alone(make: Callable[..., Chaos]) -> None:
    import random

    random.seed(1)
    expected = random.random()
    random.seed(1)
    await struck(make(enabled=True, rate=0.5), 20)
    assert random.random() == expected


@every_kind
@pytest.mark.real_time
def test_threads_lose_no_count(make: Callable[..., Chaos]) -> None:
    policy = (
        inject_result(1, rate=0.5, enabled=True)
        if make is MAKE["latency"]
        else make(rate=0.5, enabled=True)
    )
    decorated = policy(fetch)

    async def main() -> None:
        for _ in range(500):
            with contextlib.suppress(ConnectionError):
                await decorated()

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    source = Random(0)
    injected = sum(source.random() < 0.5 for _ in range(2000))
    assert policy.snapshot() == {"enabled": True, "calls": 2000, "injected": injected}


# --- What is injected -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [2.5, timedelta(seconds=2.5), 0])
async def test_latency_comes_before_the_call(seconds: Any) -> None:
    began: list[float] = []

    @inject_latency(seconds, enabled=True)
    async def work() -> str:
        began.append(now())
        return "done"

    assert await work() == "done"
    assert began == [2.5 if seconds else 0.0]


async def test_latency_is_drawn_between_two() -> None:
    policy = inject_latency((1, timedelta(seconds=3)), enabled=True, seed=3)
    decorated = policy(fetch)
    waits = [await outcome(decorated) for _ in range(200)]
    assert all(1 <= each <= 3 for each in waits)
    assert min(waits) < 1.1
    assert max(waits) > 2.9
    policy.reset()
    assert [await outcome(decorated) for _ in range(200)] == pytest.approx(waits)
    assert await outcome(inject_latency((2, 2), enabled=True)(fetch)) == 2


async def test_latency_can_be_cancelled() -> None:
    started: list[int] = []

    @inject_latency(10, enabled=True)
    async def work() -> None:
        started.append(1)

    task = asyncio.create_task(work())
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert started == []


async def test_errors_come_instead_of_the_call_and_are_new_each_time() -> None:
    calls: list[int] = []

    @inject_errors(ConnectionError, enabled=True)
    async def work() -> None:
        calls.append(1)

    errors = [await outcome(work) for _ in range(2)]
    assert [type(each) for each in errors] == [ConnectionError] * 2
    assert str(errors[0]) == (
        "injected into test_errors_come_instead_of_the_call_and_are_new_each_time.<locals>.work"
    )
    assert errors[0] is not errors[1]
    assert calls == []


@pytest.mark.parametrize("kinds", [(OSError, ValueError, KeyError), [OSError, ValueError, KeyError]])
async def test_several_errors_come_in_turn(kinds: Any) -> None:
    policy = inject_errors(kinds, enabled=True)
    decorated = policy(fetch)
    errors = [type(await outcome(decorated)) for _ in range(4)]
    assert errors == [OSError, ValueError, KeyError, OSError]
    policy.reset()
    assert type(await outcome(decorated)) is OSError


async def test_a_function_makes_the_error() -> None:
    numbers = iter(range(10))
    decorated = inject_errors(lambda: ValueError(next(numbers)), enabled=True)(fetch)
    assert [str(await outcome(decorated)) for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize("made", [None, "error", ValueError, KeyboardInterrupt()])
async def test_a_function_that_makes_no_exception_is_told(made: Any) -> None:
    decorated = inject_errors(lambda: made, enabled=True)(fetch)
    with pytest.raises(TypeError, match="error must be a function that returns an exception, got "):
        await decorated()


@pytest.mark.parametrize("value", [None, 0, "", "injected", [1]])
async def test_the_result_is_the_value(value: object) -> None:
    calls: list[int] = []

    @inject_result(value, enabled=True)
    async def work() -> object:
        calls.append(1)
        return "real"

    assert await work() is value
    assert calls == []


async def test_a_function_makes_the_result_from_the_arguments() -> None:
    @inject_result(lambda number, *, factor=1: number * factor, enabled=True)
    async def work(number: int, *, factor: int = 1) -> int:
        return -1

    assert [await work(2), await work(2, factor=3)] == [2, 6]


@every_kind
@pytest.mark.parametrize("enabled", [False, True])
async def test_the_call_gets_its_arguments(make: Callable[..., Chaos], enabled: bool) -> None:
    @make(enabled=enabled, rate=0)
    async def work(*args: int, **kwargs: int) -> object:
        return args, kwargs

    assert await work(1, 2, b=3) == ((1, 2), {"b": 3})


# --- Events and looks -------------------------------------------------------------------------------------


async def test_each_fault_is_an_event() -> None:
    with EventRecorder() as events:
        await struck(inject_latency((2, 2), enabled=True, name="slow"), 1)
        await struck(inject_errors(ConnectionError, enabled=True), 1)
        await struck(inject_result("secret", enabled=True), 1)
        await struck(inject_result("secret"), 1)
    assert [(event.kind, event.name, dict(event.attributes)) for event in events.events] == [
        ("chaos.latency", "slow", {"seconds": 2}),
        ("chaos.error", "fetch", {"error": "ConnectionError"}),
        ("chaos.result", "fetch", {}),
    ]
    events.assert_sequence("chaos", "chaos", "chaos")


@every_kind
def test_its_config_is_frozen(make: Callable[..., Chaos]) -> None:
    policy = make(rate=0.5, seed=3)
    assert (policy.config.rate, policy.config.seed) == (0.5, 3)
    with pytest.raises(AttributeError):
        policy.config.rate = 1
    assert not hasattr(policy.config, "__dict__")


def test_it_shows_itself() -> None:
    assert repr(inject_latency(2)) == "inject_latency(2)"
    assert repr(inject_latency((1, 2), rate=0.5, seed=3)) == "inject_latency((1, 2), rate=0.5, seed=3)"
    assert repr(inject_errors(OSError)) == "inject_errors((OSError))"
    assert repr(inject_result(None, enabled=True)) == "inject_result(None)"
    assert [make().kind for make in MAKE.values()] == ["inject_latency", "inject_errors", "inject_result"]
    assert policies(inject_latency(2, name="slow")(fetch))[0].name == "slow"


# --- Innermost --------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("other", [retry, circuit_breaker, track_metrics, lambda: timeout(5), map_errors])
def test_outside_of_another_policy_it_is_warned_about(make: Callable[..., Chaos], other: Any) -> None:
    chaos, policy = make(), other()
    message = (
        f"{chaos.kind} is outside {policy.kind}, which never sees what it injects. Put {chaos.kind} inner"
    )
    with pytest.warns(StackOrderWarning, match=message) as warned:
        chaos(policy(fetch))
    assert len(warned) == 1
    assert warned[0].filename == __file__
    with pytest.warns(StackOrderWarning, match=message):
        stack(chaos, other())(fetch)
    with pytest.warns(StackOrderWarning, match=message):
        stack(track_metrics(), chaos, other())(fetch)


@every_kind
def test_innermost_there_is_nothing_to_warn_about(make: Callable[..., Chaos]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack(track_metrics(), retry(), circuit_breaker(), make(), *(other() for other in MAKE.values()))(
            fetch
        )
        retry()(make()(fetch))
        stack(make(), retry(), check=False)(fetch)


@every_kind
def test_the_same_object_twice_is_warned_about(make: Callable[..., Chaos]) -> None:
    chaos = make()
    with pytest.warns(StackOrderWarning, match="stands twice"):
        chaos(chaos(fetch))


async def test_the_policies_outside_see_the_faults() -> None:
    errors, slow = inject_errors(ConnectionError, rate=0.5, seed=1), inject_latency(30)
    breaker = circuit_breaker(failure_threshold=2)

    @retry(attempts=10, on=ConnectionError, wait=1)
    @breaker
    @timeout(5)
    @errors
    @slow
    async def call() -> str:
        return "fine"

    with errors.active():
        assert await call() == "fine"
        assert (errors.snapshot()["injected"], now()) == (1, 1)
        with slow.active(), pytest.raises(CallTimeoutError):
            await call()


# --- Bad input --------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rate", value) for value in (-0.1, 1.1, math.nan, "1", None, True)),
        *(("seed", value) for value in (-1, 1.0, None, "1", True)),
        *(("enabled", value) for value in (0, 1, None, "yes")),
        *(("name", value) for value in ("", 1)),
    ],
)
def test_bad_settings_are_told(make: Callable[..., Chaos], name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be .*, got "):
        make(**{name: value})


@pytest.mark.parametrize(
    "seconds",
    [-1, math.nan, math.inf, None, "1", True, (1,), (1, 2, 3), (2, 1), (-1, 1), ("a", 1), (), [1, 2]],
)
def test_bad_seconds_are_told(seconds: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="^seconds must be .*, got "):
        inject_latency(seconds)


class NeedsTwoError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


async def test_an_error_may_do_something_with_its_message() -> None:
    class LoudError(Exception):
        def __init__(self, message: str) -> None:
            super().__init__(message.upper())

    with pytest.raises(LoudError, match="^INJECTED INTO FETCH$"):
        await inject_errors(LoudError, enabled=True)(fetch)()


@pytest.mark.parametrize(
    "error",
    [
        *(None, "OSError", int, KeyboardInterrupt, asyncio.CancelledError, NeedsTwoError, OSError("one")),
        *((), [], (OSError, int), (OSError, NeedsTwoError), {OSError}, fetch),
    ],
)
def test_bad_errors_are_told(error: Any) -> None:
    with pytest.raises(TypeError, match="^error must be .*, got "):
        inject_errors(error)


def test_a_result_cannot_be_made_by_an_async_function() -> None:
    with pytest.raises(TypeError, match="^value must be a function that is not async, got "):
        inject_result(fetch)


def test_there_is_no_bare_form() -> None:
    with pytest.raises(TypeError, match="seconds must be"):
        inject_latency(fetch)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="error must be"):
        inject_errors(fetch)  # type: ignore[arg-type]
