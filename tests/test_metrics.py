"""`track_metrics`: outcomes, durations, calls in flight, and what happens on every way out of a call."""

import asyncio
import functools
import gc
import json
import threading
import types
from typing import Any

import pytest

from resilience import (
    CircuitBreakerOpenError,
    Event,
    MetricsRegistry,
    RateLimitExceededError,
    TrackMetrics,
    _metrics,
    inactive,
    metrics,
    policies,
    stack,
    timeout,
    track_metrics,
)
from tests.support.virtual_time import advance, settle


@pytest.fixture
def registry() -> MetricsRegistry:
    return MetricsRegistry()


def calls(registry: MetricsRegistry, **labels: str) -> dict[str, float]:
    """Calls by outcome, of those series that have the labels given; those never counted are left out."""
    found: dict[str, float] = {}
    for series in registry.snapshot().get("resilience.calls", {"series": []})["series"]:
        if labels.items() <= series["labels"].items() and series["value"]:
            found[series["labels"]["outcome"]] = series["value"]
    return found


def duration(registry: MetricsRegistry, outcome: str) -> dict[str, Any]:
    for series in registry.snapshot()["resilience.call.duration"]["series"]:
        if series["labels"]["outcome"] == outcome:
            return series
    raise KeyError(outcome)


def in_flight(registry: MetricsRegistry) -> float:
    return sum(series["value"] for series in registry.snapshot()["resilience.calls.in_flight"]["series"])


# --- What is counted ---


async def test_calls_are_counted_timed_and_gauged(registry: MetricsRegistry) -> None:
    seen: list[float] = []

    @track_metrics("work", labels={"team": "a"}, registry=registry)
    async def work(seconds: float) -> str:
        seen.append(in_flight(registry))
        advance(seconds)
        return "done"

    assert [await work(1), await work(3)] == ["done", "done"]
    assert seen == [1, 1]
    assert in_flight(registry) == 0
    assert json.loads(json.dumps(registry.snapshot())) == registry.snapshot()
    assert registry.snapshot()["resilience.calls"] == {
        "kind": "counter",
        "series": [{"labels": {"operation": "work", "outcome": "success", "team": "a"}, "value": 2}],
    }
    assert registry.snapshot()["resilience.calls.in_flight"]["series"][0]["labels"] == {
        "operation": "work",
        "team": "a",
    }
    data = duration(registry, "success")
    assert (data["count"], data["sum"], data["min"], data["max"]) == (2, 4, 1, 3)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("x"), "failure"),
        (TimeoutError(), "failure"),
        (ExceptionGroup("x", [ValueError()]), "failure"),
        (StopAsyncIteration(), "failure"),
        (CircuitBreakerOpenError(retry_after=1), "rejected"),
        (RateLimitExceededError(), "rejected"),
        (asyncio.CancelledError(), "abandoned"),
        (KeyboardInterrupt(), "abandoned"),
        (SystemExit(), "abandoned"),
        (GeneratorExit(), "abandoned"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_outcome_of_each_error(registry: MetricsRegistry, error: BaseException, outcome: str) -> None:
    @track_metrics("work", registry=registry)
    async def work() -> None:
        raise error

    coroutine = work()
    with pytest.raises(type(error)) as caught:
        coroutine.send(None)
    assert caught.value is error
    assert calls(registry) == {outcome: 1}
    assert duration(registry, outcome)["count"] == 1
    assert in_flight(registry) == 0


async def test_the_time_of_a_failure_is_counted_apart(registry: MetricsRegistry) -> None:
    @track_metrics("work", registry=registry)
    async def work(error: Exception | None) -> None:
        if error is None:
            await asyncio.sleep(5)
            return
        await asyncio.sleep(1)
        raise error

    await work(None)
    with pytest.raises(KeyError):
        await work(KeyError())
    assert (duration(registry, "success")["sum"], duration(registry, "failure")["sum"]) == (5, 1)


async def test_what_a_policy_further_in_refuses_is_rejected(registry: MetricsRegistry) -> None:
    @track_metrics("outer", registry=registry)
    @track_metrics("inner", registry=registry)
    async def work() -> None:
        raise RateLimitExceededError(retry_after=1)

    with pytest.raises(RateLimitExceededError):
        await work()
    assert calls(registry, operation="outer") == calls(registry, operation="inner") == {"rejected": 1}


async def test_the_default_registry_and_the_bare_form() -> None:
    metrics.clear()

    @track_metrics
    async def work() -> int:
        return 7

    assert await work() == 7
    operation = f"{__name__}.{work.__qualname__}"
    assert calls(metrics, operation=operation) == {"success": 1}


# --- Names ---


async def test_t71_functions_of_one_name_in_two_modules_are_two_operations(
    registry: MetricsRegistry,
) -> None:
    source = "async def fetch(): ..."
    functions = []
    for name in ("billing", "shipping"):
        module = types.ModuleType(name)
        exec(source, module.__dict__)
        functions.append(track_metrics(registry=registry)(module.fetch))
    await functions[0]()
    await functions[0]()
    await functions[1]()
    assert calls(registry, operation="billing.fetch") == {"success": 2}
    assert calls(registry, operation="shipping.fetch") == {"success": 1}


class Service:
    async def get(self) -> None: ...

    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (Service().get, "Service.get"),
        (functools.partial(Service().get), "Service.get"),
        (functools.partial(functools.partial(Service())), "Service"),
        (Service(), "Service"),
    ],
)
async def test_t71_the_operation_of_methods_partials_and_objects(
    registry: MetricsRegistry, function: Any, operation: str
) -> None:
    await track_metrics(registry=registry)(function)()
    await track_metrics(registry=registry).call(function)
    await stack(timeout(5), track_metrics(registry=registry), timeout(1))(function)()
    assert calls(registry, operation=f"{__name__}.{operation}") == {"success": 3}


