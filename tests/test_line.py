"""The line before a limiter: order, cancellation, several loops and threads, timers."""

import asyncio
import gc
import itertools
import random
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import freezegun
import pytest
from aiolimiter import AsyncLimiter

from resilience import RateLimit, SlidingWindow, TokenBucket, rate_limited
from resilience._line import Waiter
from tests.support.virtual_time import advance, now, settle

MAKE: dict[str, Callable[..., RateLimit]] = {
    "window": lambda rate, **rest: rate_limited(rate, **rest),
    "bucket": lambda rate, **rest: rate_limited(rate, burst=rate, **rest),
    "window of a key": lambda rate, **rest: rate_limited(rate, key=lambda *args: 0, **rest),
    "bucket of a key": lambda rate, **rest: rate_limited(rate, burst=rate, key=lambda *args: 0, **rest),
}
every_kind = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
Served = list[tuple[float, object]]


def door(policy: RateLimit) -> Any:
    """The way to take tokens, also of the one key."""
    return policy.at(0) if policy.config.key is not None else policy


def pending_timers() -> int:
    return sum(not each.cancelled() for each in asyncio.get_running_loop()._scheduled)


async def enter(policy: RateLimit, tokens: int, name: object, served: Served) -> None:
    await door(policy).acquire(tokens)
    served.append((now(), name))


def start(policy: RateLimit, tokens: int, name: object, served: Served) -> "asyncio.Task[None]":
    return asyncio.create_task(enter(policy, tokens, name, served))


@every_kind
async def test_first_come_first_served(make: Callable[..., RateLimit]) -> None:
    policy, served = make(2), []
    await asyncio.gather(*(start(policy, 1, name, served) for name in range(6)))
    assert [name for _, name in served] == list(range(6))
    assert pending_timers() == 0
    assert door(policy).snapshot()["waiting"] == 0


async def test_a_window_lets_the_next_through_when_the_first_leaves() -> None:
    policy, served = rate_limited(2, per=10), []
    await policy.acquire()
    advance(3)
    await asyncio.gather(*(start(policy, 1, name, served) for name in range(5)))
    assert served == [(3, 0), (10, 1), (13, 2), (20, 3), (23, 4)]


async def test_a_bucket_lets_one_through_each_interval() -> None:
    policy, served = rate_limited(4, burst=2), []
    await asyncio.gather(*(start(policy, 1, name, served) for name in range(5)))
    assert served == [(0, 0), (0, 1), (0.25, 2), (0.5, 3), (0.75, 4)]


@every_kind
async def test_t53_a_heavy_request_is_not_starved(make: Callable[..., RateLimit]) -> None:
    policy, served = make(4), []
    await door(policy).acquire(4)
    tasks = [start(policy, 1, "light", served), start(policy, 4, "heavy", served)]
    for _ in range(40):
        await asyncio.sleep(0.1)
        tasks.append(start(policy, 1, "later", served))
    await asyncio.gather(*tasks)
    assert [name for _, name in served[:2]] == ["light", "heavy"]
    assert served[1][0] <= 2 + 1e-5


@every_kind
async def test_t53_nobody_overtakes_one_who_waits(make: Callable[..., RateLimit]) -> None:
    policy, served = make(3), []
    await door(policy).acquire(2)
    heavy = start(policy, 3, "heavy", served)
    await settle()
    assert not door(policy).try_acquire(1), "one token is there, but somebody waits for more"
    light = start(policy, 1, "light", served)
    await asyncio.gather(heavy, light)
    assert [name for _, name in served] == ["heavy", "light"]


async def test_t53_keys_do_not_hold_each_other_up() -> None:
    policy = rate_limited(1, per=100, key=lambda key: key)
    times: dict[str, float] = {}

    @policy
    async def call(key: str) -> None:
        times[key] = now()

    await call("busy")
    waiting = asyncio.create_task(call("busy"))
    await settle()
    await asyncio.gather(*(call(f"key {number}") for number in range(50)))
    assert set(times.values()) == {0}
    waiting.cancel()
    await asyncio.wait([waiting])


