"""The event stream: who hears what, and that no listener can hurt a call."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from resilience import Event, _events, retry, subscribe, timeout
from resilience._events import emit
from tests.support.virtual_time import advance, now


@pytest.fixture
def errors_logged() -> Iterator[list[Any]]:
    seen: list[Any] = []
    sink = logger.add(lambda message: seen.append(message.record), level="ERROR", format="{message}")
    yield seen
    logger.remove(sink)


@pytest.fixture(autouse=True)
def _nobody_listens_in_the_end() -> Iterator[None]:
    yield
    assert _events.listeners == ()


async def test_an_event_says_what_when_and_of_whom(events: list[Event]) -> None:
    advance(3)
    emit("circuit_breaker.opened", "api", reason="failures", failures=5)
    (event,) = events
    assert (event.kind, event.policy, event.name, event.at) == (
        "circuit_breaker.opened",
        "circuit_breaker",
        "api",
        3.0,
    )
    assert event.attributes == {"reason": "failures", "failures": 5}


async def test_attributes_may_have_any_name(events: list[Event]) -> None:
    emit("x.y", "api", kind=1, name=2, at=3)
    assert events[0].attributes == {"kind": 1, "name": 2, "at": 3}


def test_an_event_cannot_be_changed(events: list[Event]) -> None:
    emit("x.y", "api", a=1)
    with pytest.raises(AttributeError):
        events[0].name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        events[0].attributes["a"] = 2  # type: ignore[index]


def test_every_listener_hears_it_in_the_order_of_subscription() -> None:
    heard: list[str] = []
    stops = [subscribe(lambda event, name=name: heard.append(name)) for name in "abc"]
    emit("x.y", "api")
    stops[1]()
    emit("x.y", "api")
    stops[0]()
    stops[2]()
    emit("x.y", "api")
    assert heard == ["a", "b", "c", "a", "c"]


def test_unsubscribing_again_does_nothing() -> None:
    heard: list[Event] = []
    first = subscribe(heard.append)
    first()
    second = subscribe(heard.append)
    first()
    emit("x.y", "api")
    assert len(heard) == 1
    second()


def test_a_listener_subscribed_twice_hears_twice_and_leaves_once_at_a_time() -> None:
    heard: list[Event] = []
    first, second = subscribe(heard.append), subscribe(heard.append)
    emit("x.y", "api")
    assert len(heard) == 2
    first()
    emit("x.y", "api")
    assert len(heard) == 3
    second()


async def async_listener(event: Event) -> None: ...


@pytest.mark.parametrize("bad", [None, 3, "listener", async_listener])
def test_a_listener_must_be_a_plain_function(bad: Any) -> None:
    with pytest.raises(TypeError, match=f"listener must be a function that is not async, got {bad!r}"):
        subscribe(bad)


@pytest.mark.parametrize("error", [ValueError("broken"), asyncio.CancelledError("broken")])
def test_t72_a_listener_that_raises_is_logged_once_and_hurts_nobody(
    errors_logged: list[Any], error: BaseException
) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise error

    stops = [subscribe(broken), subscribe(heard.append)]
    for _ in range(5):
        emit("x.y", "api")
    for stop in stops:
        stop()
    assert len(heard) == 5
    assert len(errors_logged) == 1
    assert "broken" in errors_logged[0]["message"]
    line = broken.__code__.co_firstlineno + 1
    assert f"{type(error).__name__} at test_events.py:{line}" in errors_logged[0]["message"]


def test_t72_a_listener_without_a_name_is_logged_by_its_type(errors_logged: list[Any]) -> None:
    class Dashboard:
        def __call__(self, event: Event) -> None:
            raise ValueError

    stop = subscribe(Dashboard())
    emit("x.y", "api")
    stop()
    assert "Dashboard" in errors_logged[0]["message"]


async def test_a_listener_that_raises_spills_no_secret_into_the_log() -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, diagnose=True, backtrace=True)

    def broken(event: Event) -> None:
        raise ValueError(f"about {event} of hunter2")

    @retry(attempts=2, wait=0)
    async def log_in(password: str) -> None:
        raise ConnectionError(f"cannot log in with {password}")

    stop = subscribe(broken)
    with pytest.raises(ConnectionError):
        await log_in("hunter2")
    stop()
    logger.remove(sink)
    assert len(lines) == 1
    assert "hunter2" not in lines[0]


def test_t72_each_subscription_of_a_broken_listener_is_logged_once(errors_logged: list[Any]) -> None:
    def broken(event: Event) -> None:
        raise ValueError

    for expected in (1, 2):
        stop = subscribe(broken)
        emit("x.y", "api")
        emit("x.y", "api")
        stop()
        assert len(errors_logged) == expected


def test_t72_a_log_that_fails_as_well_hurts_nobody_either() -> None:
    def fail(_: object) -> None:
        raise OSError("disk full")

    sink = logger.add(fail, catch=False)
    stop = subscribe(fail)
    emit("x.y", "api")
    stop()
    logger.remove(sink)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_listener_that_ends_the_program_ends_it(kind: type[BaseException]) -> None:
    def leave(event: Event) -> None:
        raise kind

    stop = subscribe(leave)
    with pytest.raises(kind):
        emit("x.y", "api")
    stop()


async def test_t72_a_broken_listener_changes_no_outcome(errors_logged: list[Any]) -> None:
    from resilience import CallTimeoutError

    def broken(event: Event) -> None:
        raise asyncio.CancelledError

    stop = subscribe(broken)
    with pytest.raises(CallTimeoutError):
        await timeout(2)(asyncio.sleep)(5)
    stop()
    assert now() == 2
    assert asyncio.current_task().cancelling() == 0


def test_who_subscribes_or_leaves_during_an_event_counts_from_the_next() -> None:
    heard: list[str] = []
    stops: list[Any] = []

    def first(event: Event) -> None:
        heard.append("first")
        if len(stops) == 2:
            stops[1]()
            stops.append(subscribe(lambda event: heard.append("new")))

    stops += [subscribe(first), subscribe(lambda event: heard.append("second"))]
    emit("x.y", "api")
    assert heard == ["first", "second"]
    emit("x.y", "api")
    assert heard == ["first", "second", "first", "new"]
    for stop in stops:
        stop()


def test_a_listener_may_cause_events_itself() -> None:
    heard: list[str] = []

    def listener(event: Event) -> None:
        heard.append(event.name)
        if event.name == "outer":
            emit("x.y", "inner")

    stop = subscribe(listener)
    emit("x.y", "outer")
    stop()
    assert heard == ["outer", "inner"]


@pytest.mark.real_time
def test_threads_may_subscribe_send_and_leave_at_once() -> None:
    heard: list[Event] = []
    keep = subscribe(heard.append)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(500):
                stop = subscribe(lambda event: None)
                emit("x.y", "api")
                stop()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    keep()
    assert not failures
    assert len(heard) == 2000
