"""The loop whose clock jumps: exact times, and nothing that is outside of it is missed."""

import asyncio
import inspect
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import freezegun
import pytest

from resilience import CircuitState, _clock, circuit_breaker, rate_limited, timeout
from resilience.testing import StuckError, VirtualTimeLoop, clock_of, no_waits, run_virtually
from resilience.testing._clocks import entries
from resilience.testing._timeline import Timeline

# Real seconds are the point here.
pytestmark = pytest.mark.real_time
BRIEFLY = 0.05


def run(main: Coroutine[Any, Any, Any], **settings: float) -> Any:
    with asyncio.Runner(loop_factory=partial(VirtualTimeLoop, **settings)) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


# --- Jumps ----------------------------------------------------------------------------------------------


def test_time_starts_at_zero_and_jumps_to_each_timer_exactly() -> None:
    async def main() -> list[float]:
        times = [now()]
        loop = asyncio.get_running_loop()
        for when in (0.3, 0.1, 0.2, 1 / 3):
            loop.call_at(when, lambda: times.append(now()))
        await asyncio.sleep(3600)
        return [*times, now()]

    began = time.monotonic()
    assert run(main()) == [0.0, 0.1, 0.2, 0.3, 1 / 3, 3600.0]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("start", [0, 1e6, 2**24, 1e8, 1e12, 1e15])
def test_timers_run_however_far_from_zero(start: float) -> None:
    # From about half a year on, a loop's clock resolution is lost in its time.
    async def main() -> None:
        await asyncio.sleep(start)
        assert now() == start
        await asyncio.sleep(60)
        assert now() == start + 60
        await asyncio.sleep(1e-9)
        asyncio.get_running_loop().call_at(now(), lambda: None)
        async with asyncio.timeout(1):
            await asyncio.sleep(0.25)
        assert start + 60 <= now() <= start + 61

    run(main())


def test_a_jump_is_not_limited_to_a_day_and_stops_before_infinity() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(math.inf, print)
        await asyncio.sleep(1e9)
        assert now() == 1e9
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run(main())


def test_a_cancelled_timer_is_no_stop() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(10, print).cancel()
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await asyncio.sleep(0)
        await asyncio.sleep(30)
        assert now() == 30
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match=r"at 30 s"):
        run(main())


def test_no_timer_is_due_before_its_time_though_others_are_cancelled() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(5000):
            timer = loop.call_later(number + 1, print)
            timer.cancel()
        await asyncio.sleep(2500.5)
        assert now() == 2500.5

    run(main())


class FakeTimer:
    asked = 0

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancelled(self) -> bool:
        FakeTimer.asked += 1
        return self.is_cancelled

    def __eq__(self, other: object) -> bool:
        raise AssertionError("timers are never compared")

    __hash__ = None  # type: ignore[assignment]


def test_a_timer_runs_in_the_context_that_it_was_given() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="of the caller")
    context = copy_context()
    context.run(variable.set, "of the timer")
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: seen.append(variable.get()), context=context)
        loop.call_at(2, lambda: seen.append(variable.get()))
        await asyncio.sleep(3)

    run(main())
    assert seen == ["of the timer", "of the caller"]


def test_the_timeline_forgets_cancelled_timers() -> None:
    timeline = Timeline()
    live: Any = FakeTimer()
    timeline.add(2.0, live)
    for number in range(100_000):
        timer: Any = FakeTimer()
        timeline.add(3.0 + number, timer)
        timer.is_cancelled = True
    assert len(timeline._ahead) <= 1001
    assert timeline.next() == 2.0
    live.is_cancelled = True
    assert timeline.next() is None
    assert timeline._ahead == []


def test_the_timeline_goes_through_its_timers_only_when_they_have_doubled() -> None:
    timeline = Timeline()
    FakeTimer.asked = 0
    for number in range(1000):
        timer: Any = FakeTimer()
        timeline.add(1.0 + number, timer)
    assert FakeTimer.asked == 0
    for number in range(9000):
        timer = FakeTimer()
        timeline.add(1001.0 + number, timer)
    assert FakeTimer.asked == 1001 + 2003 + 4007 + 8015