@every_kind
async def test_t54_nobody_polls(make: Callable[..., RateLimit]) -> None:
    policy, served = make(1), []
    loop = asyncio.get_running_loop()
    tasks = [start(policy, 1, name, served) for name in range(50)]
    await settle()
    assert pending_timers() == 1
    calls = 0
    call_at = loop.call_at

    def counted(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        nonlocal calls
        calls += 1
        return call_at(*args, **kwargs)

    loop.call_at = counted
    await asyncio.gather(*tasks)
    assert now() == 49
    assert calls <= 49


@every_kind
@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("victim", range(4))
async def test_t5_a_cancelled_waiter_loses_no_token_and_makes_none(
    make: Callable[..., RateLimit], turns: int, victim: int
) -> None:
    policy, served = make(1), []
    await door(policy).acquire()
    tasks = [start(policy, 1, name, served) for name in range(4)]
    await settle()
    advance(1 + victim - 0.5 * (victim > 0) if victim else 1)
    await settle(turns)
    tasks[victim].cancel()
    await asyncio.wait(tasks)
    names = [name for _, name in served]
    assert names == sorted(names)
    assert len(names) >= 3
    for (earlier, _), (later, _) in itertools.pairwise(served):
        assert later - earlier >= 1 or victim in (0, 1), "a token was made"
    assert now() <= 4 + victim
    assert door(policy).snapshot()["waiting"] == 0
    assert pending_timers() == 0
    advance(1)
    assert door(policy).try_acquire()
    assert not door(policy).try_acquire()


@every_kind
async def test_t5_granted_and_cancelled_before_it_ran_passes_the_token_on(
    make: Callable[..., RateLimit],
) -> None:
    policy, served = make(1), []
    await door(policy).acquire()
    first, second, third = (start(policy, 1, name, served) for name in range(3))
    await settle()
    advance(1)
    while door(policy).snapshot()["waiting"] == 3:
        await asyncio.sleep(0)
    first.cancel()  # it has the token, but has not run yet
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert served == [(1, 1)], "the second gets the token of the first, at once"
    await third
    assert served == [(1, 1), (2, 2)]


@every_kind
async def test_b15_a_place_that_becomes_free_moves_the_others_up(make: Callable[..., RateLimit]) -> None:
    policy, served = make(2, per=10), []
    await door(policy).acquire()
    await asyncio.sleep(4)
    await door(policy).acquire(1)
    heavy, light = start(policy, 2, "heavy", served), start(policy, 1, "light", served)
    await asyncio.sleep(1)
    assert pending_timers() == 1
    heavy.cancel()
    await light
    assert served == [(10 if policy.config.burst is None else pytest.approx(5), "light")]
    assert pending_timers() == 0


@every_kind
async def test_b15_those_who_give_up_leave_nothing_behind(make: Callable[..., RateLimit]) -> None:
    policy = make(1, per=100)
    await door(policy).acquire()
    for _ in range(3):
        tasks = [asyncio.create_task(door(policy).acquire()) for _ in range(100)]
        await asyncio.sleep(1)
        assert pending_timers() == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert pending_timers() == 0
    del tasks, task
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Waiter)]
    await asyncio.sleep(97)
    assert door(policy).try_acquire()


@every_kind
async def test_t53_a_decorated_call_does_not_overtake(make: Callable[..., RateLimit]) -> None:
    policy, served = make(3), []

    @policy
    async def call() -> None:
        served.append((now(), "call"))

    await call()
    await call()
    heavy = start(policy, 3, "heavy", served)
    await settle()
    await asyncio.gather(heavy, call())
    assert [name for _, name in served[2:]] == ["heavy", "call"]


async def test_a_new_caller_finds_those_served_whose_turn_has_come() -> None:
    window, served = SlidingWindow(2, 10), []
    patient, impatient = rate_limited(window), rate_limited(window, max_wait=0)
    await patient.acquire(2)
    waiting = start(patient, 1, "patient", served)
    await settle()
    advance(10)
    assert impatient.try_acquire(), "one token is for the one who waits, the other is free"
    assert not impatient.try_acquire()
    await waiting
    assert served == [(10, "patient")]


async def test_an_older_reading_of_the_clock_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    window = SlidingWindow(2, 1)
    policy = rate_limited(window)

    @policy
    async def call() -> None: ...

    await policy.acquire(2)
    advance(1)
    await policy.acquire()  # somebody decides at 1.0, and leaves one to the straight path
    assert window.free == 1
    readings = iter([0.5])
    with monkeypatch.context() as patch:
        patch.setattr("resilience._clock.monotonic", lambda: next(readings, 1.0))
        await call()
    assert list(window.log)[window.start :] == [1.0, 1.0]