async def test_t71_in_a_stack_with_a_name_the_operation_is_still_the_function(
    registry: MetricsRegistry, events: list[Event]
) -> None:
    together = stack(track_metrics(registry=registry), timeout(5), name="api")

    @together
    async def first() -> None: ...

    @together
    async def second() -> None: ...

    await first()
    await second()
    names = {series["labels"]["operation"] for series in registry.snapshot()["resilience.calls"]["series"]}
    assert names == {f"{__name__}.{each.__qualname__}" for each in (first, second)}
    assert {event.name for event in events} == {"api"}


async def test_a_lambda_and_classmethods_have_an_operation(registry: MetricsRegistry) -> None:
    class Repository:
        @track_metrics(registry=registry)
        @classmethod
        async def load(cls) -> None: ...

        @staticmethod
        @track_metrics(registry=registry)
        async def save() -> None: ...

    await Repository.load()
    await Repository.save()
    await track_metrics(registry=registry)(lambda: Repository.save())()
    names = [series["labels"]["operation"] for series in registry.snapshot()["resilience.calls"]["series"]]
    here = f"{__name__}.test_a_lambda_and_classmethods_have_an_operation.<locals>."
    assert names == [f"{here}<lambda>", f"{here}Repository.load", f"{here}Repository.save"]


async def test_t35_one_policy_on_two_functions(registry: MetricsRegistry) -> None:
    tracked = track_metrics(registry=registry)
    shared = track_metrics("both", registry=registry)

    async def one() -> None: ...

    async def two() -> None: ...

    await tracked(one)()
    await tracked(two)()
    await shared(one)()
    await shared(two)()
    assert calls(registry, operation=f"{__name__}.{one.__qualname__}") == {"success": 1}
    assert calls(registry, operation=f"{__name__}.{two.__qualname__}") == {"success": 1}
    assert calls(registry, operation="both") == {"success": 2}


async def test_t70_arguments_of_any_name_reach_the_function(registry: MetricsRegistry) -> None:
    @track_metrics(registry=registry)
    async def work(operation: int, **more: int) -> dict[str, int]:
        return {"operation": operation, **more}

    names = ("self", "function", "name", "labels", "registry", "error", "elapsed")
    sent = {name: number for number, name in enumerate(names)}
    assert await work(operation=9, **sent) == {"operation": 9, **sent}


