"""`rate_limited`: refusals, costs, keys, limiters of one's own, events, bad input."""

import asyncio
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from aiolimiter import AsyncLimiter

from resilience import (
    CallTimeoutError,
    Event,
    LeakyBucket,
    RateLimit,
    RateLimitExceededError,
    SlidingWindow,
    TokenBucket,
    inactive,
    policies,
    rate_limited,
    subscribe,
    timeout,
)
from tests.support.virtual_time import advance, now, settle

LIMITS: dict[str, Callable[..., RateLimit]] = {
    "window": lambda rate, per=1.0, **rest: rate_limited(rate, per=per, **rest),
    "bucket": lambda rate, per=1.0, **rest: rate_limited(rate, per=per, burst=rate, **rest),
    "leaky": lambda rate, per=1.0, **rest: rate_limited(LeakyBucket(rate, per), **rest),
    "adopted": lambda rate, per=1.0, **rest: rate_limited(AsyncLimiter(rate, per), **rest),
}
every_limit = pytest.mark.parametrize("make", LIMITS.values(), ids=LIMITS.keys())
own_limits = pytest.mark.parametrize("make", [LIMITS["window"], LIMITS["bucket"]], ids=["window", "bucket"])


async def echo(value: object = None) -> object:
    return value


# --- Waiting and refusing -----------------------------------------------------------------------------


@every_limit
async def test_calls_beyond_the_rate_wait(make: Callable[..., RateLimit]) -> None:
    times: list[float] = []

    @make(2)
    async def call(number: int) -> int:
        times.append(now())
        return number

    assert await asyncio.gather(*(call(number) for number in range(6))) == list(range(6))
    assert times[:2] == [0, 0]
    assert times[2] >= 0.5
    assert times == sorted(times)
    assert times[5] == pytest.approx(2, abs=0.001)


@every_limit
async def test_t60_max_wait_0_never_waits(make: Callable[..., RateLimit]) -> None:
    calls: list[float] = []

    @make(1, per=10, max_wait=0, name="search")
    async def call() -> None:
        calls.append(now())

    await call()
    advance(4)
    with pytest.raises(RateLimitExceededError) as caught:
        await call()
    assert now() == 4
    assert caught.value.policy == "search"
    assert caught.value.retry_after == pytest.approx(6, abs=1e-5)
    advance(caught.value.retry_after)
    await call()
    assert len(calls) == 2


@every_limit
async def test_t60_retry_after_is_long_enough_whenever_one_asks(make: Callable[..., RateLimit]) -> None:
    limit = make(3, per=0.7, max_wait=0)
    for number in range(300):
        advance(0.01 * (number % 7))
        try:
            await limit.acquire(1 + number % 3)
        except RateLimitExceededError as error:
            advance(error.retry_after)
            await limit.acquire(1 + number % 3)


@every_limit
async def test_t58_a_refused_call_takes_nothing(make: Callable[..., RateLimit]) -> None:
    limit = make(2, per=10, max_wait=0)
    assert await limit.acquire(2) == 0
    for _ in range(50):
        with pytest.raises(RateLimitExceededError):
            await limit.acquire()
    advance(10.00001)
    assert limit.try_acquire(2)


@every_limit
async def test_a_wait_that_would_be_too_long_is_refused_at_once(make: Callable[..., RateLimit]) -> None:
    limit = make(1, per=1, max_wait=2.5)
    results = await asyncio.gather(*(limit.acquire() for _ in range(6)), return_exceptions=True)
    assert results[:3] == pytest.approx([0, 1, 2], abs=0.001)
    assert [type(each) for each in results[3:]] == [RateLimitExceededError] * 3
    assert [each.retry_after for each in results[3:]] == pytest.approx([3, 3, 3], abs=0.001)
    assert now() == pytest.approx(2, abs=0.001)


@own_limits
async def test_a_wait_of_exactly_max_wait_is_allowed(make: Callable[..., RateLimit]) -> None:
    limit = make(1, per=0.1, max_wait=0.7)
    results = await asyncio.gather(*(limit.acquire() for _ in range(10)), return_exceptions=True)
    assert [isinstance(each, float) for each in results] == [True] * 8 + [False] * 2