async def test_the_log_of_a_window_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    window = SlidingWindow(10, 10)

    @rate_limited(window)
    async def call() -> None: ...

    readings = iter([1.0, 1.0, 2.0, 1.5])
    with monkeypatch.context() as patch:
        patch.setattr("resilience._clock.monotonic", lambda: next(readings, 3.0))
        for _ in range(3):
            await call()  # the third was interrupted after it read 1.5
    assert list(window.log) == [1.0, 2.0, 3.0]


def broken(*args: object) -> float:
    raise MemoryError


@pytest.mark.parametrize("part", ["resilience._clock.monotonic", "resilience.SlidingWindow.take"])
async def test_an_error_in_a_decision_does_not_keep_the_lock(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = rate_limited(5)
    with monkeypatch.context() as patch:
        patch.setattr(part, broken)
        with pytest.raises(MemoryError):
            policy.try_acquire()
    assert not policy.rule.lock.locked()
    assert not policy.rule.busy
    assert policy.try_acquire()


@pytest.mark.parametrize("kind", MAKE)
def test_who_decides_waits_for_the_one_who_is_busy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = MAKE[kind](5)
    policy.rule.busy = True  # as a thread that was interrupted on a straight path

    def goes_on(seconds: float) -> None:
        assert seconds == 1e-6
        assert policy.rule.lock.locked()
        policy.rule.busy = False

    monkeypatch.setattr(time, "sleep", goes_on)
    assert door(policy).try_acquire()
    assert not policy.rule.busy


def test_who_is_interrupted_while_another_one_is_busy_does_not_keep_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = rate_limited(5)
    policy.rule.busy = True
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", broken)
        with pytest.raises(MemoryError):
            policy.try_acquire()
    assert policy.rule.busy, "the other one still is"
    assert not policy.rule.lock.locked()


@every_kind
async def test_while_somebody_is_busy_the_straight_paths_are_off(
    make: Callable[..., RateLimit], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, arrivals = make(5), []

    @policy
    async def call() -> None: ...

    await call()

    def another_thread_goes_on(seconds: float) -> None:
        arrivals.append(seconds)
        policy.rule.busy = False

    monkeypatch.setattr(time, "sleep", another_thread_goes_on)
    policy.rule.busy = True
    await call()
    assert len(arrivals) == 1
    assert not policy.rule.busy
    await call()
    assert len(arrivals) == 1


async def test_a_key_whose_waiter_is_due_is_not_evicted() -> None:
    policy = rate_limited(1, per=10, max_keys=1, key=lambda key: key)
    slow = policy.at("slow")
    await slow.acquire()
    waiting = asyncio.create_task(slow.acquire())
    await settle()
    advance(10)
    assert policy.at("other").try_acquire()
    assert slow.snapshot()["waiting"] == 1
    assert await waiting == 10


@every_kind
async def test_a_waiter_whose_coroutine_is_closed_passes_its_place_on(
    make: Callable[..., RateLimit],
) -> None:
    policy, served = make(1), []
    await door(policy).acquire()
    closed = door(policy).acquire()
    closed.send(None)
    after = start(policy, 1, "after", served)
    await settle()
    closed.close()
    await after
    assert served == [(1, "after")]


async def test_an_abandoned_waiter_that_is_collected_while_the_lock_is_held_does_no_harm() -> None:
    policy = rate_limited(1)
    await policy.acquire()
    waiting = policy.acquire()
    waiting.send(None)
    with policy.rule.lock:
        del waiting
        gc.collect()
    await settle()
    assert policy.snapshot()["waiting"] == 0


@every_kind
async def test_reset_lets_through_as_many_as_fit(make: Callable[..., RateLimit]) -> None:
    policy, served = make(3, per=100), []
    await door(policy).acquire(3)
    tasks = [start(policy, 1, name, served) for name in range(5)]
    await asyncio.sleep(1)
    policy.reset()
    await settle()
    assert served == [(1, 0), (1, 1), (1, 2)]
    door(policy).reset()
    await asyncio.gather(*tasks)
    assert served[3:] == [(1, 3), (1, 4)]
    assert door(policy).snapshot()["available"] == 1
    assert pending_timers() == 0


@every_kind
async def test_in_any_mix_nobody_is_lost_and_the_order_holds(make: Callable[..., RateLimit]) -> None:
    randomly = random.Random(11)
    policy, served = make(5), []
    tasks: list[asyncio.Task[None]] = []
    for name in range(300):
        tasks.append(start(policy, randomly.randint(1, 5), name, served))
        await asyncio.sleep(randomly.choice([0, 0, 0, 0.3]))
        if randomly.random() < 0.4:
            randomly.choice(tasks).cancel()
    await asyncio.wait(tasks)
    names = [name for _, name in served]
    assert names == sorted(names)
    assert len(names) == sum(not task.cancelled() for task in tasks)
    assert pending_timers() == 0
    await asyncio.sleep(1)
    assert door(policy).snapshot() | {"keys": None} == door(make(5)).snapshot() | {"keys": None}


async def test_policies_with_one_limiter_share_one_line() -> None:
    for limiter in (SlidingWindow(1), TokenBucket(1)):
        one, other = rate_limited(limiter), rate_limited(limiter)
        served: Served = []
        begin = now()
        policies = [one, other, one, other, other, one]
        await asyncio.gather(*(start(each, 1, name, served) for name, each in enumerate(policies)))
        assert served == [(begin + name, name) for name in range(6)]


@every_kind
@pytest.mark.real_time
async def test_t63_a_clock_that_stands_still_does_not_make_waiters_spin(
    make: Callable[..., RateLimit], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    policy = make(1)
    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        await door(policy).acquire()
        frozen.tick(timedelta(seconds=0.99999))
        waiting = asyncio.create_task(door(policy).acquire())
        await asyncio.sleep(0)
        timers = 0
        call_later = loop.call_later

        def counted(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return call_later(*args, **kwargs)

        monkeypatch.setattr(loop, "call_later", counted)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert 1 <= timers <= 60
        frozen.tick(timedelta(seconds=0.1))
        assert await asyncio.wait_for(waiting, 5) == pytest.approx(0.1)


# --- Loops and threads --------------------------------------------------------------------------------


@every_kind
def test_t64_three_loops_one_after_another_with_waiting_in_each(make: Callable[..., RateLimit]) -> None:
    policy = make(20, per=0.05)
    admitted: list[float] = []

    async def call() -> None:
        await door(policy).acquire()
        admitted.append(time.monotonic())

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(40)))
        assert pending_timers() == 0

    for _ in range(3):
        asyncio.run(main())
    assert len(admitted) == 120
    assert door(policy).snapshot()["waiting"] == 0


def in_threads(*mains: Callable[[], Coroutine[Any, Any, None]]) -> None:
    errors: list[BaseException] = []

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(main,), daemon=True) for main in mains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("has_gil", [True, False])
def test_t64_four_threads_keep_to_the_exact_window(has_gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience._rate_limit.HAS_GIL", has_gil)
    monkeypatch.setattr(SlidingWindow, "_forget", forget_and_keep)
    rate, per, calls = 20, 0.02, 0
    window = SlidingWindow(rate, per)

    @rate_limited(window)
    async def work() -> None:
        nonlocal calls
        calls += 1

    async def main() -> None:
        for _ in range(30):
            await asyncio.gather(*(work() for _ in range(7)))

    in_threads(main, main, main, main)
    admitted = sorted(window.log)
    assert len(admitted) == calls == 840
    for earlier, later in zip(admitted, admitted[rate:], strict=False):
        assert later >= earlier + per


def forget_and_keep(window: SlidingWindow, at: float) -> None:
    """Forget what has left the window, but leave it in the log."""
    while window.start < len(window.log) and window.log[window.start] + window.rule.per <= at:
        window.start += 1


@every_kind
def test_t64_four_threads_that_do_not_wait_take_no_more_than_there_is(
    make: Callable[..., RateLimit],
) -> None:
    policy = make(1000, per=1000, max_wait=0)
    calls: list[int] = []

    @policy
    async def work() -> None:
        calls.append(1)

    async def main() -> None:
        for _ in range(100):
            await asyncio.gather(*(work() for _ in range(10)), return_exceptions=True)

    in_threads(main, main, main, main)
    assert len(calls) == 1000 if policy.config.burst is None else 1000 <= len(calls) <= 1010


@pytest.mark.parametrize("kind", MAKE)
def test_t64_waiters_of_four_threads_are_served_in_order_without_delay(kind: str) -> None:
    policy = MAKE[kind](100, per=0.5)
    arrivals = 0
    lock = threading.Lock()
    served: list[int] = []

    async def call() -> None:
        nonlocal arrivals
        gate = door(policy)
        with lock:
            arrivals += 1
        await gate.acquire()
        served.append(arrivals)

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(75)))

    began = time.monotonic()
    in_threads(main, main, main, main)
    took = time.monotonic() - began
    assert len(served) == 300
    ideal = 1.0
    assert ideal <= took < ideal + 1


