"""`bulkhead`: the limit, the queue, priorities, control, arguments."""

import asyncio
import functools
import json
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import resilience
from resilience import (
    AdaptiveLimit,
    Bulkhead,
    BulkheadFullError,
    Event,
    Priority,
    StackOrderWarning,
    bulkhead,
    policies,
    retry,
)
from tests.support.bulkheads import Work, cancel, every_kind, free, pending_timers, start
from tests.support.virtual_time import settle


@pytest.fixture
def work() -> Work:
    return Work()


# --- The limit and the queue ---


@every_kind
async def test_so_many_run_so_many_wait_the_rest_is_refused(
    make: Callable[..., Bulkhead], work: Work
) -> None:
    policy = make(2, max_queue=2)
    guarded = policy(work)
    tasks = [start(guarded, name) for name in "abcde"]
    await settle()
    assert work.running == ["a", "b"]
    with pytest.raises(BulkheadFullError) as caught:
        await tasks.pop()
    assert caught.value.retry_after is None
    assert caught.value.policy == "Work"
    assert str(caught.value) == "Work: all slots are taken"
    assert policy.snapshot() | {"keys": 1} == {
        "name": "Work", "max_concurrent": 2, "in_flight": 2, "queued": 2, "rejected": 1, "keys": 1,
    }  # fmt: skip
    await work.end("b")
    assert work.running == ["a", "c"]
    for name in "cad":
        await work.end(name)
    assert await asyncio.gather(*tasks) == list("abcd")
    assert work.began == list("abcd")
    free(policy)


@every_kind
async def test_by_default_nobody_waits(make: Callable[..., Bulkhead], work: Work) -> None:
    policy = make(1)
    guarded = policy(work)
    task = start(guarded, "a")
    await settle()
    for rejected in (1, 2, 3):
        with pytest.raises(BulkheadFullError):
            await guarded("b")
        assert policy.snapshot()["rejected"] == rejected
    await work.end("a")
    assert await task == "a"
    assert work.began == ["a"]
    free(policy)


async def test_an_unbounded_queue(work: Work) -> None:
    guarded = bulkhead(1, max_queue=None)(work)
    tasks = [start(guarded, str(number)) for number in range(300)]
    await settle()
    for number in range(300):
        await work.end(str(number))
    assert await asyncio.gather(*tasks) == work.began == [str(number) for number in range(300)]
    assert work.most == 1