@own_limits
async def test_whoever_comes_back_after_retry_after_gets_in_even_behind_others(
    make: Callable[..., RateLimit],
) -> None:
    one = make(2, per=3)
    never = rate_limited(one._limiter, max_wait=0)
    waiting = [asyncio.create_task(one.acquire()) for _ in range(7)]
    await settle()
    with pytest.raises(RateLimitExceededError) as caught:
        await never.acquire()
    await asyncio.sleep(caught.value.retry_after)
    assert await never.acquire() == 0
    await settle()
    assert all(task.done() for task in waiting)


@own_limits
async def test_whoever_was_let_into_the_line_is_served_in_time(make: Callable[..., RateLimit]) -> None:
    limiter = make(5)._limiter
    tasks: list[asyncio.Task[bool]] = []
    for number in range(400):
        limit = rate_limited(limiter, max_wait=number % 7 / 2)
        tasks.append(asyncio.create_task(is_served_in_time(limit, 1 + number % 5)))
        await asyncio.sleep(number % 3 / 10)
    assert sum(await asyncio.gather(*tasks)) > 50


async def is_served_in_time(limit: RateLimit, tokens: int) -> bool:
    longest = limit.config.max_wait
    try:
        waited = await limit.acquire(tokens)
    except RateLimitExceededError as error:
        return error.retry_after <= longest  # never
    assert waited <= longest + 1e-5
    return True


@every_limit
async def test_a_wait_beyond_the_deadline_is_refused_at_once(make: Callable[..., RateLimit]) -> None:
    calls: list[int] = []

    @timeout(3)
    @make(1, per=5)
    async def call() -> None:
        calls.append(1)

    await call()
    with pytest.raises(RateLimitExceededError) as caught:
        await call()
    assert now() == 0
    assert caught.value.retry_after == pytest.approx(5, abs=0.001)
    advance(2.5)
    await call()
    assert now() == pytest.approx(5, abs=0.001)
    assert len(calls) == 2


async def test_an_accepted_waiter_whose_deadline_comes_first_gives_its_place_back() -> None:
    limit = rate_limited(2, per=5)
    slow = asyncio.create_task(limit.acquire(2))
    await settle()
    heavy = asyncio.create_task(limit.acquire(2))

    @timeout(6)
    async def call() -> float:
        return await limit.acquire()

    cut = asyncio.create_task(timeout(20).call(call))
    await settle()
    light = asyncio.create_task(limit.acquire())
    with pytest.raises((CallTimeoutError, RateLimitExceededError)):
        await cut
    await asyncio.gather(slow, heavy, light)
    assert light.result() <= 10


# --- Cost ---------------------------------------------------------------------------------------------


@every_limit
async def test_t59_a_cost_counts_in_every_form(make: Callable[..., RateLimit]) -> None:
    forms: list[tuple[RateLimit, Callable[[RateLimit], Any]]] = [
        (make(4, per=1000, cost=2), lambda limit: limit(echo)()),
        (make(4, per=1000, cost=lambda size: size), lambda limit: limit(echo)(2)),
        (make(4, per=1000, cost=2), lambda limit: limit.call(echo)),
        (make(4, per=1000), lambda limit: limit.acquire(2)),
    ]
    for limit, call in forms:
        await call(limit)
        assert limit.try_acquire(2)
        assert not limit.try_acquire(1)
        assert limit.snapshot()["available"] == pytest.approx(0, abs=0.01)


@every_limit
async def test_t59_more_than_the_capacity_fails_at_once(make: Callable[..., RateLimit]) -> None:
    with pytest.raises(ValueError, match="cost must be .* at most 3, got 4"):
        make(3, cost=4)
    limit = make(3, cost=lambda size: size)
    with pytest.raises(ValueError, match="cost must be .* at most 3, got 4"):
        await limit.call(echo, 4)
    with pytest.raises(ValueError, match="tokens must be .* at most 3, got 4"):
        await limit.acquire(4)
    with pytest.raises(ValueError, match="tokens must be .* at most 3, got 4"):
        limit.try_acquire(4)
    assert limit.try_acquire(3)