def test_the_timeline_stays_in_order_when_it_forgets() -> None:
    timeline = Timeline()
    timers: list[Any] = [FakeTimer() for _ in range(1000)]
    times = Random(1).sample(range(1, 10_000), 1000)
    for when, timer in zip(times, timers, strict=True):
        timeline.add(float(when), timer)
    for timer in timers[::2]:
        timer.is_cancelled = True
    timeline.add(20_000.0, timers[1])
    assert len(timeline._ahead) == 501
    for when in sorted(times[1::2]):
        assert timeline.next() == when
        timeline.move_to(when)


def test_the_timeline_keeps_all_live_timers() -> None:
    timeline = Timeline()
    timers: list[Any] = [FakeTimer() for _ in range(3000)]
    for number, timer in enumerate(timers):
        timeline.add(1.0 + number % 7, timer)
    assert len(timeline._ahead) == 3000
    timeline.move_to(1.0)
    assert timeline.now == 1.0
    assert timeline.next() == 2.0
    timeline.move_to(6.5)
    assert timeline.next() == 7.0
    timeline.add(6.5, timers[0])
    timeline.add(6.0, timers[0])
    timeline.add(math.inf, timers[0])
    assert timeline.next() == 7.0
    timeline.move_to(7.0)
    assert timeline._ahead == []
    assert timeline.next() is None


def test_a_timer_that_ran_is_let_go() -> None:
    import weakref

    class Callback:
        def __call__(self) -> None:
            pass

    async def main() -> None:
        callback = Callback()
        gone = weakref.ref(callback)
        asyncio.get_running_loop().call_later(1, callback)
        del callback
        await asyncio.sleep(2)
        assert gone() is None

    run(main())


# --- By hand --------------------------------------------------------------------------------------------


def test_advance_runs_nothing_in_between() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        seen: list[float] = []
        loop.call_later(1, lambda: seen.append(now()))
        loop.call_later(2, lambda: seen.append(now()))
        loop.advance(1.5)
        assert loop.now == 1.5
        assert seen == []
        assert now() == 1.5
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == [1.5]
        loop.advance(timedelta(seconds=8.5))
        await asyncio.sleep(1)
        assert seen == [1.5, 10.0]
        assert now() == 11.0

    run(main())


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "1", None, True])
def test_advance_takes_a_duration(seconds: Any) -> None:
    loop = VirtualTimeLoop()
    with pytest.raises(
        (TypeError, ValueError), match=rf"seconds must be .*, got {re.escape(repr(seconds))}"
    ):
        loop.advance(seconds)
    assert loop.time() == 0
    loop.close()


@pytest.mark.parametrize("name", ["patience", "quiet"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "1", None, True])
def test_bad_settings_are_told(name: str, value: Any) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises((TypeError, ValueError), match=rf"{name} must be .*, got {re.escape(repr(value))}"):
        VirtualTimeLoop(**settings)


def test_the_settings_are_five_seconds_and_a_tenth_by_default() -> None:
    settings = inspect.signature(VirtualTimeLoop).parameters
    assert {name: each.default for name, each in settings.items()} == {"patience": 5.0, "quiet": 0.1}


def test_a_timer_tells_when_it_runs() -> None:
    loop = VirtualTimeLoop()
    assert loop.call_at(5, print).when() == 5
    assert loop.call_later(1e9, print).when() == pytest.approx(1e9)
    loop.close()


def test_settle_lets_everything_run_that_can_without_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        turns = 0

        async def work() -> None:
            nonlocal turns
            for _ in range(1000):
                await asyncio.sleep(0)
                turns += 1
            await asyncio.sleep(1)
            turns += 1

        task = asyncio.create_task(work())
        await asyncio.gather(loop.settle(), loop.settle())
        assert turns == 1000
        assert now() == 0
        await loop.settle()
        assert now() == 0
        await task
        assert (turns, now()) == (1001, 1.0)
        await loop.settle()  # nothing is left at all

    run(main())


def test_settle_can_be_cancelled() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        settling = asyncio.create_task(loop.settle())
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.sleep(1)
        assert settling.cancelled()
        assert now() == 1

    run(main())


# --- Stuck ----------------------------------------------------------------------------------------------


class Forever:
    def __await__(self) -> Any:
        yield from asyncio.Event().wait().__await__()


async def generate() -> Any:
    await Forever()
    yield 1