@every_kind
@pytest.mark.parametrize("error", [OSError, asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
async def test_t4_however_a_call_ends_its_slot_goes_to_the_next(
    make: Callable[..., Bulkhead], error: type[BaseException]
) -> None:
    policy = make(1, max_queue=1)
    go_on = asyncio.Event()

    @policy
    async def fail() -> None:
        await go_on.wait()
        raise error

    @policy
    async def succeed() -> str:
        return "next"

    async def first() -> None:
        with pytest.raises(error):
            await fail()

    failing, waiting = start(first), start(succeed)
    await settle()
    go_on.set()
    assert await waiting == "next"
    await failing
    free(policy)


@every_kind
async def test_t53_while_somebody_waits_no_newcomer_gets_a_slot(
    make: Callable[..., Bulkhead], work: Work
) -> None:
    guarded = make(1, max_queue=5)(work)
    tasks = [start(guarded, "a"), start(guarded, "b")]
    await settle()
    work.gates["a"].set_result(None)
    await asyncio.sleep(0)  # `a` ends in this turn, `b` goes on in the next
    tasks.append(start(guarded, "c"))
    await settle()
    assert work.began == ["a", "b"]
    await work.end("b")
    await work.end("c")
    assert await asyncio.gather(*tasks) == list("abc")
    assert work.most == 1


async def test_one_object_on_two_functions_is_one_limit(work: Work) -> None:
    policy = bulkhead(1)
    other = Work()
    task = start(policy(work), "a")
    await settle()
    with pytest.raises(BulkheadFullError):
        await policy(other)("b")
    await work.end("a")
    await task
    free(policy)


@every_kind
async def test_t54_nobody_polls(make: Callable[..., Bulkhead], work: Work) -> None:
    guarded = make(1, max_queue=None)(work)
    tasks = [start(guarded, str(number)) for number in range(20)]
    await settle()
    loop = asyncio.get_running_loop()
    assert pending_timers() == 0
    assert not loop._ready
    await cancel(*tasks)


# --- Priorities ---


async def test_a_free_slot_goes_to_the_highest_priority(work: Work) -> None:
    first = bulkhead(1, max_queue=None, priority=lambda name: Priority[name.partition(" ")[0]])
    guarded = first(work)
    names = ["NORMAL 1", "BULK 1", "HIGH 1", "LOW 1", "CRITICAL 1", "HIGH 2", "NORMAL 2", "CRITICAL 2"]
    tasks = [start(guarded, name) for name in names]
    await settle()
    for _ in names:
        await work.end(work.running[0])
    assert await asyncio.gather(*tasks) == names
    assert work.began == [
        "NORMAL 1", "CRITICAL 1", "CRITICAL 2", "HIGH 1", "HIGH 2", "NORMAL 2", "LOW 1", "BULK 1",
    ]  # fmt: skip


async def test_the_lowest_priority_is_not_starved_by_a_stream_of_higher_ones(work: Work) -> None:
    policy = bulkhead(1, max_queue=None, priority=lambda name: Priority[name.partition(" ")[0]])
    guarded = policy(work)
    tasks = [start(guarded, "HIGH 0"), start(guarded, "BULK")]
    for number in range(1, 40):
        tasks.append(start(guarded, f"CRITICAL {number}"))
        await settle()
        await work.end(work.running[0])
    assert work.began.index("BULK") == 10  # the running one, and nine that overtook it
    await cancel(*tasks)
    free(policy)


async def test_the_priority_of_the_policy_holds_for_all_its_calls(work: Work, events: list[Event]) -> None:
    policy = bulkhead(1, max_queue=1, priority=Priority.LOW)
    tasks = [start(policy(work), name) for name in "ab"]
    await settle()
    assert [event.attributes["priority"] for event in events] == ["low"]
    await cancel(*tasks)


async def test_without_a_priority_it_is_normal(work: Work, events: list[Event]) -> None:
    policy = bulkhead(1, max_queue=1)
    tasks = [start(policy(work), name) for name in "ab"]
    await settle()
    assert [event.attributes["priority"] for event in events] == ["normal"]
    await cancel(*tasks)


async def test_a_full_queue_makes_room_for_a_higher_priority(work: Work, events: list[Event]) -> None:
    policy = bulkhead(1, max_queue=3, priority=lambda name: Priority[name.partition(" ")[0]], name="api")
    guarded = policy(work)
    names = ["HIGH 1", "BULK 1", "BULK 2", "BULK 3"]
    tasks = {name: start(guarded, name) for name in names}
    await settle()
    del events[:]
    tasks["LOW"] = start(guarded, "LOW")
    with pytest.raises(BulkheadFullError):
        await tasks.pop("BULK 3")
    with pytest.raises(BulkheadFullError):
        await guarded("BULK 4")
    tasks["CRITICAL"] = start(guarded, "CRITICAL")
    with pytest.raises(BulkheadFullError):
        await tasks.pop("BULK 2")
    tasks["HIGH 2"] = start(guarded, "HIGH 2")
    with pytest.raises(BulkheadFullError):  # the oldest, `BULK 1`, keeps its place
        await tasks.pop("LOW")
    assert policy.snapshot()["queued"] == 3
    assert policy.snapshot()["rejected"] == 4
    facts = [(event.kind, dict(event.attributes)) for event in events if event.kind == "bulkhead.rejected"]
    assert facts == [
        ("bulkhead.rejected", {"reason": "displaced", "priority": "bulk"}),
        ("bulkhead.rejected", {"reason": "full", "priority": "bulk"}),
        ("bulkhead.rejected", {"reason": "displaced", "priority": "bulk"}),
        ("bulkhead.rejected", {"reason": "displaced", "priority": "low"}),
    ]
    for name in ("HIGH 1", "CRITICAL", "HIGH 2", "BULK 1"):
        await work.end(name)
    assert await asyncio.gather(*tasks.values()) == list(tasks)
    free(policy)


@pytest.mark.parametrize("returned", [2, "HIGH", None])
async def test_a_priority_function_must_return_one(work: Work, returned: Any) -> None:
    policy = bulkhead(1, priority=lambda name: returned)
    with pytest.raises(TypeError, match="priority must be a function that returns a Priority, got "):
        await policy(work)("a")
    assert work.began == []
    free(policy)


async def test_key_and_priority_get_the_arguments_whatever_their_names() -> None:
    def priority(self: object, function: int, *, key: str, name: str) -> Priority:
        assert (self, function, key, name) == (1, 2, "k", "n")
        return Priority.HIGH

    policy = bulkhead(1, priority=priority, key=lambda *args, **kwargs: kwargs["key"])

    @policy
    async def call(self: object, function: int, *, key: str, name: str) -> str:
        return key + name

    assert await call(1, 2, key="k", name="n") == "kn"
    free(policy)


@pytest.mark.parametrize("broken", ["key", "priority"])
async def test_an_error_of_the_users_function_leaves_and_takes_nothing(work: Work, broken: str) -> None:
    policy = bulkhead(1, **{broken: lambda name: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        await policy(work)("a")
    free(policy)


# --- Control and introspection ---


@every_kind
async def test_reset_takes_nobodys_slot_and_nobodys_place(
    make: Callable[..., Bulkhead], work: Work
) -> None:
    policy = make(1, max_queue=1)
    guarded = policy(work)
    tasks = [start(guarded, name) for name in "ab"]
    await settle()
    with pytest.raises(BulkheadFullError):
        await guarded("c")
    policy.reset()
    assert policy.snapshot() | {"keys": 1, "name": ""} == {
        "name": "", "max_concurrent": 1, "in_flight": 1, "queued": 1, "rejected": 0, "keys": 1,
    }  # fmt: skip
    await settle()
    assert work.running == ["a"]
    await work.end("a")
    assert work.running == ["b"]
    await work.end("b")
    assert await asyncio.gather(*tasks) == ["a", "b"]
    free(policy)


@every_kind
def test_the_snapshot_is_plain_data(make: Callable[..., Bulkhead]) -> None:
    policy = make(3, name="api")
    assert json.loads(json.dumps(policy.snapshot())) == policy.snapshot()
    assert policy.snapshot()["name"] == "api"
    assert resilience.snapshot()["api"][-1]["kind"] == "bulkhead"


def test_it_shows_itself_in_one_line() -> None:
    assert repr(bulkhead(3)) == "bulkhead(3)"
    shown = repr(bulkhead(AdaptiveLimit(5), max_queue=None, max_wait=2, priority=Priority.HIGH))
    assert shown == "bulkhead(AdaptiveLimit(5), max_queue=None, max_wait=2, priority=Priority.HIGH)"


async def test_the_events(work: Work, events: list[Event]) -> None:
    policy = bulkhead(1, max_queue=1, name="api")
    guarded = policy(work)
    tasks = [start(guarded, name) for name in "ab"]
    await asyncio.sleep(1)
    assert [event.kind for event in events] == ["bulkhead.queued"]
    with pytest.raises(BulkheadFullError) as caught:
        await guarded("c")
    assert caught.value.policy == "api"
    await work.end("a")
    await work.end("b")
    await asyncio.gather(*tasks)
    assert [(each.kind, each.policy, each.name, each.at, dict(each.attributes)) for each in events] == [
        ("bulkhead.queued", "bulkhead", "api", 0.0, {"priority": "normal"}),
        ("bulkhead.rejected", "bulkhead", "api", 1.0, {"reason": "full", "priority": "normal"}),
    ]


async def test_a_listener_may_use_the_policy(work: Work) -> None:
    policy = bulkhead(1, max_queue=1)
    seen: list[int] = []
    unsubscribe = resilience.subscribe(lambda event: seen.append(policy.snapshot()["queued"]))
    tasks = [start(policy(work), name) for name in "abc"]
    await settle()
    unsubscribe()
    assert seen == [1, 1]
    await cancel(*tasks)


async def test_t16_a_rejection_is_a_new_error_each_time_and_keeps_nothing_alive(work: Work) -> None:
    policy = bulkhead(1)
    guarded = policy(work)
    holder = start(guarded, "a")
    await settle()
    caught = []
    for _ in range(2):
        with pytest.raises(BulkheadFullError) as error:
            await guarded("b")
        caught.append(error.value)
    assert caught[0] is not caught[1]
    assert caught[0].details == {"policy": "Work", "retry_after": None}
    await cancel(holder)


def test_a_bulkhead_outside_retry_is_told() -> None:
    async def call() -> None: ...

    with pytest.warns(StackOrderWarning, match="a slot is held through every backoff"):
        decorated = bulkhead(3)(retry()(call))
    assert [each.kind for each in policies(decorated)] == ["bulkhead", "retry"]


async def test_inside_retry_the_slot_is_free_in_the_backoff() -> None:
    policy = bulkhead(1)
    in_flight: list[int] = []

    @retry(attempts=2, on=OSError, wait=10)
    @policy
    async def fail() -> None:
        raise OSError

    task = start(fail)
    await asyncio.sleep(5)
    in_flight.append(policy.snapshot()["in_flight"])
    await cancel(task)
    assert in_flight == [0]


# --- Arguments ---

NUMBER = "a whole number of 1 or more"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_concurrent": 0}, ValueError, f"max_concurrent must be {NUMBER}, got 0"),
        ({"max_concurrent": -1}, ValueError, f"max_concurrent must be {NUMBER}, got -1"),
        ({"max_concurrent": 1.5}, TypeError, f"max_concurrent must be {NUMBER}, got 1.5"),
        ({"max_concurrent": True}, TypeError, f"max_concurrent must be {NUMBER}, got True"),
        ({"max_concurrent": None}, TypeError, f"max_concurrent must be {NUMBER}, got None"),
        ({"max_concurrent": "3"}, TypeError, f"max_concurrent must be {NUMBER}, got '3'"),
        (
            {"max_concurrent": len},
            TypeError,
            "bulkhead needs its limit, as in @bulkhead(10); got <built-in",
        ),
        (
            {"max_concurrent": AdaptiveLimit},
            TypeError,
            "bulkhead needs its limit, as in @bulkhead(10); got ",
        ),
        ({"max_queue": -1}, ValueError, "max_queue must be a whole number of 0 or more, got -1"),
        ({"max_queue": math.inf}, TypeError, "max_queue must be a whole number of 0 or more, got inf"),
        ({"max_queue": False}, TypeError, "max_queue must be a whole number of 0 or more, got False"),
        (
            {"max_wait": -0.1},
            ValueError,
            "max_wait must be seconds (a number or a timedelta) of 0 or more, got",
        ),
        (
            {"max_wait": timedelta(-1)},
            ValueError,
            "max_wait must be seconds (a number or a timedelta) of 0 or",
        ),
        (
            {"max_wait": math.nan},
            ValueError,
            "max_wait must be seconds (a number or a timedelta) of 0 or more",
        ),
        (
            {"max_wait": "1"},
            TypeError,
            "max_wait must be seconds (a number or a timedelta) of 0 or more, got '1'",
        ),
        ({"priority": 0}, TypeError, "priority must be a Priority or a function that returns one, got 0"),
        (
            {"priority": "HIGH"},
            TypeError,
            "priority must be a Priority or a function that returns one, got 'H",
        ),
        (
            {"priority": asyncio.sleep},
            TypeError,
            "priority must be a function that is not async, got <function",
        ),
        ({"key": "user"}, TypeError, "key must be a function that is not async, got 'user'"),
        (
            {"key": asyncio.sleep},
            TypeError,
            "key must be a function that is not async, got <function sleep",
        ),
        ({"max_keys": 0}, ValueError, f"max_keys must be {NUMBER}, got 0"),
        ({"max_keys": 1.0}, TypeError, f"max_keys must be {NUMBER}, got 1.0"),
        ({"name": ""}, ValueError, "name must be a string that is not empty, got ''"),
        ({"name": 3}, TypeError, "name must be a string that is not empty, got 3"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        bulkhead(**({"max_concurrent": 1} | arguments))
    assert str(caught.value).startswith(message)


def test_the_defaults_and_the_smallest_values() -> None:
    config = bulkhead(1).config
    assert (config.max_queue, config.max_wait, config.priority) == (0, None, Priority.NORMAL)
    assert (config.key, config.max_keys) == (None, 10_000)
    assert bulkhead(1, max_queue=0, max_wait=0, max_keys=1).config.max_wait == 0
    assert bulkhead(10**30).snapshot()["max_concurrent"] == 10**30
    assert Bulkhead.kind == "bulkhead"
    assert Bulkhead.has_state
    with pytest.raises(AttributeError):
        config.max_queue = 5


async def test_without_arguments_it_says_how_it_is_written() -> None:
    async def call() -> None: ...

    with pytest.raises(TypeError, match=r"as in @bulkhead\(10\)"):
        bulkhead(call)


async def test_methods_and_partials() -> None:
    policy = bulkhead(1)

    class Service:
        @policy
        async def get(self, number: int) -> int:
            return number

    assert await Service().get(3) == 3
    assert await policy(functools.partial(Service.get.__wrapped__, None, 4))() == 4
    assert await policy.call(Service().get.__wrapped__, Service(), 5) == 5
    free(policy)