async def test_t73_twice_on_one_function(registry: MetricsRegistry) -> None:
    def foreign(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    @track_metrics("outer", registry=registry)
    @foreign
    @track_metrics("inner", registry=registry)
    async def work(a: int) -> int:
        """Doc."""
        return a

    assert await work(3) == 3
    assert calls(registry, operation="outer") == calls(registry, operation="inner") == {"success": 1}
    assert [policy.config.operation for policy in policies(work)] == ["outer", "inner"]
    assert work.__doc__ == "Doc."


# --- Configuration ---


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"operation": ""}, ValueError, "operation must be a string that is not empty, got ''"),
        ({"operation": 3}, TypeError, "operation must be a string that is not empty, got 3"),
        ({"labels": {"a": 1}}, TypeError, r"labels\['a'\] must be a string, got 1"),
        ({"labels": "a"}, TypeError, "labels must be a mapping of strings to strings, got 'a'"),
        ({"labels": {"operation": "a"}}, ValueError, "labels must not contain 'operation'"),
        ({"labels": {"outcome": "a"}}, ValueError, "labels must not contain 'outcome'"),
        ({"registry": None}, TypeError, "registry must be a MetricsRegistry, got None"),
        ({"registry": "x"}, TypeError, "registry must be a MetricsRegistry, got 'x'"),
        ({"name": ""}, ValueError, "name must be a string that is not empty, got ''"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        track_metrics(**arguments)


def test_what_is_not_async_is_refused() -> None:
    with pytest.raises(TypeError, match="is not async"):
        track_metrics(print)


def test_labels_are_copied_and_frozen(registry: MetricsRegistry) -> None:
    labels = {"team": "a"}
    policy = track_metrics("x", labels=labels, registry=registry)
    labels["team"] = "b"
    assert policy.config.labels == {"team": "a"}
    with pytest.raises(TypeError):
        policy.config.labels["team"] = "c"


def test_the_handle() -> None:
    policy = track_metrics("x")
    assert isinstance(policy, TrackMetrics)
    assert (policy.kind, policy.has_state, policy.config.registry) == ("track_metrics", False, metrics)
    assert repr(policy) == "track_metrics(operation='x')"
    assert repr(track_metrics(labels={"a": "b"})) == "track_metrics(labels={'a': 'b'})"
    assert repr(track_metrics()) == "track_metrics()"


async def test_switched_off_nothing_is_counted(registry: MetricsRegistry) -> None:
    policy = track_metrics("work", registry=registry)

    @policy
    async def work() -> None: ...

    policy.enabled = False
    await work()
    policy.enabled = True
    with inactive():
        await work()
    assert calls(registry) == {}
    await work()
    assert calls(registry) == {"success": 1}


async def test_a_call_that_began_ends_as_it_began(registry: MetricsRegistry) -> None:
    policy = track_metrics("work", registry=registry)

    @policy
    async def work() -> None:
        await asyncio.sleep(1)

    task = asyncio.create_task(work())
    await settle()
    policy.enabled = False
    late = asyncio.create_task(work())
    await settle()
    policy.enabled = True
    await asyncio.gather(task, late)
    assert calls(registry) == {"success": 1}
    assert in_flight(registry) == 0


# --- Calls in flight ---


async def test_calls_in_flight_are_exact_whichever_ends_first(registry: MetricsRegistry) -> None:
    @track_metrics("work", registry=registry)
    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    old = asyncio.create_task(work(10))
    await settle()
    new = asyncio.create_task(work(1))
    cancelled = asyncio.create_task(work(20))
    await settle()
    assert in_flight(registry) == 3
    await new
    assert in_flight(registry) == 2
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert in_flight(registry) == 1
    await old
    assert in_flight(registry) == 0
    assert calls(registry) == {"success": 2, "abandoned": 1}
    assert duration(registry, "success")["max"] == 10


@pytest.mark.parametrize("turns", range(6))
async def test_t2_cancelled_in_any_turn_a_call_is_abandoned_once(
    registry: MetricsRegistry, turns: int
) -> None:
    began: list[int] = []

    @track_metrics("work", registry=registry)
    async def work() -> None:
        began.append(1)
        for _ in range(3):
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await settle(turns)
    task.cancel()
    await asyncio.wait([task])
    assert in_flight(registry) == 0
    assert sum(calls(registry).values()) == len(began)
    assert calls(registry) == ({} if not began else {"abandoned" if task.cancelled() else "success": 1})


@pytest.mark.parametrize("run", [False, True])
def test_t8_a_coroutine_that_is_closed_is_abandoned(registry: MetricsRegistry, run: bool) -> None:
    @track_metrics("work", registry=registry)
    async def work() -> None:
        await suspend()

    coroutine = work()
    if run:
        coroutine.send(None)
        assert in_flight(registry) == 1
    coroutine.close()
    assert in_flight(registry) == 0
    assert calls(registry) == ({"abandoned": 1} if run else {})


@types.coroutine
def suspend() -> Any:
    yield


def test_a_coroutine_that_is_forgotten_is_abandoned(registry: MetricsRegistry) -> None:
    @track_metrics("work", registry=registry)
    async def work() -> None:
        await suspend()

    coroutine = work()
    coroutine.send(None)
    cycle: list[Any] = [coroutine]
    cycle.append(cycle)
    del coroutine, cycle
    gc.collect()
    assert in_flight(registry) == 0
    assert calls(registry) == {"abandoned": 1}


async def test_clear_while_calls_are_in_flight_loses_no_later_count(registry: MetricsRegistry) -> None:
    @track_metrics("work", registry=registry)
    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        if seconds == 3:
            raise KeyError

    await work(0)
    running = [asyncio.create_task(work(seconds)) for seconds in (1, 2, 3)]
    await settle()
    registry.clear()
    assert calls(registry) == {}
    assert in_flight(registry) == 3
    later = asyncio.create_task(work(0.5))
    await settle()
    assert in_flight(registry) == 4
    await asyncio.gather(*running, later, return_exceptions=True)
    assert in_flight(registry) == 0
    assert calls(registry) == {"success": 3, "failure": 1}
    registry.clear()
    with pytest.raises(KeyError):
        await work(3)
    assert calls(registry) == {"failure": 1}


async def test_b17_operations_beyond_the_limit_share_their_series() -> None:
    registry = MetricsRegistry(max_series=2)
    for number in range(10):

        @track_metrics(f"operation {number}", registry=registry)
        async def work() -> None:
            assert in_flight(registry) == 1

        await work()
    series = registry.snapshot()["resilience.calls"]["series"]
    assert [(each["labels"].get("operation", "overflow"), each["value"]) for each in series] == [
        ("operation 0", 1),
        ("operation 1", 1),
        ("overflow", 8),
    ]
    assert in_flight(registry) == 0


# --- Events ---


async def test_events_tell_what_happened(registry: MetricsRegistry, events: list[Event]) -> None:
    @track_metrics("work", registry=registry, name="jobs")
    async def work(error: BaseException | None) -> None:
        advance(2)
        if error is not None:
            raise error

    await work(None)
    for error in (KeyError("secret"), CircuitBreakerOpenError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await work(error)
    told = [(event.kind, event.name, dict(event.attributes)) for event in events]
    same = {"operation": "work", "duration": 2}
    assert told == [
        ("call.succeeded", "jobs", same),
        ("call.failed", "jobs", {**same, "error": "KeyError"}),
        ("call.failed", "jobs", {**same, "error": "CircuitBreakerOpenError"}),
        ("call.abandoned", "jobs", {**same, "error": "CancelledError"}),
    ]


async def test_a_listener_sees_the_call_counted(registry: MetricsRegistry, events: list[Event]) -> None:
    from resilience import subscribe

    seen: list[Any] = []
    stop = subscribe(lambda event: seen.append((in_flight(registry), calls(registry))))

    @track_metrics("work", registry=registry)
    async def work() -> None: ...

    await work()
    stop()
    assert seen == [(0, {"success": 1})]


# --- Loops, threads, memory ---


def test_t64_several_loops_one_after_another(registry: MetricsRegistry) -> None:
    @track_metrics("work", registry=registry)
    async def work() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(10)))

    for _ in range(3):
        asyncio.run(main())
    assert calls(registry) == {"success": 30}
    assert in_flight(registry) == 0