def test_stuck_shows_each_task_and_where_it_waits() -> None:
    async def waits_for_event() -> None:
        await asyncio.Event().wait()

    @timeout(math.pi * 1e9)
    async def waits_in_policy() -> None:
        await Forever()

    async def waits_in_generator() -> None:
        async for _ in generate():
            pass

    async def main() -> None:
        await asyncio.sleep(5)
        tasks = [
            asyncio.create_task(waits_for_event(), name="event"),
            asyncio.create_task(waits_in_generator(), name="generator"),
            asyncio.create_task(asyncio.wait_for(asyncio.Event().wait(), None), name="asyncio"),
        ]
        await asyncio.gather(*tasks)

    with pytest.raises(StuckError) as caught:
        run(main(), patience=0)
    shown = [entry.name for entry in caught.traceback.filter(caught)]
    assert not {"select", "_go_on"} & set(shown), "our own code tells nothing"
    text = str(caught.value)
    assert text.startswith("every task waits, and nothing is left that could wake one (at 5 s):\n")
    here = os.path.relpath(__file__)
    for name, place in {
        "event": rf"{here}:\d+ in \S+waits_for_event: await asyncio\.Event\(\)\.wait\(\)",
        "generator": rf"{here}:\d+ in \S+waits_in_generator: async for _ in generate\(\):",
        "asyncio": r"\S+locks.py:\d+ in Event.wait: await fut",
        r"Task-\d+": rf"{here}:\d+ in \S+main: await asyncio\.gather\(\*tasks\)",
    }.items():
        assert re.search(rf"^  {name}\n    {place}$", text, re.MULTILINE), text
    assert text.count("locks.py") == 1, "where asyncio waits is shown only if there is nothing else"


def test_stuck_shows_generators_and_code_without_a_source() -> None:
    names: dict[str, Any] = {"asyncio": asyncio}
    exec("async def hidden():\n    await asyncio.Event().wait()", names)

    async def main() -> None:
        task = asyncio.create_task(names["hidden"](), name="hidden")
        await Forever()
        await task

    with pytest.raises(StuckError) as caught:
        run(main(), patience=0)
    assert re.search(r"^  hidden\n    <string>:2 in hidden$", str(caught.value), re.MULTILINE), caught.value
    assert re.search(r"main: await Forever\(\)\n .* in Forever.__await__: yield from", str(caught.value))


def test_stuck_without_other_threads_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    waits: list[float] = []

    class WaitsOfALoop(VirtualTimeLoop):
        def _real_wait(self) -> float:
            waits.append(super()._real_wait())
            return waits[-1]

    async def main() -> None:
        await asyncio.sleep(1)
        await asyncio.Event().wait()

    with pytest.raises(StuckError), asyncio.Runner(loop_factory=WaitsOfALoop) as runner:
        runner.run(main())
    assert waits == [0, 0]


def test_a_loop_that_was_stuck_can_be_closed_and_the_tasks_are_cancelled() -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("main")

    with pytest.raises(StuckError):
        run(main(), patience=0)
    assert ended == ["main"]


# --- Threads --------------------------------------------------------------------------------------------


def test_time_stands_still_while_a_job_is_in_a_thread() -> None:
    async def main() -> None:
        async with asyncio.timeout(1):
            await asyncio.to_thread(time.sleep, BRIEFLY)
        assert now() == 0
        order: list[str] = []

        async def tick() -> None:
            await asyncio.sleep(0.001)
            order.append("timer")

        ticking = asyncio.create_task(tick())
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, partial(time.sleep, BRIEFLY))
        order.append("job")
        await ticking
        assert order == ["job", "timer"]
        assert now() == 0.001

    run(main())


def test_a_job_runs_in_the_executor_that_it_was_given_to_with_its_arguments() -> None:
    def job(*args: int) -> tuple[str, tuple[int, ...]]:
        return threading.current_thread().name, args

    async def main() -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
            done = await asyncio.get_running_loop().run_in_executor(executor, job, 1, 2)
        assert done == ("own_0", (1, 2))

    run(main())


def test_a_job_that_outlasts_our_patience_is_not_waited_for() -> None:
    release = threading.Event()

    async def main() -> None:
        job = asyncio.create_task(asyncio.to_thread(release.wait))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.shield(job)
        assert now() == 30
        began = time.monotonic()
        for _ in range(100):
            await asyncio.sleep(1)
        assert time.monotonic() - began < 100 * BRIEFLY, "it was waited for again at every jump"
        release.set()
        assert await job

    run(main(), patience=BRIEFLY)