@every_limit
@pytest.mark.parametrize("cost", [-1, float("nan"), float("inf"), True, "1", None, 10**400])
async def test_wrong_costs(make: Callable[..., RateLimit], cost: object) -> None:
    with pytest.raises((TypeError, ValueError), match="cost must be"):
        make(3, cost=cost)
    limit = make(3, cost=lambda *args: cost)
    with pytest.raises((TypeError, ValueError), match="cost must be"):
        await limit.call(echo, 1)
    with pytest.raises((TypeError, ValueError), match="tokens must be"):
        await limit.acquire(cost)
    with pytest.raises((TypeError, ValueError), match="tokens must be"):
        limit.try_acquire(cost)
    assert limit.try_acquire(3)


async def test_a_window_takes_whole_costs_only() -> None:
    with pytest.raises(TypeError, match="cost must be a whole number"):
        rate_limited(3, cost=0.5)
    assert await rate_limited(3, cost=2.0).call(echo, 1) == 1
    assert await rate_limited(3, burst=3, cost=0.5).call(echo, 1) == 1
    assert await rate_limited(AsyncLimiter(3), cost=0.5).call(echo, 1) == 1


@every_limit
async def test_a_cost_of_0_passes_at_once_and_takes_nothing(make: Callable[..., RateLimit]) -> None:
    limit = make(1, per=1000, cost=lambda size: size)
    assert await limit.call(echo, 1) == 1
    waiting = asyncio.create_task(limit.acquire())
    await settle()
    assert await limit.call(echo, 0) == 0
    assert await limit.acquire(0) == 0
    assert limit.try_acquire(0)
    assert await make(1, cost=0).call(echo, 5) == 5
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_the_cost_function_gets_the_arguments_of_the_call() -> None:
    seen: list[object] = []

    def cost(*args: object, **kwargs: object) -> int:
        seen.append((args, kwargs))
        return 1

    @rate_limited(10, cost=cost)
    async def call(first: int, *, second: int) -> int:
        return first + second

    assert await call(1, second=2) == 3
    assert seen == [((1,), {"second": 2})]


@pytest.mark.parametrize(
    "functions", [{"cost": lambda **_: 1}, {"key": lambda **_: 1, "cost": lambda **_: 1}]
)
async def test_t70_an_argument_may_have_any_name(functions: dict[str, Any]) -> None:
    @rate_limited(10, **functions)
    async def call(**names: int) -> dict[str, int]:
        return names

    assert await call(self=1, policy=2, args=3) == {"self": 1, "policy": 2, "args": 3}


async def test_a_decorated_window_needs_memory_only_for_what_is_in_it() -> None:
    window = SlidingWindow(10**9)
    call = rate_limited(window)(echo)
    for _ in range(100):
        for _ in range(200):
            await call()
        advance(0.5)
    assert len(window.log) < 3000