def test_a_loop_that_closes_with_waiters_does_not_block_the_others() -> None:
    policy = rate_limited(1, per=0.1)
    ready = threading.Event()
    served: list[str] = []

    def abandon() -> None:
        loop = asyncio.new_event_loop()

        async def wait() -> None:
            await policy.acquire()
            served.append("abandoned")

        async def main() -> None:
            await policy.acquire()
            kept.extend(loop.create_task(wait()) for _ in range(3))
            await asyncio.sleep(0.01)

        kept: list[asyncio.Task[None]] = []
        loop.run_until_complete(main())
        ready.set()
        time.sleep(0.05)
        loop.close()
        for task in kept:
            task._log_destroy_pending = False

    async def live() -> None:
        while not ready.is_set():
            await asyncio.sleep(0.001)
        await policy.acquire()
        served.append("live")

    thread = threading.Thread(target=abandon)
    thread.start()
    in_threads(live)
    thread.join()
    gc.collect()
    assert served == ["live"]
    assert policy.snapshot()["waiting"] == 0


def test_a_loop_that_is_busy_does_not_hold_up_another_one() -> None:
    policy = rate_limited(1, per=0.05)
    places = [threading.Event() for _ in range(4)]
    done = threading.Event()
    served: list[str] = []

    async def take_place(number: int) -> "asyncio.Task[float]":
        while number and not places[number - 1].is_set():
            await asyncio.sleep(0.0001)
        waiting = asyncio.create_task(policy.acquire())
        await asyncio.sleep(0)
        places[number].set()
        return waiting

    async def busy() -> None:
        await policy.acquire()
        tasks = [await take_place(0), await take_place(2)]
        done.wait(30)  # nothing else runs in this loop
        served.append("busy")
        await asyncio.gather(*tasks)

    async def other() -> None:
        await asyncio.gather(await take_place(1), await take_place(3))
        served.append("other")
        done.set()

    in_threads(busy, other)
    assert served == ["other", "busy"]
    assert policy.snapshot()["waiting"] == 0


