"""`MetricsRegistry`: what is counted where, what a snapshot shows, and that memory is bounded."""

import asyncio
import gc
import json
import math
import random
import threading
from typing import Any

import pytest

from resilience import Event, MetricsRegistry, _events, _instruments, metrics
from resilience._metrics_registry import MOST_METRICS
from tests.support.virtual_time import advance


def value(registry: MetricsRegistry, name: str, /, **labels: str) -> Any:
    for series in registry.snapshot()[name]["series"]:
        if series["labels"] == labels:
            return series.get("value", series)
    raise KeyError(labels)


# --- Counters and gauges ---


def test_a_counter_adds_up_and_is_found_again_by_name_and_labels() -> None:
    registry = MetricsRegistry()
    registry.counter("mails").add()
    registry.counter("mails").add(2.5)
    registry.counter("mails", {"kind": "welcome", "lang": "de"}).add(0)
    registry.counter("mails", {"lang": "de", "kind": "welcome"}).add(4)
    assert value(registry, "mails") == 3.5
    assert value(registry, "mails", kind="welcome", lang="de") == 4
    assert registry.counter("mails") is registry.counter("mails", {})


def test_a_gauge_is_set_and_goes_up_and_down() -> None:
    registry = MetricsRegistry()
    gauge = registry.gauge("queue")
    gauge.set(5)
    gauge.add()
    gauge.add(-8)
    assert value(registry, "queue") == -2
    gauge.set(0)
    assert value(registry, "queue") == 0


def test_what_exists_shows_as_zero() -> None:
    registry = MetricsRegistry()
    registry.counter("errors")
    registry.histogram("times")
    assert value(registry, "errors") == 0
    empty = value(registry, "times")
    assert (empty["count"], empty["sum"], empty["min"], empty["max"], empty["p50"]) == (
        0,
        0,
        None,
        None,
        None,
    )


def test_a_series_shows_itself() -> None:
    counter = MetricsRegistry().counter("mails", {"kind": "x"})
    assert repr(counter) == "Counter('mails', {'kind': 'x'})"
    assert repr(MetricsRegistry().histogram("times")) == "Histogram('times', {})"
    assert (counter.name, counter.labels, counter.value) == ("mails", {"kind": "x"}, 0)
    counter.add(3)
    assert repr(counter.value) == "3"  # whole numbers stay whole


def test_labels_are_copied() -> None:
    registry = MetricsRegistry()
    labels = {"a": "1"}
    counter = registry.counter("x", labels)
    labels["a"] = "2"
    counter.labels["a"] = "3"
    assert registry.counter("x", {"a": "1"}) is counter


# --- Bad input ---

