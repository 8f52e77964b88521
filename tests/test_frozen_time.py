"""freezegun moves every policy, without any sleeping."""

import asyncio
from datetime import timedelta

import freezegun
import pytest

from resilience import (
    CircuitBreakerOpenError,
    CircuitState,
    RateLimitExceededError,
    cached,
    circuit_breaker,
    rate_limited,
)


async def fail() -> None:
    raise ConnectionError


@pytest.mark.real_time
async def test_t63_frozen_time_moves_a_breaker_to_half_open() -> None:
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=30)
    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
        frozen.tick(timedelta(seconds=29.9))
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await breaker.call(fail)
        assert caught.value.retry_after == pytest.approx(0.1)
        frozen.tick(timedelta(seconds=0.2))
        assert breaker.state is CircuitState.HALF_OPEN
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
        assert breaker.state is CircuitState.OPEN


@pytest.mark.real_time
@pytest.mark.parametrize("phase", ["open", "half-open"])
async def test_t63_a_breaker_left_open_in_frozen_time_admits_a_probe_in_real_time(phase: str) -> None:
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=30)
    hung = None
    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
        if phase == "half-open":
            frozen.tick(timedelta(seconds=30))
            hung = asyncio.create_task(breaker.call(asyncio.Event().wait))
            await asyncio.sleep(0)
            with pytest.raises(CircuitBreakerOpenError):
                await breaker.call(fail)
    assert breaker.state is CircuitState.HALF_OPEN
    with pytest.raises(ConnectionError):
        await breaker.call(fail)
    assert breaker.state is CircuitState.OPEN
    if hung is not None:
        hung.cancel()


@pytest.mark.real_time
async def test_t63_frozen_time_expires_a_cache_entry() -> None:
    calls: list[int] = []

    @cached(ttl=60)
    async def load() -> int:
        calls.append(1)
        return len(calls)

    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        assert [await load(), await load()] == [1, 1]
        frozen.tick(timedelta(seconds=59))
        assert await load() == 1
        frozen.tick(timedelta(seconds=1))
        assert await load() == 2


@pytest.mark.real_time
async def test_t63_what_was_cached_in_frozen_time_is_not_fresh_in_real_time() -> None:
    calls: list[int] = []

    @cached(ttl=60)
    async def load() -> int:
        calls.append(1)
        return len(calls)

    with freezegun.freeze_time("2026-01-01", real_asyncio=True):
        assert [await load(), await load()] == [1, 1]
    assert [await load(), await load()] == [2, 2]


@pytest.mark.real_time
@pytest.mark.parametrize("burst", [None, 2])
async def test_t63_frozen_time_refills_a_limit(burst: int | None) -> None:
    limit = rate_limited(2, per=10, burst=burst, max_wait=0)
    with freezegun.freeze_time("2026-01-01", real_asyncio=True) as frozen:
        assert [limit.try_acquire() for _ in range(3)] == [True, True, False]
        frozen.tick(timedelta(seconds=10))
        assert limit.try_acquire()
        assert await limit.acquire() == 0
        with pytest.raises(RateLimitExceededError):
            await limit.acquire()
