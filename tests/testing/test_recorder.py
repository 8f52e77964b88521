"""The recorder: what it records, and what its assertions say."""

import asyncio
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import resilience
from resilience import Policy, _events, circuit_breaker, retry
from resilience.testing import EventRecorder, StuckError, run_virtually
from resilience.testing._kinds import CALLED_OTHERWISE, KINDS
from tests.support.virtual_time import advance, now


def emit(kind: str, name: str = "fetch", **facts: object) -> None:
    if _events.listeners:
        _events.emit(kind, name, **facts)


@pytest.fixture
def recorder() -> Any:
    with EventRecorder() as recorder:
        yield recorder


async def test_it_records_the_events_of_the_block() -> None:
    @retry(attempts=2, on=ConnectionError, wait=1)
    async def fetch() -> None:
        raise ConnectionError("down")

    with EventRecorder() as recorder:
        assert recorder.events == ()
        with pytest.raises(ConnectionError):
            await fetch()
    emit("retry.scheduled")
    assert recorder.kinds == ["retry.scheduled", "retry.gave_up"]
    assert [event.at for event in recorder.events] == [0.0, 1.0]
    assert not _events.listeners


def test_of_takes_kinds_policies_and_names(recorder: EventRecorder) -> None:
    emit("retry.scheduled", "one")
    emit("retry.gave_up", "two")
    emit("circuit_breaker.opened", "one")
    kinds = [event.kind for event in recorder.of("retry")]
    assert kinds == ["retry.scheduled", "retry.gave_up"]
    assert recorder.of("retry.gave_up", "circuit_breaker") == list(recorder.events[1:])
    assert recorder.of("retry", name="one") == [recorder.events[0]]
    assert recorder.of("retr") == recorder.of("scheduled") == []
    recorder.clear()
    assert recorder.kinds == []
    emit("retry.gave_up")
    assert recorder.kinds == ["retry.gave_up"]


def test_a_sequence_may_have_gaps_but_not_another_order(recorder: EventRecorder) -> None:
    for kind in ("retry.scheduled", "cache.miss", "retry.scheduled", "retry.succeeded"):
        emit(kind)
    recorder.assert_sequence("retry.scheduled")
    recorder.assert_sequence("retry.scheduled", "retry.succeeded")
    recorder.assert_sequence("retry.scheduled", "cache", "retry", "retry")
    for wrong in (
        ("retry.gave_up",),
        ("retry.succeeded", "retry.scheduled"),
        ("cache", "cache"),
        ("retry", "retry", "retry", "retry"),
        ("retry.scheduled", "retry.scheduled", "retry.scheduled"),
    ):
        with pytest.raises(AssertionError):
            recorder.assert_sequence(*wrong)


def test_exactly_means_exactly(recorder: EventRecorder) -> None:
    recorder.assert_exactly()
    emit("retry.scheduled")
    emit("retry.succeeded")
    recorder.assert_exactly("retry.scheduled", "retry.succeeded")
    recorder.assert_exactly("retry", "retry")
    for wrong in ((), ("retry",), ("retry",) * 3, ("retry.succeeded", "retry.scheduled")):
        with pytest.raises(AssertionError, match="^expected exactly these events, in this order: "):
            recorder.assert_exactly(*wrong)
    with pytest.raises(AssertionError, match="in this order: none\n"):
        recorder.assert_exactly()


def test_none_means_none_of_them(recorder: EventRecorder) -> None:
    recorder.assert_none("retry")
    emit("retry.scheduled")
    recorder.assert_none("circuit_breaker", "retry.gave_up")
    with pytest.raises(AssertionError, match=r"^there is retry.scheduled \(event 1\)\n"):
        recorder.assert_none("circuit_breaker.opened", "retry")


async def test_a_failure_shows_all_events_in_a_table(recorder: EventRecorder) -> None:
    with pytest.raises(AssertionError) as caught:
        recorder.assert_sequence("retry.scheduled", "retry.gave_up")
    assert str(caught.value).split("\n") == [
        "there is no retry.scheduled; expected in this order: retry.scheduled, retry.gave_up",
        "There was no event.",
    ]
    advance(1.5)
    emit("retry.scheduled", attempt=1, delay=0.25, error="OSError")
    advance(10)
    emit("cache.hit", "load")
    with pytest.raises(AssertionError) as caught:
        recorder.assert_sequence("retry.scheduled", "retry.gave_up")
    assert str(caught.value).split("\n") == [
        (
            "there is no retry.gave_up after retry.scheduled (event 1); "
            "expected in this order: retry.scheduled, retry.gave_up"
        ),
        "#  seconds  kind             name   attributes",
        "1    0.000  retry.scheduled  fetch  attempt=1 delay=0.25 error='OSError'",
        "2   10.000  cache.hit        load",
    ]