NO_NUMBERS: list[tuple[object, type[Exception]]] = [
    ("1", TypeError),
    (None, TypeError),
    (True, TypeError),
    (1j, TypeError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (-math.inf, ValueError),
    (10**400, ValueError),
]


@pytest.mark.parametrize(("bad", "error"), NO_NUMBERS)
def test_only_finite_numbers_are_taken(bad: Any, error: type[Exception]) -> None:
    registry = MetricsRegistry()
    with pytest.raises(error, match="n must be a"):
        registry.counter("counter").add(bad)
    with pytest.raises(error, match="n must be a"):
        registry.gauge("gauge").add(bad)
    with pytest.raises(error, match="value must be a"):
        registry.gauge("gauge").set(bad)
    with pytest.raises(error, match="value must be a"):
        registry.histogram("histogram").record(bad)
    assert (
        value(registry, "counter") == value(registry, "gauge") == value(registry, "histogram")["count"] == 0
    )


@pytest.mark.parametrize("bad", [-1, -1e-9])
def test_a_counter_never_shrinks(bad: float) -> None:
    counter = MetricsRegistry().counter("counter")
    with pytest.raises(ValueError, match=f"n must be a number of 0 or more, got {bad}"):
        counter.add(bad)
    assert counter.value == 0


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram", "timer"])
@pytest.mark.parametrize(
    ("name", "labels", "error", "match"),
    [
        ("", None, ValueError, "name must be a string that is not empty, got ''"),
        (3, None, TypeError, "name must be a string that is not empty, got 3"),
        ("x", {"a": 1}, TypeError, r"labels\['a'\] must be a string, got 1"),
        ("x", {"a": None}, TypeError, r"labels\['a'\] must be a string, got None"),
        ("x", {1: "a"}, TypeError, "labels must be a string that is not empty, got 1"),
        ("x", {"": "a"}, ValueError, "labels must be a string that is not empty, got ''"),
        ("x", ["a"], TypeError, r"labels must be a mapping of strings to strings, got \['a'\]"),
    ],
)
def test_names_and_labels_are_checked(
    kind: str, name: Any, labels: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        getattr(MetricsRegistry(), kind)(name, labels)


def test_an_empty_label_value_is_a_value() -> None:
    registry = MetricsRegistry()
    registry.counter("x", {"a": ""}).add()
    assert value(registry, "x", a="") == 1


@pytest.mark.parametrize(
    ("bad", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("9", TypeError)]
)
def test_max_series_is_checked(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"max_series must be a whole number of 1 or more, got {bad!r}"):
        MetricsRegistry(max_series=bad)


def test_one_name_is_one_kind() -> None:
    registry = MetricsRegistry()
    registry.counter("x")
    for ask in (registry.gauge, registry.histogram, registry.timer):
        with pytest.raises(
            ValueError, match="name must not be that of another kind of metric: 'x' is a counter"
        ):
            ask("x", {"other": "labels"})
    registry.clear()
    registry.gauge("x").set(1)
    assert registry.snapshot()["x"]["kind"] == "gauge"


# --- Histograms ---


def test_the_bounds_of_a_histogram_are_inclusive_and_go_from_1_ms_to_60_s() -> None:
    registry = MetricsRegistry()
    histogram = registry.histogram("times")
    for each in (0, 0.001, 0.0011, 60.0, 60.1, 1e9):
        histogram.record(each)
    data = value(registry, "times")
    assert data["bounds"][0] == 0.001
    assert data["bounds"][-1] == 60
    assert len(data["buckets"]) == len(data["bounds"]) + 1
    assert (data["buckets"][0], data["buckets"][1], data["buckets"][-2], data["buckets"][-1]) == (
        2,
        1,
        1,
        2,
    )
    assert (data["count"], data["min"], data["max"]) == (6, 0, 1e9)
    assert data["sum"] == pytest.approx(1e9 + 120.1021)


@pytest.mark.parametrize("values", [[3.0], [3.0] * 1000, [0.0], [-5.0, -5.0], [1e9], [1e308, 1e308]])
def test_percentiles_of_equal_values_are_exact(values: list[float]) -> None:
    registry = MetricsRegistry()
    for each in values:
        registry.histogram("times").record(each)
    data = value(registry, "times")
    assert data["p50"] == data["p95"] == data["p99"] == values[0] == data["min"] == data["max"]


def test_percentiles_take_the_values_of_a_bucket_to_lie_evenly_between_its_bounds() -> None:
    registry = MetricsRegistry()
    for each in (0.02, 0.02, 0.3, 0.3):
        registry.histogram("times").record(each)
    data = value(registry, "times")
    assert (data["p50"], data["p95"], data["p99"]) == pytest.approx((0.025, 0.295, 0.299))
    registry.histogram("times").record(100)
    data = value(registry, "times")
    assert (data["p50"], data["p95"], data["p99"]) == pytest.approx((0.3125, 90, 98))


def test_percentiles_are_within_the_bucket_of_the_true_value() -> None:
    registry = MetricsRegistry()
    source = random.Random(7)
    values = sorted(source.lognormvariate(-2, 1.5) for _ in range(5000))
    for each in values:
        registry.histogram("times").record(each)
    data = value(registry, "times")
    bounds = [data["min"], *data["bounds"], data["max"]]
    for percent in (50, 95, 99):
        true = values[int(len(values) * percent / 100)]
        lower = max(bound for bound in bounds if bound <= true)
        upper = min(bound for bound in bounds if bound >= true)
        assert lower <= data[f"p{percent}"] <= upper
    assert data["p50"] <= data["p95"] <= data["p99"] <= data["max"]


def test_a_histogram_keeps_no_values() -> None:
    histogram = MetricsRegistry().histogram("times")
    for number in range(1000):
        histogram.record(number)
    size = len(gc.get_referents(histogram._buckets))
    assert size <= len(_instruments.BOUNDS) + 1


# --- Timers ---


async def test_a_timer_records_seconds_also_of_a_block_that_fails() -> None:
    registry = MetricsRegistry()
    with registry.timer("work", {"kind": "a"}):
        advance(2)
    with pytest.raises(ZeroDivisionError), registry.timer("work", {"kind": "a"}):
        fail_after(4)
    data = value(registry, "work", kind="a")
    assert (data["count"], data["sum"], data["min"], data["max"]) == (2, 6, 2, 4)


def fail_after(seconds: float) -> None:
    advance(seconds)
    raise ZeroDivisionError


async def test_t24_one_timer_serves_overlapping_blocks_the_older_ending_last() -> None:
    registry = MetricsRegistry()
    timer = registry.timer("work")

    async def block(seconds: float) -> None:
        with timer:
            await asyncio.sleep(seconds)

    old = asyncio.create_task(block(10))
    await asyncio.sleep(1)
    cancelled = asyncio.create_task(block(100))
    await asyncio.sleep(1)
    await block(3)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await old
    data = value(registry, "work")
    assert (data["count"], data["min"], data["max"], data["sum"]) == (3, 3, 10, 17)


async def test_one_timer_in_itself() -> None:
    registry = MetricsRegistry()
    timer, other = registry.timer("work"), registry.timer("other")
    with timer:
        advance(1)
        with other, timer:
            advance(2)
    assert value(registry, "work")["sum"] == 5
    assert value(registry, "other")["sum"] == 2
    assert _instruments._running.get() == ()


async def test_blocks_may_end_in_the_order_in_which_they_began() -> None:
    registry = MetricsRegistry()
    first, second = registry.timer("first"), registry.timer("second")
    first.__enter__()
    advance(1)
    second.__enter__()
    advance(2)
    first.__exit__(None, None, None)
    advance(4)
    second.__exit__(None, None, None)
    assert value(registry, "first")["sum"] == 3
    assert value(registry, "second")["sum"] == 6
    assert _instruments._running.get() == ()


def test_a_block_that_ends_in_another_context_is_not_recorded() -> None:
    import contextvars

    registry = MetricsRegistry()
    timer = registry.timer("work")
    contextvars.copy_context().run(timer.__enter__)
    timer.__exit__(None, None, None)
    assert value(registry, "work")["count"] == 0


# --- Snapshots ---


def test_a_snapshot_is_plain_stable_and_ready_for_json() -> None:
    first, second = MetricsRegistry(), MetricsRegistry()
    writes = [
        lambda registry: registry.counter("b", {"x": "2"}).add(),
        lambda registry: registry.counter("b", {"x": "1"}).add(2),
        lambda registry: registry.gauge("a").set(1.5),
        lambda registry: registry.histogram("c").record(0.2),
    ]
    for write in writes:
        write(first)
    for write in reversed(writes):
        write(second)
    text = json.dumps(first.snapshot(), allow_nan=False)
    assert text == json.dumps(second.snapshot())
    assert json.loads(text) == first.snapshot()
    assert list(first.snapshot()) == ["a", "b", "c"]
    assert first.snapshot()["b"] == {
        "kind": "counter",
        "series": [{"labels": {"x": "1"}, "value": 2}, {"labels": {"x": "2"}, "value": 1}],
    }


def test_a_snapshot_is_a_copy() -> None:
    registry = MetricsRegistry()
    registry.histogram("times").record(1)
    registry.snapshot()["times"]["series"][0]["buckets"][0] = 99
    registry.snapshot()["times"]["series"][0]["labels"]["a"] = "b"
    assert value(registry, "times")["buckets"][0] == 0


def test_huge_sums_stay_in_json() -> None:
    registry = MetricsRegistry()
    for _ in range(3):
        registry.counter("counter").add(1.7e308)
        registry.counter("whole").add(17 * 10**307)
        registry.gauge("gauge").add(-1.7e308)
        registry.histogram("histogram").record(1.7e308)
    registry.counter("whole").add(0.5)
    assert json.dumps(registry.snapshot(), allow_nan=False)
    assert value(registry, "counter") > 1e308
    assert value(registry, "gauge") < -1e308


# --- Limits ---


def test_b17_label_sets_are_bounded_and_the_rest_is_one_series(events: list[Event]) -> None:
    registry = MetricsRegistry(max_series=3)
    for number in range(100):
        registry.counter("requests", {"user": str(number)}).add()
    assert len(registry.snapshot()["requests"]["series"]) == 4
    assert value(registry, "requests", overflow="true") == 97
    registry.counter("requests", {"user": "1"}).add()
    assert value(registry, "requests", user="1") == 2
    told = [(event.kind, event.name, dict(event.attributes)) for event in events]
    assert told == [("metrics.overflowed", "requests", {"max_series": 3})]


def test_label_sets_are_bounded_for_every_kind() -> None:
    registry = MetricsRegistry(max_series=2)
    for number in range(50):
        registry.gauge("gauge", {"n": str(number)}).add()
        registry.histogram("histogram", {"n": str(number)}).record(1)
        with registry.timer("timer", {"n": str(number)}):
            pass
    assert {name: len(family["series"]) for name, family in registry.snapshot().items()} == {
        "gauge": 3,
        "histogram": 3,
        "timer": 3,
    }


def test_names_are_bounded_too(events: list[Event]) -> None:
    registry = MetricsRegistry()
    for number in range(MOST_METRICS + 50):
        registry.counter(f"user {number}", {"a": str(number)}).add()
    registry.gauge("level").add(3)
    assert len(registry.snapshot()) == MOST_METRICS + 2
    assert value(registry, "resilience.overflow.counter", overflow="true") == 50
    assert value(registry, "resilience.overflow.gauge", overflow="true") == 3
    assert [event.name for event in events] == ["resilience.overflow.counter", "resilience.overflow.gauge"]


def test_after_an_overflow_clear_makes_room() -> None:
    registry = MetricsRegistry(max_series=2)
    for number in range(10):
        registry.counter("x", {"n": str(number)}).add()
    registry.clear()
    assert registry.snapshot() == {}
    registry.counter("x", {"n": "77"}).add()
    assert value(registry, "x", n="77") == 1


# --- Clearing ---


def test_who_holds_a_metric_goes_on_counting_after_clear() -> None:
    registry = MetricsRegistry()
    counter, gauge = registry.counter("counter"), registry.gauge("gauge")
    histogram, timer = registry.histogram("histogram"), registry.timer("timer")
    counter.add(5)
    gauge.add(3)
    histogram.record(7)
    registry.counter("dropped").add()
    registry.clear()
    assert set(registry.snapshot()) == {"counter", "gauge", "histogram", "timer"}
    assert value(registry, "counter") == 0
    assert value(registry, "histogram")["max"] is None
    gauge.add(-1)
    counter.add()
    registry.counter("counter").add()
    histogram.record(2)
    with timer:
        pass
    assert value(registry, "counter") == 2
    assert value(registry, "gauge") == 2
    assert value(registry, "histogram")["max"] == 2
    assert value(registry, "timer")["count"] == 1
    assert registry.counter("counter") is counter


def test_registries_share_nothing() -> None:
    first, second = MetricsRegistry(), MetricsRegistry()
    first.counter("x").add()
    assert second.snapshot() == {}
    assert isinstance(metrics, MetricsRegistry)


# --- The events of the other policies ---


def test_events_are_counted_when_asked_for() -> None:
    registry = MetricsRegistry()
    _events.emit("retry.scheduled", "api", delay=1)
    stop = registry.observe_events()
    _events.emit("retry.scheduled", "api", delay=1)
    _events.emit("retry.scheduled", "api", delay=1)
    _events.emit("retry.gave_up", "api", reason="budget", attempts=3)
    _events.emit("circuit_breaker.rejected", "api", retry_after=3, shadow=True)
    _events.emit("circuit_breaker.rejected", "api", retry_after=3, reason=7)
    _events.emit("call.failed", "api", operation="api")
    stop()
    _events.emit("retry.scheduled", "api", delay=1)
    assert value(registry, "resilience.retry.scheduled", name="api") == 2
    assert value(registry, "resilience.retry.gave_up", name="api", reason="budget") == 1
    assert value(registry, "resilience.circuit_breaker.rejected", name="api", shadow="true") == 1
    assert value(registry, "resilience.circuit_breaker.rejected", name="api") == 1
    assert len(registry.snapshot()) == 3
    assert _events.listeners == ()


def test_an_event_counts_once_however_many_ask() -> None:
    registry = MetricsRegistry()
    first, second = registry.observe_events(), registry.observe_events()
    _events.emit("retry.scheduled", "api")
    first()
    first()
    _events.emit("retry.scheduled", "api")
    second()
    _events.emit("retry.scheduled", "api")
    assert value(registry, "resilience.retry.scheduled", name="api") == 2
    again = registry.observe_events()
    _events.emit("retry.scheduled", "api")
    again()
    assert value(registry, "resilience.retry.scheduled", name="api") == 3


def test_an_overflow_of_the_counted_events_ends_in_itself() -> None:
    registry = MetricsRegistry(max_series=2)
    stop = registry.observe_events()
    for number in range(20):
        for kind in ("retry.scheduled", "retry.gave_up", "timeout.expired", "cache.hit"):
            _events.emit(kind, str(number))
    stop()
    assert all(len(family["series"]) <= 3 for family in registry.snapshot().values())


# --- Threads, and builds without the GIL ---


@pytest.mark.real_time
def test_threads_lose_no_count() -> None:
    registry = MetricsRegistry()
    counter, gauge, histogram = registry.counter("c"), registry.gauge("g"), registry.histogram("h")
    together = threading.Barrier(4)

    def work() -> None:
        together.wait()
        for number in range(20_000):
            counter.add()
            gauge.add(1 if number % 2 else -1)
            histogram.record(0.001)
            registry.counter("looked up", {"n": str(number % 10)}).add()

    run_in_threads(work, 4)
    assert (counter.value, gauge.value) == (80_000, 0)
    assert value(registry, "h")["count"] == 80_000
    assert sum(series["value"] for series in registry.snapshot()["looked up"]["series"]) == 80_000


@pytest.mark.real_time
def test_snapshot_and_clear_in_the_middle_of_writes() -> None:
    registry = MetricsRegistry(max_series=50)
    kept = registry.counter("kept")
    histogram = registry.histogram("h")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(3000):
                kept.add()
                histogram.record(number / 100)
                registry.counter("x", {"n": str(number)}).add()
                if number % 50 == 0:
                    json.dumps(registry.snapshot(), allow_nan=False)
                if number % 300 == 0:
                    registry.clear()
        except BaseException as error:
            failures.append(error)

    run_in_threads(work, 4)
    assert not failures
    registry.clear()
    kept.add()
    assert value(registry, "kept") == 1


def run_in_threads(work: Any, count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_write_while_the_lock_is_held_by_the_same_thread_does_not_hang() -> None:
    registry = MetricsRegistry()

    class Counts:
        def __del__(self) -> None:
            registry.counter("collected").add()

    with registry._lock:  # where a garbage collection may strike
        cycle: list[Any] = [Counts()]
        cycle.append(cycle)
        del cycle
        gc.collect()
    assert value(registry, "collected") == 1


def test_without_the_gil_writes_take_the_lock_of_the_registry() -> None:
    registry = MetricsRegistry()
    for series in (registry.counter("a"), registry.gauge("b"), registry.histogram("c")):
        assert series.lock is registry._lock


def test_without_the_gil_writes_take_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_instruments, "HAS_GIL", False)
    held: list[bool] = []

    class Lock:
        def __enter__(self) -> None:
            held.append(True)

        def __exit__(self, *error: object) -> None:
            held.append(False)

    class Thing:
        lock = Lock()

        @_instruments.serialised
        def put(self, amount: float) -> str:
            """Doc."""
            assert held == [True]
            return f"put {amount}"

    assert Thing().put(3) == "put 3"
    assert held == [True, False]
    assert Thing.put.__doc__ == "Doc."