def test_how_long_to_wait_for_threads_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    async def shut_down(self: asyncio.BaseEventLoop, timeout: float | None = None) -> None:
        asked.append(timeout)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        await loop.shutdown_default_executor(7)
        await loop.shutdown_default_executor(timeout=8)

    monkeypatch.setattr(asyncio.BaseEventLoop, "shutdown_default_executor", shut_down)
    run(main())
    assert asked[:2] == [7, 8]


def test_a_job_that_is_cancelled_does_not_stop_time() -> None:
    release = threading.Event()

    async def main() -> None:
        job = asyncio.create_task(asyncio.to_thread(release.wait))
        await asyncio.sleep(0)
        job.cancel()
        began = time.monotonic()
        await asyncio.sleep(1)
        assert time.monotonic() - began < 30
        release.set()

    run(main(), patience=60)


def test_a_job_that_is_done_is_let_go() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        await asyncio.to_thread(lambda: None)
        await asyncio.sleep(0)
        assert loop._jobs == set()
        await loop.shutdown_default_executor()
        await asyncio.sleep(0)
        assert loop._jobs == set()

    run(main())


def test_a_thread_of_the_users_own_can_wake_a_task() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def work() -> None:
            time.sleep(BRIEFLY)
            loop.call_soon_threadsafe(woken.set)

        thread = threading.Thread(target=work)
        thread.start()
        await woken.wait()
        thread.join()
        assert now() == 0

    run(main())


def test_settle_waits_for_jobs_but_not_for_threads() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        job = asyncio.create_task(asyncio.to_thread(time.sleep, BRIEFLY))
        await loop.settle()
        assert job.done()
        began = time.monotonic()
        await loop.settle()  # the thread of the executor lives on
        assert time.monotonic() - began < 30

    run(main(), patience=60)


def test_the_end_of_the_executor_is_waited_for() -> None:
    # From Python 3.12 on, asyncio.Runner waits 300 s for it, which must not be virtual ones.
    release = threading.Event()

    async def main() -> None:
        job = asyncio.create_task(asyncio.to_thread(release.wait))
        await asyncio.sleep(0)
        job.cancel()
        threading.Timer(BRIEFLY, release.set).start()

    run(main())


# --- Sockets --------------------------------------------------------------------------------------------


def test_open_sockets_are_heard_before_time_jumps() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = await reader.readline()
        await asyncio.sleep(30)
        writer.write(b"hello " + name)
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ada\n")
            answered = await reader.read()
            writer.close()
            await writer.wait_closed()
        assert now() == 30
        return answered

    assert run(main()) == b"hello ada\n"


def test_a_socket_of_another_thread_is_waited_for() -> None:
    ours, theirs = socket.socketpair()

    def work() -> None:
        time.sleep(BRIEFLY)
        theirs.sendall(b"x")

    async def main(*, with_timer: bool) -> None:
        ours.setblocking(False)
        thread = threading.Thread(target=work)
        thread.start()
        async with asyncio.timeout(60 if with_timer else None):
            assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"x"
        assert now() == 0
        thread.join()

    with ours, theirs:
        run(main(with_timer=True), quiet=30)
        run(main(with_timer=False), patience=30, quiet=0)


@pytest.mark.parametrize("with_timer", [True, False])
def test_a_socket_that_stays_silent_does_not_stop_time(
    with_timer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    ours, theirs = socket.socketpair()

    async def main() -> None:
        ours.setblocking(False)
        async with asyncio.timeout(60 if with_timer else None):
            await asyncio.get_running_loop().sock_recv(ours, 1)

    with ours, theirs:
        began = time.monotonic()
        with pytest.raises(TimeoutError if with_timer else StuckError):
            run(main(), quiet=BRIEFLY if with_timer else 60, patience=60 if with_timer else BRIEFLY)
        assert BRIEFLY / 2 < time.monotonic() - began < 30


# --- The clock of the policies ----------------------------------------------------------------------------


async def fail() -> None:
    raise ConnectionError


def test_policies_go_by_the_loop_while_it_runs() -> None:
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=30)

    async def main() -> None:
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
        await asyncio.sleep(29)
        assert breaker.state is CircuitState.OPEN
        await asyncio.sleep(1)
        assert breaker.state is CircuitState.HALF_OPEN
        assert _clock.monotonic() == now() == 30
        assert await asyncio.to_thread(_clock.monotonic) == 30

    run(main())
    assert _clock.monotonic is time.monotonic