@pytest.mark.parametrize("method", ["assert_sequence", "assert_exactly", "assert_none"])
def test_a_failure_points_at_the_line_of_the_test(method: str, recorder: EventRecorder) -> None:
    if method == "assert_none":
        emit("retry.gave_up")
    with pytest.raises(AssertionError) as caught:
        getattr(recorder, method)("retry", *(["cache"] if method == "assert_exactly" else []))
    assert str(caught.traceback.filter(caught)[-1].path) == __file__


async def test_wait_for_takes_what_came_and_what_comes(recorder: EventRecorder) -> None:
    emit("retry.scheduled", attempt=1)
    event = await recorder.wait_for("retry.scheduled", timeout=0)
    assert event is recorder.events[0]

    async def later() -> None:
        await asyncio.sleep(5)
        emit("cache.hit")
        emit("retry.scheduled", attempt=2)
        await asyncio.sleep(5)
        emit("retry.scheduled", attempt=3)

    task = asyncio.create_task(later())
    waiting = [
        asyncio.create_task(recorder.wait_for("retry", count=3)),
        asyncio.create_task(recorder.wait_for("retry", count=2)),
    ]
    second = await recorder.wait_for("retry.scheduled", count=2, timeout=5.5)
    assert (second.attributes["attempt"], now()) == (2, 5)
    third, again = await asyncio.gather(*waiting)
    assert (third.attributes["attempt"], now()) == (3, 10)
    assert again is second
    await task
    assert recorder._waiting == {}


async def test_wait_for_ends_with_the_events_that_came(recorder: EventRecorder) -> None:
    emit("cache.hit")
    with pytest.raises(AssertionError, match=r"^there are 0 of 2 retry after 2.5 s\n#  seconds"):
        await recorder.wait_for("retry", count=2, timeout=2.5)
    assert now() == 2.5
    assert recorder._waiting == {}


def test_waiting_for_what_cannot_come_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)

    async def main() -> None:
        with EventRecorder() as recorder:
            await recorder.wait_for("retry")

    with pytest.raises(StuckError, match=r'await recorder\.wait_for\("retry"\)'):
        run_virtually(main())


async def test_a_cancelled_wait_leaves_nothing(recorder: EventRecorder) -> None:
    task = asyncio.create_task(recorder.wait_for("retry"))
    await asyncio.sleep(0)
    assert recorder._waiting
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert recorder._waiting == {}


@pytest.mark.real_time
async def test_events_of_other_threads_wake_who_waits(recorder: EventRecorder) -> None:
    breaker = circuit_breaker(failure_threshold=1)

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ConnectionError

    def work() -> None:
        with pytest.raises(ConnectionError):
            asyncio.run(breaker.call(fail))

    thread = threading.Thread(target=work)
    thread.start()
    event = await recorder.wait_for("circuit_breaker.opened", timeout=30)
    assert event.at <= time.monotonic()
    thread.join()


def test_a_recorder_records_once_at_a_time() -> None:
    recorder = EventRecorder()
    with recorder:
        with pytest.raises(RuntimeError, match="records already"):
            recorder.__enter__()
        emit("cache.hit")
    recorder.__exit__(None, None, None)
    with recorder:
        emit("cache.miss")
    assert recorder.kinds == ["cache.hit", "cache.miss"]


def test_two_recorders_record_both() -> None:
    with EventRecorder() as one, EventRecorder() as two:
        emit("cache.hit")
    assert one.kinds == two.kinds == ["cache.hit"]


@pytest.mark.parametrize("method", ["of", "assert_sequence", "assert_none"])
def test_without_a_kind_nothing_can_be_said(method: str, recorder: EventRecorder) -> None:
    with pytest.raises(TypeError, match="at least one kind of event is needed"):
        getattr(recorder, method)()


