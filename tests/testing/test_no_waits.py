"""Waits that are skipped: nothing waits, and the clock of the policies goes on."""

import asyncio
import threading
import time
from typing import Any

import aiolimiter
import freezegun
import pytest

from resilience import (
    CallTimeoutError,
    CircuitState,
    _clock,
    cached,
    circuit_breaker,
    deadline,
    rate_limited,
    retry,
    timeout,
)
from resilience.testing import VirtualTimeLoop, clock_of, inject_latency, no_waits

pytestmark = pytest.mark.real_time


def failing(wait: object, **settings: object) -> object:
    @retry(attempts=4, on=ConnectionError, wait=wait, **settings)
    async def fail() -> None:
        raise ConnectionError("down")

    return fail


@pytest.fixture(autouse=True)
def _quickly() -> object:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 20, "it waited really"


async def test_a_retry_does_not_wait_and_tells_what_it_skipped() -> None:
    with no_waits() as skipped:
        with pytest.raises(ConnectionError, match="down") as caught:
            await failing([10, 20, 30])()
        assert skipped.waits == [10.0, 20.0, 30.0]
        assert [type(each) for each in skipped.waits] == [float] * 3
        assert skipped.total == 60
        assert "gave up after 4 attempts in 60 s" in caught.value.__notes__[0]


class TimersOfALoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.delays: list[float] = []
        super().__init__()

    def call_later(self, delay: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.delays.append(delay)
        return super().call_later(delay, *args, **kwargs)


def test_the_loop_gets_no_timer_that_would_wait() -> None:
    async def main() -> None:
        limit = rate_limited(1, per=60)
        await limit.acquire()
        await limit.acquire()
        with pytest.raises(ConnectionError):
            await failing(10)()

    with no_waits() as skipped, asyncio.Runner(loop_factory=TimersOfALoop) as runner:
        runner.run(main())
        assert len(skipped.waits) == 4
        loop = runner.get_loop()
        assert isinstance(loop, TimersOfALoop)
        assert loop.delays == [0], "the line needs one timer, and a sleep of nothing needs none"


async def test_it_lets_other_tasks_run() -> None:
    order: list[str] = []

    async def work() -> None:
        order.append("work")

    with no_waits():
        task = asyncio.create_task(work())
        with pytest.raises(ConnectionError):
            await failing(10)()
        assert order == ["work"]
        await task


async def test_a_deadline_counts_what_was_skipped() -> None:
    with no_waits() as skipped:
        with pytest.raises(ConnectionError) as caught:
            await failing(10, deadline=25)()
        assert skipped.waits == [10.0, 10.0]
        assert "no time left" in caught.value.__notes__[0]


async def test_a_cancelled_wait_is_none() -> None:
    with no_waits() as skipped:
        task = asyncio.create_task(failing(10)())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert skipped.waits == []


@pytest.mark.parametrize("burst", [None, 1])
async def test_a_limit_keeps_its_rate(burst: int | None) -> None:
    limit = rate_limited(1, per=60, burst=burst)
    with no_waits() as skipped:
        began = _clock.monotonic()
        waited = [await limit.acquire() for _ in range(4)]
        assert waited == [0, *[pytest.approx(60, abs=1)] * 3]
        assert _clock.monotonic() - began == pytest.approx(180, abs=2)
        assert skipped.waits == [pytest.approx(60, abs=1)] * 3
        assert not limit.try_acquire()


async def test_many_in_line_come_in_order() -> None:
    limit = rate_limited(5, per=60)
    order: list[int] = []

    @limit
    async def call(number: int) -> None:
        order.append(number)

    with no_waits() as skipped:
        await asyncio.gather(*(call(number) for number in range(23)))
    assert order == list(range(23))
    assert skipped.total == pytest.approx(240, abs=1)


async def test_waits_that_overlap_count_once_for_the_clock() -> None:
    with no_waits() as skipped:
        began = _clock.monotonic()
        await asyncio.gather(*(failing(10)() for _ in range(5)), return_exceptions=True)
        assert skipped.total == 150
        assert _clock.monotonic() - began == pytest.approx(30, abs=1)


async def test_the_clock_of_everything_else_goes_on() -> None:
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=30)
    calls: list[int] = []

    @cached(ttl=30)
    async def load() -> int:
        calls.append(1)
        return len(calls)

    with no_waits():
        with pytest.raises(ConnectionError):
            await breaker.call(failing(0))
        assert await load() == 1
        with pytest.raises(ConnectionError):
            await failing(10)()
        assert breaker.state is CircuitState.HALF_OPEN
        assert await load() == 2