@pytest.mark.real_time
def test_t64_threads_with_a_loop_each_lose_no_count(registry: MetricsRegistry) -> None:
    together = threading.Barrier(4)

    @track_metrics("work", registry=registry)
    async def work(number: int) -> None:
        if number % 4 == 0:
            await asyncio.sleep(0)
        if number % 3 == 0:
            raise KeyError
        if number % 5 == 0:
            await asyncio.Event().wait()

    async def main() -> None:
        together.wait()
        for first in range(0, 3000, 30):
            tasks = [asyncio.create_task(work(first + number)) for number in range(30)]
            await settle(3)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert calls(registry) == {"success": 4 * 1600, "failure": 4 * 1000, "abandoned": 4 * 400}
    assert in_flight(registry) == 0
    assert duration(registry, "success")["count"] == 4 * 1600


async def test_without_the_gil_every_write_goes_through_the_lock(
    registry: MetricsRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_metrics, "HAS_GIL", False)

    @track_metrics("work", registry=registry)
    async def work() -> float:
        return in_flight(registry)

    assert await work() == 1
    assert in_flight(registry) == 0
    assert calls(registry) == {"success": 1}


async def test_b21_no_error_is_kept(registry: MetricsRegistry) -> None:
    import weakref

    class OurError(Exception): ...

    @track_metrics("work", registry=registry)
    async def work() -> None:
        raise OurError

    def failed(error: OurError) -> "weakref.ref[OurError]":
        return weakref.ref(error)

    gc.collect()
    gc.disable()
    try:
        try:
            await work()
        except OurError as error:
            kept = failed(error)
        assert kept() is None
    finally:
        gc.enable()