async def test_a_cost_function_that_fails_takes_nothing() -> None:
    limit = rate_limited(1, cost=lambda value: 1 // value)
    with pytest.raises(ZeroDivisionError):
        await limit.call(echo, 0)
    assert limit.try_acquire()


# --- Handles ------------------------------------------------------------------------------------------


@every_limit
async def test_acquire_tells_how_long_it_waited(make: Callable[..., RateLimit]) -> None:
    limit = make(1, per=3)
    assert await limit.acquire() == 0
    assert await limit.acquire() == pytest.approx(3, abs=0.001)


@every_limit
async def test_a_block_takes_one_token(make: Callable[..., RateLimit]) -> None:
    limit = make(1, per=3)
    async with limit as entered:
        assert entered is limit
    async with limit:
        assert now() == pytest.approx(3, abs=0.001)
    with pytest.raises(KeyError):
        async with limit:
            raise KeyError
    assert now() == pytest.approx(6, abs=0.001)


@every_limit
async def test_t4_a_cancelled_block_takes_no_token(make: Callable[..., RateLimit]) -> None:
    limit = make(1, per=10)
    await limit.acquire()

    async def block() -> None:
        async with limit:
            raise AssertionError("not reached")

    for turns in range(4):
        task = asyncio.create_task(block())
        await settle(turns)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    advance(10.00001)
    assert limit.try_acquire()


@every_limit
@pytest.mark.parametrize("turns", range(7))
async def test_t5_cancelled_in_any_turn_around_its_grant(
    make: Callable[..., RateLimit], turns: int
) -> None:
    calls: list[tuple[str, float]] = []

    @make(1)
    async def call(name: str) -> None:
        calls.append((name, now()))
        await asyncio.sleep(0)

    await call("zero")
    tasks = [asyncio.create_task(call(name)) for name in ("one", "two", "three")]
    await settle()
    advance(1.00001)
    await settle(turns)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    names = [name for name, _ in calls]
    if "one" in names:
        assert names == ["zero", "one", "two", "three"]
        assert now() == pytest.approx(3, abs=0.001)
    else:
        assert names == ["zero", "two", "three"]
        assert now() == pytest.approx(2, abs=0.001)
        assert calls[1][1] == pytest.approx(1, abs=0.001), "the next got the token, at once"


@every_limit
async def test_snapshot_and_reset(make: Callable[..., RateLimit]) -> None:
    limit = make(3, per=100)
    assert await limit.acquire(3) == 0
    waiting = asyncio.create_task(limit.acquire(2))
    await settle()
    assert limit.snapshot() == {
        "rate": 3, "per": 100, "capacity": 3, "available": pytest.approx(0, abs=1e-9), "waiting": 1,
    }  # fmt: skip
    limit.reset()
    await waiting
    assert limit.snapshot()["available"] == pytest.approx(1)
    assert limit.snapshot()["waiting"] == 0


@every_limit
async def test_switched_off_nothing_is_limited(make: Callable[..., RateLimit]) -> None:
    await runs_free_when_off(make(1, per=1000, max_wait=0, cost=lambda *args: 1))
    await runs_free_when_off(make(1, per=1000, max_wait=0))


async def runs_free_when_off(limit: RateLimit) -> None:
    guarded = limit(echo)
    limit.enabled = False
    for _ in range(3):
        assert await guarded(1) == 1
        assert await limit.call(echo, 2) == 2
        assert await limit.acquire() == 0
        assert limit.try_acquire()
        async with limit:
            pass
    limit.enabled = True
    with inactive():
        assert await guarded(1) == 1
        assert limit.try_acquire()
    assert limit.snapshot()["available"] == 1


@own_limits
async def test_straight_and_waiting_calls_share_what_is_there(make: Callable[..., RateLimit]) -> None:
    limit = make(100, per=10, max_wait=0)
    guarded = limit(echo)
    taken = 0
    for number in range(300):
        try:
            if number % 3 == 0:
                await guarded(number)
            elif number % 3 == 1:
                await limit.acquire()
            else:
                await rate_limited(limit._limiter, cost=2, max_wait=0).call(echo)
        except RateLimitExceededError:
            break
        taken += 2 if number % 3 == 2 else 1
    assert taken in (99, 100)
    assert limit.snapshot()["available"] == 100 - taken


@own_limits
@pytest.mark.parametrize("has_gil", [True, False])
async def test_the_two_paths_decide_alike(
    make: Callable[..., RateLimit], has_gil: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilience._rate_limit.HAS_GIL", has_gil)
    guarded = make(7, max_wait=0)(echo)
    admitted = []
    for step in range(300):
        try:
            await guarded()
            admitted.append(step)
        except RateLimitExceededError:
            pass
        advance(1 / 16)
    first = [0, 1, 2, 3, 4, 5, 6]
    assert admitted[:7] == first
    if make is LIMITS["window"]:
        assert admitted == [step for step in range(300) if step % 16 in first]
    else:
        assert len(admitted) == 7 + (299 * 7) // 16


def test_repr() -> None:
    assert repr(rate_limited(10)) == "rate_limited(rate=10)"
    assert repr(rate_limited(10, per=60, burst=20, max_wait=0)) == (
        "rate_limited(rate=10, per=60, burst=20, max_wait=0)"
    )
    assert repr(rate_limited(SlidingWindow(3))) == "rate_limited(limiter=SlidingWindow(3, per=1.0))"
    assert repr(rate_limited(AsyncLimiter(3))) == "rate_limited(limiter=AsyncLimiter(3, 60))"
    assert repr(rate_limited(1, key=str).at(0)) == "rate_limited(rate=1, key=str).at(0)"


# --- Keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [None, 1])
async def test_each_key_has_a_limit_of_its_own(burst: int | None) -> None:
    limit = rate_limited(1, per=10, burst=burst, max_wait=0, key=lambda key, **_: key)
    guarded = limit(echo)
    for key in ("a", "b", 0, None, "", False):
        if key is not False:  # False == 0
            await guarded(key)
        with pytest.raises(RateLimitExceededError) as caught:
            await guarded(key)
        assert caught.value.retry_after == pytest.approx(10)
    assert limit.snapshot()["keys"] == 5
    limit.reset()
    await guarded("a")


async def test_b16_falsy_keys_are_keys() -> None:
    limit = rate_limited(1, per=10, key=lambda key: key)
    for key in (0, "", None, ()):
        assert limit.at(key).try_acquire()
        assert not limit.at(key).try_acquire()


async def test_b16_a_key_that_waits_or_owes_is_never_evicted() -> None:
    limit = rate_limited(1, per=10, max_wait=0, max_keys=20, key=lambda key: key)
    guarded = limit(echo)
    await guarded("attacker")
    for number in range(1000):
        with pytest.raises(RateLimitExceededError):
            await guarded("attacker")
        try:
            await guarded(number)
        except RateLimitExceededError:
            assert number >= 19, "only keys that share the overflow are refused"
    assert limit.snapshot()["keys"] == 20


async def test_keys_that_are_idle_make_room() -> None:
    limit = rate_limited(1, per=10, max_wait=0, max_keys=3, key=lambda key: key)
    guarded = limit(echo)
    for number in range(100):
        await guarded(number)
        advance(10)
    assert limit.snapshot()["keys"] == 3


async def test_a_waiter_keeps_its_place_while_keys_come_and_go() -> None:
    limit = rate_limited(1, per=5, max_keys=2, key=lambda key: key)
    guarded = limit(echo)
    await guarded("slow")
    waiting = [asyncio.create_task(guarded("slow")) for _ in range(3)]
    for number in range(60):
        await asyncio.sleep(0.25)
        if now() < 14:
            await rate_limited(1, max_wait=0).call(echo)
            limit.at(number).try_acquire()
    await asyncio.gather(*waiting)
    assert now() == 15
    assert limit.snapshot()["waiting"] == 0


async def test_the_handle_of_a_key() -> None:
    limit = rate_limited(2, per=10, key=lambda key: key)
    guarded = limit(echo)
    bob = limit.at("bob")
    assert bob.snapshot() == {"rate": 2, "per": 10, "capacity": 2, "available": 2, "waiting": 0}
    bob.reset()
    assert limit.snapshot()["keys"] == 0, "looking makes no entry"
    await guarded("bob")
    async with bob as entered:
        assert entered is bob
    assert not bob.try_acquire()
    assert limit.at("ann").try_acquire()
    waiting = asyncio.create_task(bob.acquire())
    await settle()
    assert bob.snapshot() == {"rate": 2, "per": 10, "capacity": 2, "available": 0, "waiting": 1}
    assert limit.snapshot() == {"rate": 2, "per": 10, "capacity": 2, "keys": 2, "waiting": 1}
    bob.reset()
    assert await waiting == 0
    assert bob.snapshot()["available"] == 1
    assert limit.at("ann").snapshot()["available"] == 1


async def test_with_keys_the_policy_itself_takes_none() -> None:
    limit = rate_limited(1, key=lambda key: key)
    with pytest.raises(TypeError, match=r"policy\.at\(key\)"):
        await limit.acquire()
    with pytest.raises(TypeError, match=r"policy\.at\(key\)"):
        limit.try_acquire()
    with pytest.raises(TypeError, match=r"policy\.at\(key\)"):
        async with limit:
            pass
    with pytest.raises(TypeError, match="key="):
        rate_limited(1).at("bob")
    with pytest.raises(TypeError, match="unhashable"):
        limit.at([])


@pytest.mark.parametrize("burst", [None, 1])
@pytest.mark.parametrize("cost", [1, lambda value: 1])
async def test_a_key_must_be_hashable(burst: int | None, cost: Any) -> None:
    limit = rate_limited(1, burst=burst, cost=cost, key=lambda value: value)
    guarded = limit(echo)
    assert await guarded(1) == 1
    with pytest.raises(TypeError, match="key= must return a hashable value, got a list"):
        await guarded([])
    assert not limit.rule.busy


@pytest.mark.parametrize("burst", [None, 2])
@pytest.mark.parametrize("key", [None, lambda *args: "all"])
async def test_a_call_that_costs_one_passes_without_the_lock_while_nobody_waits(
    burst: int | None, key: Any
) -> None:
    limit = rate_limited(2, per=100, burst=burst, key=key)
    guarded = limit(echo)
    await guarded()
    limit.rule.lock = None  # the second one would fail if it wanted it
    await guarded()
    with pytest.raises(AttributeError):
        await guarded()


@pytest.mark.parametrize("burst", [None, 1])
async def test_switched_off_no_key_is_limited(burst: int | None) -> None:
    limit = rate_limited(1, per=1000, burst=burst, max_wait=0, key=lambda value: value)
    guarded = limit(echo)
    assert await guarded(1) == 1
    limit.enabled = False
    assert await guarded(1) == 1
    limit.enabled = True
    with inactive():
        assert await guarded(1) == 1
    with pytest.raises(RateLimitExceededError):
        await guarded(1)


async def test_cost_and_key_together() -> None:
    limit = rate_limited(4, per=100, max_wait=0, key=lambda size: "all", cost=lambda size: size)
    guarded = limit(echo)
    assert [await guarded(size) for size in (3, 1, 0)] == [3, 1, 0]
    with pytest.raises(RateLimitExceededError):
        await guarded(1)
    limit.enabled = False
    assert await guarded(4) == 4
    assert await limit.at("all").acquire() == 0


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda: rate_limited(10, burst=10, key=lambda key: key), 200),
        (lambda: rate_limited(10, key=lambda key: key), 200 + 8 * 10),
    ],
    ids=["bucket", "window"],
)
def test_a_key_takes_little_memory(make: Callable[[], RateLimit], most: int) -> None:
    count = 10_000
    keys = [f"key {number}" for number in range(count)]
    limit = make()
    guarded = limit(echo)

    async def main() -> int:
        await guarded("first")
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for key in keys[1:]:
                await guarded(key)
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    assert asyncio.run(main()) / count < most