def test_the_clock_is_given_back_after_an_error() -> None:
    async def main(error: type[BaseException]) -> None:
        raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            run(main(error))
        assert _clock.monotonic is time.monotonic


def test_four_threads_have_four_times() -> None:
    limit = rate_limited(1, per=10)
    together = threading.Barrier(4)
    results: list[object] = []

    async def main(start: float) -> None:
        await asyncio.sleep(start)
        together.wait(30)
        assert _clock.monotonic() == start
        await asyncio.sleep(5)
        together.wait(30)
        assert _clock.monotonic() == start + 5

    def work(start: float) -> None:
        try:
            results.append(run(main(start)))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=work, args=(1000.0 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [None] * 4
    assert _clock.monotonic is time.monotonic
    assert limit.try_acquire()


def test_a_real_loop_in_another_thread_keeps_real_time() -> None:
    async def read() -> tuple[float, float]:
        return _clock.monotonic(), time.monotonic()

    async def main() -> None:
        await asyncio.sleep(1e9)
        shown, real = await asyncio.to_thread(asyncio.run, read())
        assert real - 60 < shown <= real

    run(main())


def test_nothing_is_left_in_the_module_of_the_clock() -> None:
    before = set(vars(_clock))
    run(asyncio.sleep(1))
    with no_waits():
        assert set(vars(_clock)) > before
    assert set(vars(_clock)) == before


def test_blocks_of_a_clock_nest_and_overlap() -> None:
    one, two = VirtualTimeLoop(), VirtualTimeLoop()
    one.advance(1)
    two.advance(2)
    first, second = clock_of(one), clock_of(two)
    with clock_of(one):
        assert _clock.monotonic() == 1
        with clock_of(two):
            assert _clock.monotonic() == 2
            with clock_of(one):
                assert _clock.monotonic() == 1
            assert _clock.monotonic() == 2
        assert _clock.monotonic() == 1
        one.run_until_complete(asyncio.sleep(1))
        assert _clock.monotonic() == 2
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _clock.monotonic() == 2
    second.__exit__(None, None, None)
    assert _clock.monotonic is time.monotonic
    one.close()
    two.close()


def test_a_patch_that_is_undone_too_late_does_no_harm() -> None:
    patch = pytest.MonkeyPatch()

    async def main() -> None:
        patch.setattr(_clock, "monotonic", lambda: 7.0)
        assert _clock.monotonic() == 7

    run(main())
    patch.undo()
    assert _clock.monotonic() == pytest.approx(time.monotonic(), abs=60)
    run(asyncio.sleep(1))
    assert _clock.monotonic is time.monotonic


def test_a_clock_that_was_patched_before_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    patched: Callable[[], float] = lambda: 7.0  # noqa: E731
    monkeypatch.setattr(_clock, "monotonic", patched)
    run(asyncio.sleep(1))
    assert _clock.monotonic is patched


def test_t63_frozen_time_and_virtual_time_do_not_disturb_each_other() -> None:
    async def main() -> None:
        breaker = circuit_breaker(failure_threshold=1, recovery_timeout=30)
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
        await asyncio.sleep(30)
        assert breaker.state is CircuitState.HALF_OPEN
        assert time.time() == pytest.approx(1_767_225_600)

    with freezegun.freeze_time("2026-01-01"):
        run(main())
        assert _clock.monotonic() == time.monotonic()

    async def freezes() -> None:
        with freezegun.freeze_time("2026-01-01"):
            await main()

    run(freezes())
    assert _clock.monotonic is time.monotonic

    frozen = freezegun.freeze_time("2026-01-01")
    frozen.start()

    async def thaws() -> None:
        frozen.stop()

    run(thaws())
    assert _clock.monotonic is time.monotonic


# --- run_virtually ----------------------------------------------------------------------------------------


def test_run_virtually_returns_what_the_coroutine_returns() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return now()

    assert run_virtually(main()) == 3600


def test_run_virtually_names_the_tasks_left_running() -> None:
    async def background() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        main.task = asyncio.create_task(background(), name="left")  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    with pytest.raises(
        AssertionError, match=r"tasks left running:\n  left\n .*background: await asyncio.sleep\(60\)$"
    ):
        run_virtually(main())


def test_each_time_that_a_loop_lends_its_clock_is_counted() -> None:
    before, loop = entries(), VirtualTimeLoop()
    with clock_of(loop), clock_of(loop):
        assert entries() == before + 2
    loop.close()
    assert entries() == before + 2