@pytest.mark.parametrize("burst", [None, 1])
def test_a_loop_that_stands_still_does_not_delay_another_one(burst: int | None) -> None:
    policy = rate_limited(1, per=0.01, burst=burst)
    stopped = asyncio.new_event_loop()

    async def wait_in_line() -> list[asyncio.Task[float]]:
        tasks = [asyncio.create_task(policy.acquire()) for _ in range(40)]
        await asyncio.sleep(0)
        return tasks

    tasks = stopped.run_until_complete(wait_in_line())
    assert asyncio.run(policy.acquire()) < 1, "ideal are 0.4 s"
    stopped.run_until_complete(asyncio.gather(*tasks))
    stopped.close()
    assert policy.snapshot()["waiting"] == 0


def test_a_loop_is_not_woken_for_a_line_in_which_it_has_nobody_any_more() -> None:
    policy = rate_limited(1, per=0.02)
    joined, left = threading.Event(), threading.Event()

    async def stay() -> None:
        tasks = [asyncio.create_task(policy.acquire()) for _ in range(20)]
        await asyncio.sleep(0)
        joined.set()
        await asyncio.gather(*tasks)
        assert left.is_set()

    async def leave() -> None:
        while not joined.is_set():
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(policy.acquire())
        await asyncio.sleep(0.05)
        assert pending_timers() == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(0.05)
        assert pending_timers() == 0
        assert policy.snapshot()["waiting"] > 0
        left.set()

    in_threads(stay, leave)


@pytest.mark.parametrize("make", [lambda: SlidingWindow(1, 10), lambda: AsyncLimiter(1, 10)])
async def test_the_timer_of_the_line_keeps_no_context_of_a_caller(make: Callable[[], Any]) -> None:
    class Request:
        pass

    request: ContextVar[Request] = ContextVar("request")
    policy = rate_limited(make())
    await policy.acquire()

    async def handle() -> None:
        request.set(Request())
        await policy.acquire()

    first = asyncio.create_task(handle())
    await settle()
    second = asyncio.create_task(policy.acquire())
    await settle()
    first.cancel()
    await asyncio.wait([first])
    del first
    gc.collect()
    assert not any(isinstance(each, Request) for each in gc.get_objects())
    assert await second == pytest.approx(10)