# --- Limiters of one's own ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [lambda: SlidingWindow(1), lambda: TokenBucket(1), lambda: LeakyBucket(1), lambda: AsyncLimiter(1, 1)],
)
async def test_policies_with_one_limiter_share_it(make: Callable[[], Any]) -> None:
    limiter = make()
    one, other, apart = rate_limited(limiter), rate_limited(limiter, max_wait=0), rate_limited(make())
    served: list[str] = []

    async def enter(limit: RateLimit, name: str) -> None:
        await limit.acquire()
        served.append(name)

    same = rate_limited(limiter)
    await one.acquire()
    assert not other.try_acquire()
    assert apart.try_acquire()
    await asyncio.gather(
        *(enter(each, name) for name, each in zip("abcd", (one, same, same, one), strict=True))
    )
    assert served == list("abcd")
    assert now() == pytest.approx(4, abs=0.001)


async def test_t53_a_heavy_request_is_not_starved_behind_an_async_limiter() -> None:
    limit = rate_limited(AsyncLimiter(4, 1))
    served: list[str] = []

    async def enter(tokens: int, name: str) -> None:
        await limit.acquire(tokens)
        served.append(name)

    await limit.acquire(4)
    tasks = [asyncio.create_task(enter(4, "heavy"))]
    for _ in range(40):
        await asyncio.sleep(0.1)
        tasks.append(asyncio.create_task(enter(1, "light")))
    await asyncio.gather(*tasks)
    assert served[0] == "heavy"