@pytest.mark.parametrize("method", ["of", "assert_sequence", "assert_none", "assert_exactly"])
@pytest.mark.parametrize(
    ("kind", "nearest"),
    [
        ("retry.schedule", "retry.scheduled"),
        ("circuit_breaker.open", "circuit_breaker.opened"),
        ("cache.hits", "cache.hit"),
        ("timeout.zzz", "timeout.expired"),
    ],
)
def test_a_kind_that_no_policy_has_is_refused(
    method: str, kind: str, nearest: str, recorder: EventRecorder
) -> None:
    with pytest.raises(ValueError, match=f"^kind must be .*did you mean '{nearest}'.*got '{kind}'$"):
        getattr(recorder, method)(kind)


async def test_a_kind_that_no_policy_has_is_not_waited_for(recorder: EventRecorder) -> None:
    with pytest.raises(ValueError, match="did you mean 'retry.scheduled'"):
        await recorder.wait_for("retry.schedule")


@pytest.mark.parametrize("method", ["of", "assert_sequence", "assert_none", "assert_exactly"])
@pytest.mark.parametrize(
    ("kind", "events"),
    [
        ("cached", "has the events cache.hit, cache.miss, "),
        ("cached.rejected", "has the events cache.hit, cache.miss, "),
        ("rate_limited", "has the events rate_limit.waited, rate_limit.rejected"),
        ("track_metrics", "has the events call.succeeded, call.failed, call.abandoned"),
        ("inject_errors", "has the events chaos.error"),
        ("map_errors", "has no events"),
        ("stack", "has no events"),
    ],
)
def test_a_decorator_whose_events_are_called_otherwise_is_told(
    method: str, kind: str, events: str, recorder: EventRecorder
) -> None:
    name = kind.partition(".")[0]
    with pytest.raises(ValueError, match=f"^kind must be one there is: {name} {events}.*, got '{kind}'$"):
        getattr(recorder, method)(kind)


def test_every_decorator_has_events_or_is_known_to_have_others_or_none() -> None:
    public = [*vars(resilience).values(), *vars(resilience.testing).values()]
    handles = [each for each in public if isinstance(each, type) and issubclass(each, Policy)]
    decorators = {each.kind for each in handles if hasattr(each, "kind")}
    decorators |= {name for name in resilience.testing.__all__ if name.startswith("inject_")}
    assert {"retry", "stack", "inject_errors"} < decorators
    prefixes = {kind.partition(".")[0] for kind in KINDS}
    assert decorators - prefixes == {*CALLED_OTHERWISE}
    assert {*CALLED_OTHERWISE.values()} - {None} <= prefixes


def test_kinds_of_others_are_allowed(recorder: EventRecorder) -> None:
    recorder.assert_none("mine.done", "mine", "retries.scheduled", "retry")
    emit("mine.done")
    recorder.assert_exactly("mine.done")


def test_every_kind_that_the_library_emits_is_known() -> None:
    root = Path(resilience.__file__).parent
    emitted: set[str] = set()
    for file in [*root.rglob("*.py"), *(root.parent / "integrations").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        emitted.update(re.findall(r'\bemit\(\s*"(\w+\.\w+)"', text))
        if file.name.startswith("_cache"):
            emitted.update(f"cache.{what}" for what in re.findall(r'\bself\._?count\(\s*"(\w+)"', text))
    assert emitted
    assert emitted | {"call.failed", "call.abandoned"} == KINDS


@pytest.mark.parametrize("method", ["of", "assert_sequence", "assert_none", "assert_exactly"])
@pytest.mark.parametrize("kind", ["", 1, None, ["retry"]])
def test_a_kind_is_text(method: str, kind: Any, recorder: EventRecorder) -> None:
    with pytest.raises((TypeError, ValueError), match="kind must be a string that is not empty, got "):
        getattr(recorder, method)(kind)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"kind": ""}, "kind"),
        ({"count": 0}, "count"),
        ({"count": 1.0}, "count"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "1"}, "timeout"),
    ],
)
async def test_wait_for_checks_its_arguments(arguments: Any, name: str, recorder: EventRecorder) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be .*, got "):
        await recorder.wait_for(**{"kind": "retry", **arguments})
    assert recorder._waiting == {}