def test_one_who_leaves_wakes_the_next_in_another_loop() -> None:
    policy = rate_limited(2, per=1.0)
    heavy_waits, light_waits = threading.Event(), threading.Event()
    times: list[float] = []

    async def heavy() -> None:
        await policy.acquire()
        await asyncio.sleep(0.5)
        await policy.acquire()
        waiting = asyncio.create_task(policy.acquire(2))
        await asyncio.sleep(0)
        heavy_waits.set()
        while not light_waits.is_set():
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(1)

    async def light() -> None:
        while not heavy_waits.is_set():
            await asyncio.sleep(0.001)
        began = time.monotonic()
        waiting = asyncio.create_task(policy.acquire())
        await asyncio.sleep(0)
        light_waits.set()
        await waiting
        times.append(time.monotonic() - began)
        assert pending_timers() == 0

    in_threads(heavy, light)
    # 0.5 s after the first token, or 1.0 s after the second.
    assert times[0] < 0.95, "it was woken when the second token would have come"


def test_reset_from_a_thread_without_a_loop() -> None:
    policy = rate_limited(1, per=1000)
    ready = threading.Event()

    async def main() -> None:
        await policy.acquire()
        waiting = asyncio.create_task(policy.acquire())
        await asyncio.sleep(0)
        ready.set()
        await waiting
        await asyncio.sleep(0.01)
        assert pending_timers() == 0

    def reset() -> None:
        ready.wait(30)
        policy.reset()

    thread = threading.Thread(target=reset)
    thread.start()
    in_threads(main)
    thread.join()


def test_a_closed_loop_is_not_remembered() -> None:
    policy = rate_limited(1, per=1000)
    closed, live = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def wait_in_line() -> asyncio.Task[float]:
        policy.try_acquire()
        task = asyncio.create_task(policy.acquire())
        await asyncio.sleep(0)
        return task

    abandoned = closed.run_until_complete(wait_in_line())
    abandoned._log_destroy_pending = False
    closed.close()
    waiting = live.run_until_complete(wait_in_line())
    assert list(policy._limiter.line._alarms) == [live]
    waiting.cancel()
    live.run_until_complete(asyncio.wait([waiting]))
    live.close()


class LateClosedLoop:
    """A loop that is closed just after one looked whether it is."""

    closed = False

    def is_closed(self) -> bool:
        return self.closed

    def call_soon_threadsafe(self, callback: Callable[[], object], **context: object) -> None:
        self.closed = True
        raise RuntimeError("Event loop is closed")


async def test_a_loop_that_closes_in_the_midst_of_a_decision_is_passed_over() -> None:
    policy, served = rate_limited(1), []
    await policy.acquire()
    tasks = [start(policy, 1, name, served) for name in range(4)]
    await settle()
    gone = list(policy._limiter.line.queue)[0:3:2]
    for waiter in gone:
        waiter.loop = LateClosedLoop()
    await asyncio.wait([tasks[1], tasks[3]])
    assert served == [(1, 1), (2, 3)]
    for number in (0, 2):
        tasks[number].cancel()
    await asyncio.wait(tasks)
    assert policy.snapshot()["waiting"] == 0
    assert pending_timers() == 0


class OtherLoop:
    """A loop of another thread, which has not come to what it was asked to do."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], object]] = []

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self.asked.append(callback)


async def test_what_another_loop_is_asked_too_late_does_no_harm() -> None:
    policy, served = rate_limited(2, per=10), []
    await policy.acquire(2)
    tasks = [start(policy, 1, name, served) for name in range(2)]
    await settle()
    line, other = policy._limiter.line, OtherLoop()
    second = list(line.queue)[1]
    line._loops[second.loop] -= 1
    line._loops[other] += 1
    second.loop = other
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    assert len(other.asked) == 1, "to look after the line, as its caller is the first now"
    policy.reset()
    for callback in other.asked:
        callback()
    await tasks[1]
    assert served == [(0, 1)]
    assert pending_timers() == 0