async def test_an_async_limiter_may_also_be_used_directly() -> None:
    limiter = AsyncLimiter(2, 1)
    limit = rate_limited(limiter)
    await limiter.acquire(2)
    assert not limit.try_acquire()
    assert await limit.acquire() == pytest.approx(0.5, abs=0.001)


def test_t64_an_async_limiter_in_a_second_live_loop_is_a_clear_error() -> None:
    limit = rate_limited(AsyncLimiter(5))
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(limit.acquire()) == 0
        with pytest.raises(RuntimeError, match="use LeakyBucket with the same numbers, .* at once$"):
            asyncio.run(limit.acquire())
        assert loop.run_until_complete(limit.acquire()) == 0
    finally:
        loop.close()


@pytest.mark.filterwarnings("ignore:This AsyncLimiter instance is being re-used:RuntimeWarning")
@pytest.mark.parametrize("make", [LeakyBucket, AsyncLimiter])
def test_t64_three_loops_one_after_another(make: Callable[[float, float], Any]) -> None:
    limit = rate_limited(make(5, 0.1))
    order: list[int] = []

    async def call(number: int) -> float:
        waited = await limit.acquire()
        order.append(number)
        return waited

    async def main() -> list[float]:
        return await asyncio.gather(*(call(number) for number in range(10)))

    for run in range(3):
        waits = asyncio.run(main())
        assert order == [*range(10)] * (run + 1)
        assert 0 < waits[-1] < 5
        if run:
            assert sum(wait > 0 for wait in waits) >= 8, "the level stays when the loop goes"