async def test_time_limits_are_not_skipped() -> None:
    @timeout(0.01)
    async def hang() -> None:
        await asyncio.sleep(60)

    @timeout(600)
    async def work() -> float | None:
        await asyncio.sleep(0.01)
        return deadline()

    with no_waits() as skipped:
        with pytest.raises(CallTimeoutError):
            await hang()
        left = await work()
        assert left is not None
        assert left > 590
        assert skipped.waits == []


async def test_an_injected_latency_is_skipped() -> None:
    slow = inject_latency(60, enabled=True)
    with no_waits() as skipped:
        await slow.call(asyncio.sleep, 0)
    assert skipped.waits == [60.0]


async def test_an_async_limiter_keeps_the_clock_of_its_loop() -> None:
    limit = rate_limited(aiolimiter.AsyncLimiter(1, 0.05))
    with no_waits() as skipped:
        began = asyncio.get_running_loop().time()
        await limit.acquire()
        await limit.acquire()
        assert asyncio.get_running_loop().time() - began > 0.04
        assert skipped.waits == []


def test_in_virtual_time_it_only_records() -> None:
    async def main() -> float:
        limit = rate_limited(1, per=60)
        await limit.acquire()
        await limit.acquire()
        with pytest.raises(ConnectionError):
            await failing(10)()
        assert _clock.monotonic() == asyncio.get_running_loop().time()
        return _clock.monotonic()

    async def inside() -> float:
        with no_waits() as skipped:
            ended = await main()
            assert skipped.waits == [60.0, 10.0, 10.0, 10.0]
            assert _clock.monotonic() == ended
        return ended

    for enter in (no_waits, None):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            if enter is None:
                assert runner.run(inside()) == 90
            else:
                with enter() as skipped:
                    assert runner.run(main()) == 90
                assert skipped.waits == [60.0, 10.0, 10.0, 10.0]
    assert _clock.monotonic is time.monotonic


def test_a_loop_without_virtual_time_skips_waits_while_another_one_has_it() -> None:
    async def main() -> float:
        with pytest.raises(ConnectionError):
            await failing(10)()
        return _clock.monotonic()

    with no_waits() as skipped, asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        with clock_of(runner.get_loop()):
            assert asyncio.run(main()) - time.monotonic() == pytest.approx(30, abs=1)
        assert skipped.total == 30


def test_all_is_as_before_afterwards_also_after_an_error() -> None:
    before = _clock.monotonic, _clock.sleep, _clock.call_later
    with pytest.raises(ZeroDivisionError), no_waits():
        raise ZeroDivisionError
    assert (_clock.monotonic, _clock.sleep, _clock.call_later) == before
    assert _clock.monotonic is time.monotonic


async def test_blocks_nest() -> None:
    with no_waits() as outer:
        with no_waits() as inner, pytest.raises(ConnectionError):
            await failing(10)()
        with pytest.raises(ConnectionError):
            await failing(20)()
        assert inner.waits == [10.0] * 3
        assert outer.waits == [20.0] * 3


def test_t63_frozen_time_moves_it_too() -> None:
    async def main() -> None:
        before = _clock.monotonic()
        with pytest.raises(ConnectionError):
            await failing(10)()
        assert _clock.monotonic() - before == pytest.approx(30, abs=1e-6)

    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen, no_waits():
        asyncio.run(main())
        before = _clock.monotonic()
        frozen.tick(5)
        assert _clock.monotonic() - before == pytest.approx(5)
    with no_waits(), freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        asyncio.run(main())
        before = _clock.monotonic()
        frozen.tick(5)
        assert _clock.monotonic() - before == pytest.approx(5)
    assert _clock.monotonic is time.monotonic


def test_several_threads_at_once() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with pytest.raises(ConnectionError):
                asyncio.run(failing(10)())
        except BaseException as error:
            errors.append(error)

    with no_waits() as skipped:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert errors == []
    assert skipped.waits == [10.0] * 12