@pytest.mark.parametrize(("rate", "per"), [(5, 1), (3, 2), (1, 7), (2.5, 10)])
async def test_a_leaky_bucket_admits_what_an_async_limiter_admits(rate: float, per: float) -> None:
    async def admissions(limit: RateLimit) -> list[float]:
        began, times = now(), []
        for pause in (0, 0, 0, 0, 0, 0, 0.3 * per, 0, 0, 5 * per, 0, 0, 0, 0, 0, 0):
            await asyncio.sleep(pause)
            await limit.acquire()
            times.append(now() - began)
        return times

    ours = await admissions(rate_limited(LeakyBucket(rate, per)))
    assert ours == pytest.approx(await admissions(rate_limited(AsyncLimiter(rate, per))), abs=1e-3)


def test_an_async_limiter_outside_of_its_loop() -> None:
    limit = rate_limited(AsyncLimiter(5))
    assert limit.snapshot() == {"rate": 5, "per": 60, "capacity": 5, "available": 5, "waiting": 0}
    with pytest.raises(RuntimeError, match="no running event loop"):
        limit.try_acquire()
    limit.reset()


def test_the_policy_is_made_without_a_loop() -> None:
    for make in LIMITS.values():
        limit = make(5)
        assert limit.snapshot()["available"] == 5
        if make is not LIMITS["adopted"]:
            assert limit.try_acquire(5)
            assert not limit.try_acquire()


def test_two_adoptions_of_one_limiter_are_one_and_end_with_it() -> None:
    from resilience import _async_limiter

    limiter = AsyncLimiter(1)
    one, other = rate_limited(limiter), rate_limited(limiter)
    assert one._limiter is other._limiter
    before = len(_async_limiter._adopted)
    del one, other
    assert len(_async_limiter._adopted) == before - 1


async def test_the_handle_of_a_key_calls_functions() -> None:
    limit = rate_limited(1, per=2, key=str)
    assert await limit.at("a").call(echo, 1) == 1
    assert await limit.at("b").call(echo, value=2) == 2
    assert now() == 0
    assert await limit.at("a").call(echo, 3) == 3
    assert now() == 2
    with pytest.raises(TypeError, match="not async"):
        await limit.at("a").call(str)
    limit.enabled = False
    assert await limit.at("a").call(echo, 4) == 4
    assert now() == 2


# --- Events -------------------------------------------------------------------------------------------


async def test_events(events: list[Event]) -> None:
    limit = rate_limited(1, per=2, max_wait=3, name="api")
    await asyncio.gather(*(limit.call(echo) for _ in range(3)), return_exceptions=True)
    assert [(each.kind, each.name, dict(each.attributes)) for each in events] == [
        ("rate_limit.rejected", "api", {"retry_after": 4}),
        ("rate_limit.waited", "api", {"seconds": 2}),
    ]


async def test_b17_keys_do_not_appear_in_events_and_errors(events: list[Event]) -> None:
    limit = rate_limited(1, per=2, max_wait=3, name="api", key=lambda key: key)
    guarded = limit(echo)
    results = await asyncio.gather(*(guarded("secret") for _ in range(3)), return_exceptions=True)
    assert len(events) == 2
    assert "secret" not in repr(events)
    assert "secret" not in str(results[-1]) + repr(results[-1].details)


@pytest.mark.parametrize("key", [None, lambda: 0])
async def test_t61_a_listener_that_raises_does_not_take_the_token_twice(
    key: Callable[[], int] | None,
) -> None:
    def listener(event: Event) -> None:
        raise SystemError(event.kind)

    calls: list[float] = []
    limit = rate_limited(2, per=1, key=key)

    @limit
    async def call() -> None:
        calls.append(now())

    unsubscribe = subscribe(listener)
    try:
        await asyncio.gather(*(call() for _ in range(6)))
    finally:
        unsubscribe()
    assert calls == [0, 0, 1, 1, 2, 2]


async def test_a_listener_may_use_the_policy() -> None:
    limit = rate_limited(1, max_wait=0)
    seen: list[object] = []
    unsubscribe = subscribe(lambda event: seen.append((limit.try_acquire(), limit.snapshot()["waiting"])))
    try:
        await limit.acquire()
        with pytest.raises(RateLimitExceededError):
            await limit.acquire()
    finally:
        unsubscribe()
    assert seen == [(False, 0)]


# --- Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"rate": 0}, ValueError, "rate must be a whole number of 1 or more, got 0"),
        ({"rate": -5}, ValueError, "rate must be a whole number of 1 or more, got -5"),
        ({"rate": 0.5}, TypeError, "rate must be a whole number of 1 or more, got 0.5"),
        ({"rate": "10"}, TypeError, "rate must be a whole number of 1 or more, got '10'"),
        ({"rate": None}, TypeError, "rate must be"),
        ({"rate": True}, TypeError, "rate must be"),
        ({"rate": float("nan"), "burst": 1}, ValueError, "rate must be a number above 0, got nan"),
        ({"rate": 0, "burst": 1}, ValueError, "rate must be a number above 0, got 0"),
        ({"per": 0}, ValueError, "per must be seconds .* above 0, got 0"),
        ({"per": -1}, ValueError, "per must be"),
        ({"per": "1"}, TypeError, "per must be"),
        ({"per": timedelta(0)}, ValueError, "per must be"),
        ({"burst": 0}, ValueError, "burst must be a number above 0, got 0"),
        ({"burst": 0.5}, ValueError, "cost must be a number of 0 or more and at most 0.5, got 1"),
        ({"burst": "2"}, TypeError, "burst must be"),
        ({"max_wait": -1}, ValueError, "max_wait must be seconds .* of 0 or more, got -1"),
        ({"max_wait": float("inf")}, ValueError, "max_wait must be"),
        ({"max_wait": "1"}, TypeError, "max_wait must be"),
        ({"key": "user"}, TypeError, "key must be a function that is not async, got 'user'"),
        ({"key": echo}, TypeError, "key must be a function that is not async, got"),
        ({"cost": echo}, TypeError, "cost must be a function that is not async, got"),
        ({"max_keys": 0}, ValueError, "max_keys must be a whole number of 1 or more, got 0"),
        ({"max_keys": 2.5}, TypeError, "max_keys must be"),
        ({"name": ""}, ValueError, "name must be"),
        ({"name": 5}, TypeError, "name must be"),
        ({"rate": SlidingWindow(1), "per": 5}, TypeError, "per, burst and key must be left out"),
        ({"rate": SlidingWindow(1), "burst": 5}, TypeError, "per, burst and key must be left out"),
        ({"rate": AsyncLimiter(1), "key": echo}, TypeError, "per, burst and key must be left out"),
        ({"rate": echo}, TypeError, r"needs a rate, as in @rate_limited\(10\)"),
        ({"rate": SlidingWindow}, TypeError, r"needs a rate, as in @rate_limited\(10\)"),
    ],
)
def test_t28_bad_input(wrong: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        rate_limited(**{"rate": 10, **wrong})


def test_defaults() -> None:
    config = rate_limited(3).config
    assert (config.rate, config.per, config.burst, config.limiter) == (3, 1.0, None, None)
    assert (config.max_wait, config.cost, config.key, config.max_keys) == (None, 1, None, 10_000)
    assert rate_limited(SlidingWindow(5, 2)).config.rate is None
    assert rate_limited(SlidingWindow(5, 2)).config.per == 1.0


def test_good_input() -> None:
    assert rate_limited(600 / 60).config.rate == 10
    assert rate_limited(0.1, burst=1).config.rate == 0.1
    assert rate_limited(1, per=timedelta(minutes=1)).config.per == 60
    assert rate_limited(1, max_wait=timedelta(seconds=1)).config.max_wait == 1
    assert rate_limited(1, max_wait=0).config.max_wait == 0
    limit = rate_limited(1)
    assert policies(limit(echo)) == (limit,)


async def test_t62_t63_only_one_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = rate_limited(1, per=10, burst=1, max_wait=0)
    assert limit.try_acquire()
    monkeypatch.setattr("time.time", lambda: 1e12)
    assert not limit.try_acquire()
    advance(10)
    assert limit.try_acquire()
