"""`cached`: expiry, expired values that are still of use, remembered errors, tags, and the handle."""

import asyncio
import copy
import gc
import math
import traceback
import warnings
import weakref
from datetime import timedelta
from typing import Any

import cachetools
import pytest

import resilience._cache_load
from resilience import (
    CacheInfo,
    CircuitBreakerOpenError,
    Event,
    cached,
    inactive,
    set_active,
    subscribe,
)
from resilience._cache_store import Entry
from tests.support.cache_sources import DictStore, Source, clock_ahead
from tests.support.virtual_time import advance, now, settle

# --- Time to live -----------------------------------------------------------------------------------


async def test_t47_an_entry_lives_from_the_completion_of_the_call_on() -> None:
    source = Source(seconds=8, ttl=10)
    assert await source.load() == 1
    advance(9.5)  # 17.5 seconds after the call began
    assert await source.load() == 1


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10)])
async def test_t47_at_the_end_of_its_time_an_entry_has_expired(ttl: Any) -> None:
    source = Source(ttl=ttl)
    assert await source.load() == 1
    advance(9.999)
    assert await source.load() == 1
    advance(0.001)
    assert await source.load() == 2


async def test_the_first_argument_is_the_time_to_live() -> None:
    assert cached(5).config.ttl == 5
    assert cached(timedelta(minutes=1)).config.ttl == 60
    assert cached().config.ttl == 300


async def test_t28_a_ttl_of_zero_keeps_nothing_but_shares_the_call() -> None:
    source = Source(ttl=0, seconds=1)
    assert await asyncio.gather(source.load(), source.load()) == [1, 1]
    assert await source.load() == 2
    assert source.policy.info().size == 0


async def test_a_ttl_that_depends_on_the_result() -> None:
    source = Source(ttl=lambda result: timedelta(seconds=result))
    assert await source.load() == 1
    advance(1)
    assert await source.load() == 2
    advance(1.5)
    assert await source.load() == 2
    source = Source(ttl=lambda result: 0)
    assert [await source.load(), await source.load()] == [1, 2]


@pytest.mark.parametrize(
    ("result", "error"),
    [(None, TypeError), ("5", TypeError), (-1, ValueError), (math.inf, ValueError), (math.nan, ValueError)],
)
async def test_a_ttl_function_that_returns_nonsense_is_told(result: Any, error: type[Exception]) -> None:
    source = Source(ttl=lambda _: result)
    with pytest.raises(error, match="the result of ttl= must be seconds"):
        await source.load()
    assert source.policy.info().size == 0


async def test_jitter_shortens_by_up_to_its_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(ttl=100, jitter=0.5)
    for random, lives in ((0.0, 100), (0.5, 75), (0.999999, 50.00005)):
        monkeypatch.setattr("random.random", lambda random=random: random)
        source.policy.clear()
        first = await source.load()
        advance(lives - 0.001)
        assert await source.load() == first
        advance(0.001)
        assert await source.load() == first + 1


async def test_least_recently_used_goes_first() -> None:
    source = Source(maxsize=2)
    assert [await source.load("a"), await source.load("b"), await source.load("a")] == [1, 2, 1]
    await source.load("c")
    assert [await source.load("a"), await source.load("c")] == [1, 3]
    assert await source.load("b") == 4
    assert source.policy.info().evictions == 2
    assert source.policy.info().size == 2


async def test_an_entry_that_is_replaced_evicts_nothing_and_counts_as_used() -> None:
    source = Source(maxsize=2, ttl=10)
    await source.load("a")
    await source.load("b")
    advance(10)
    await source.load("a")
    await source.load("c")
    assert source.policy.info().evictions == 1
    assert await source.load("a") == 3


async def test_t45_values_are_returned_as_they_were_stored() -> None:
    @cached()
    async def load() -> list[int]:
        return [1]

    (await load()).append(2)
    assert await load() == [1, 2]


async def test_t45_with_copy_everybody_gets_his_own() -> None:
    kept: list[list[int]] = []
    policy = cached(ttl=10, stale_while_revalidate=5, stale_if_error=20, copy=copy.deepcopy)
    error: Exception | None = None

    @policy
    async def load() -> list[list[int]]:
        await asyncio.sleep(1)
        if error:
            raise error
        kept.append([1])
        return [kept[-1]]

    async def spoil() -> None:
        value = await load()
        assert value == [[1]]
        value[0].append(2)
        value.append([])

    await asyncio.gather(*(spoil() for _ in range(3)))  # the first and the coalesced ones
    assert kept == [[1]], "what the function returned is its own"
    kept[0].append(3)
    for _ in range(3):
        await spoil()  # hits
    advance(10)
    for _ in range(3):
        await spoil()  # stale ones
    await asyncio.sleep(1.5)
    await spoil()  # from the refresh
    advance(15)
    error = LookupError("down")
    await asyncio.gather(spoil(), spoil())  # stand-ins
    assert len(kept) == 2


async def test_t45_copy_is_called_once_for_the_cache_and_once_for_each_caller() -> None:
    copied: list[object] = []

    def copy_of(value: list[int]) -> list[int]:
        copied.append(value)
        return list(value)

    source = [1]
    policy = cached(copy=copy_of)

    @policy
    async def load() -> list[int]:
        return source

    values = [*await asyncio.gather(load(), load()), await load()]
    assert values == [[1]] * 3
    assert len({id(value) for value in values}) == 3
    assert copied[0] is source
    assert len(copied) == 4
    assert copied[1] is copied[2] is copied[3] is not source
    assert all(value is not copied[1] for value in values)


async def test_t45_the_condition_and_the_ttl_get_what_is_kept() -> None:
    asked: list[object] = []

    def ttl(value: list[int]) -> float:
        asked.append(value)
        return 60

    def condition(value: list[int]) -> bool:
        asked.append(value)
        return True

    returned: list[list[int]] = []
    policy = cached(ttl=ttl, condition=condition, copy=list)

    @policy
    async def load() -> list[int]:
        returned.append([1])
        return returned[0]

    value = await load()
    assert len(asked) == 2
    assert asked[0] is asked[1]
    assert asked[0] is not value
    assert asked[0] is not returned[0]


@pytest.mark.parametrize("kind", [KeyError, TypeError, ValueError])
async def test_a_copy_that_fails_reaches_the_caller(kind: type[Exception]) -> None:
    failing = False

    def copy_of(value: int) -> int:
        if failing:
            raise kind("no copy")
        return value

    policy = cached(copy=copy_of)
    calls: list[int] = []

    @policy
    async def load() -> int:
        calls.append(1)
        return 5

    failing = True
    with pytest.raises(kind, match="no copy"):
        await load()
    failing = False
    assert await load() == 5
    failing = True
    with pytest.raises(kind, match="no copy"):
        await load()
    assert len(calls) == 2
    assert policy.info().hits == 1
    failing = False
    assert await load() == 5


async def test_condition_decides_what_is_kept() -> None:
    asked: list[int] = []

    def is_even(result: int) -> bool:
        asked.append(result)
        return result % 2 == 0

    source = Source(condition=is_even)
    assert [await source.load(), await source.load(), await source.load()] == [1, 2, 2]
    assert asked == [1, 2]


async def test_a_condition_that_fails_is_told_and_nothing_is_kept() -> None:
    source = Source(condition=lambda result: result.missing)
    with pytest.raises(AttributeError):
        await source.load()
    assert source.policy.info().size == 0


async def test_t63_what_was_stored_under_a_later_clock_is_of_no_use() -> None:
    source = Source(ttl=10, stale_while_revalidate=1000, stale_if_error=1000)
    with clock_ahead(1e9):
        assert await source.load() == 1
    with clock_ahead(1e9 - 0.5):
        assert await source.load() == 2, "neither fresh nor expired: it is of another time"
        assert await source.load() == 2
    source.error = LookupError("down")
    with pytest.raises(LookupError):
        await source.load()
    source.error = None
    assert await source.load() == 4
    advance(10)
    assert await source.load() == 4
    await settle()
    assert source.policy.info().stale == 1
    assert await source.load() == 5


async def test_t63_an_error_of_a_later_clock_is_forgotten() -> None:
    source = Source(error_ttl=10)
    source.error = LookupError("down")
    with clock_ahead(1e9), pytest.raises(LookupError):
        await source.load()
    source.error = None
    assert await source.load() == 2


# --- Stale while revalidate --------------------------------------------------------------------------


async def test_an_expired_value_is_returned_at_once_and_one_load_replaces_it() -> None:
    source = Source(ttl=10, stale_while_revalidate=5, seconds=2)
    assert await source.load() == 1
    advance(10)
    before = now()
    assert await asyncio.gather(*(source.load() for _ in range(10))) == [1] * 10
    assert now() == before
    assert await source.load() == 1
    await asyncio.sleep(2)
    assert source.calls == 2
    assert await source.load() == 2
    assert now() == before + 2
    info = source.policy.info()
    assert (info.stale, info.hits, info.misses) == (11, 1, 1)


async def test_at_the_end_of_the_window_a_value_is_of_no_use() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(15)
    assert await source.load() == 2


async def test_a_ttl_of_zero_and_a_window_serve_expired_values() -> None:
    source = Source(ttl=0, stale_while_revalidate=5)
    assert await source.load() == 1
    assert await source.load() == 1
    await settle()
    assert await source.load() == 2
    await source.policy.aclose()


async def test_who_comes_after_the_window_joins_the_load_in_the_background() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(14)
    source.seconds = 3
    assert await source.load() == 1
    await settle()
    advance(1)
    assert await source.load() == 2
    assert source.calls == 2
    assert source.policy.info().coalesced == 1


async def test_who_joins_the_load_in_the_background_and_leaves_does_not_end_it() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(14)
    source.seconds = 3
    await source.load()
    await settle()
    advance(1)
    joined = asyncio.create_task(source.load())
    await settle()
    joined.cancel()
    await settle()
    await asyncio.sleep(3)
    assert await source.load() == 2
    assert source.calls == 2


@pytest.mark.parametrize("is_invalidated", [False, True])
async def test_an_expired_value_stands_in_for_a_failing_refresh(is_invalidated: bool) -> None:
    source = Source(ttl=10, stale_while_revalidate=5, stale_if_error=60)
    await source.load()
    advance(14)
    source.seconds = 3
    source.error = LookupError("down")
    assert await source.load() == 1
    await settle()
    advance(1)
    joined = asyncio.create_task(source.load())
    await settle()
    if is_invalidated:
        source.policy.invalidate()
        with pytest.raises(LookupError):
            await joined
    else:
        assert await joined == 1
        assert source.policy.info().stale == 2
    assert source.calls == 2


async def test_nothing_stands_in_for_a_failing_refresh_that_nobody_waits_for(events: list[Event]) -> None:
    source = Source(ttl=10, stale_while_revalidate=5, stale_if_error=60)
    await source.load()
    advance(10)
    source.error = LookupError("down")
    assert await source.load() == 1
    await settle()
    kinds = [event.kind for event in events]
    assert kinds == ["cache.miss", "cache.stale", "cache.refresh_failed"]
    assert source.policy.info().stale == 1


async def test_t52_a_failed_refresh_is_told_and_the_value_stays(events: list[Event]) -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(10)
    source.error = LookupError("secret")
    assert await source.load() == 1
    await settle()
    assert await source.load() == 1
    await settle()
    failed = [event for event in events if event.kind == "cache.refresh_failed"]
    assert [dict(event.attributes) for event in failed] == [{"error": "LookupError"}] * 2
    assert source.policy.snapshot()["refresh_failures"] == 2
    advance(5)
    with pytest.raises(LookupError):
        await source.load()


async def test_t52_a_refresh_has_a_strong_reference() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(10)
    source.seconds = 1
    await source.load()
    await settle()
    gc.collect()
    await asyncio.sleep(1)
    assert await source.load() == 2


async def test_t52_the_number_of_refreshes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience._cache_load, "MOST_REFRESHES", 3)
    source = Source(ttl=10, stale_while_revalidate=5)
    for key in range(10):
        await source.load(key)
    advance(10)
    source.seconds = 1
    source.most_running = 0
    assert [await source.load(key) for key in range(10)] == list(range(1, 11))
    await settle()
    assert source.most_running == 3
    await asyncio.sleep(1.5)
    await source.load(9)
    await asyncio.sleep(1.5)
    assert await source.load(9) == 14


async def test_t52_aclose_cancels_the_refreshes_and_waits_for_them() -> None:
    ended: list[float] = []
    policy = cached(ttl=10, stale_while_revalidate=5)

    @policy
    async def load(key: str) -> str:
        if now():
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(2)
                ended.append(now())
        return key

    await load("a")
    await load("b")
    advance(10)
    assert [await load("a"), await load("b")] == ["a", "b"]
    await settle()
    assert policy.snapshot()["in_flight"] == 2
    await policy.aclose()
    assert ended == [12.0, 12.0]
    assert policy.snapshot()["in_flight"] == 0
    assert policy.snapshot()["refresh_failures"] == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await policy.aclose()


@pytest.mark.parametrize("turns", range(4))
async def test_t52_aclose_ends_a_refresh_in_any_turn(turns: int) -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(10)
    source.seconds = 1
    await source.load()
    await settle(turns)
    await source.policy.aclose()
    assert source.running == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await source.load() == 1
    await source.policy.aclose()


async def test_aclose_leaves_loads_that_somebody_waits_for() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(14)
    source.seconds = 3
    await source.load()
    await settle()
    advance(1)
    waiting = asyncio.create_task(source.load())
    await settle()
    await source.policy.aclose()
    assert await waiting == 2
    assert source.calls == 2


async def test_the_end_of_the_loop_cancels_a_refresh_without_a_word(events: list[Event]) -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(10)
    source.seconds = 100
    await source.load()
    await settle()
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await settle()
    assert "cache.refresh_failed" not in [event.kind for event in events]
    assert source.policy.snapshot()["in_flight"] == 0


async def test_a_refresh_that_was_invalidated_is_not_kept() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    await source.load()
    advance(10)
    source.seconds = 1
    await source.load()
    await settle()
    source.policy.invalidate()
    assert await source.load() == 3
    assert source.calls == 3
    assert await source.load() == 3
    await settle()


@pytest.mark.real_time
async def test_aclose_reaches_the_refreshes_of_other_loops() -> None:
    policy = cached(ttl=0, stale_while_revalidate=100)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    calls: list[int] = []

    @policy
    async def load() -> int:
        calls.append(1)
        if len(calls) > 1:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.sleep(60)
        return len(calls)

    async def other() -> None:
        await load()
        await load()
        await asyncio.sleep(0)
        while policy.snapshot()["in_flight"]:
            await asyncio.sleep(0.001)

    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, other()))
    await begun.wait()
    await policy.aclose()
    await asyncio.wait_for(thread, 10)


# --- Stale if error, remembered errors ---------------------------------------------------------------


async def test_an_expired_value_stands_in_for_a_failing_load(events: list[Event]) -> None:
    source = Source(ttl=10, stale_if_error=20, seconds=1)
    assert await source.load() == 1
    source.error = LookupError("down")
    advance(10)
    assert await asyncio.gather(source.load(), source.load()) == [1, 1]
    assert source.calls == 2
    advance(17)
    assert await source.load() == 1
    with pytest.raises(LookupError):  # at 30 seconds exactly
        await source.load()
    stale = [dict(event.attributes) for event in events if event.kind == "cache.stale"]
    assert stale == [{"reason": "error"}] * 2
    source.error = None
    assert await source.load() == 5


async def test_stale_if_error_stands_in_for_a_rejection_but_for_no_cancellation() -> None:
    source = Source(ttl=10, stale_if_error=20)
    await source.load()
    advance(10)
    source.error = CircuitBreakerOpenError(policy="api", retry_after=5)
    assert await source.load() == 1
    source.error = asyncio.CancelledError()
    task = asyncio.create_task(source.load())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_error_is_remembered_for_its_time() -> None:
    source = Source(error_ttl=5, seconds=1)
    source.error = LookupError("down")
    with pytest.raises(LookupError):
        await source.load()
    advance(4.999)
    source.error = None
    with pytest.raises(LookupError, match="down"):
        await source.load()
    assert source.calls == 1
    assert source.policy.info().hits == 1
    advance(0.001)
    assert await source.load() == 2
    assert await source.load() == 2
    assert source.policy.info().size == 1, "a success makes the error forgotten"


async def test_t46_a_remembered_error_is_a_new_one_each_time_and_pins_no_frame() -> None:
    class Local:
        """Lives in a frame of the failing call."""

    references: list[weakref.ref[Local]] = []
    policy = cached(error_ttl=60)

    @policy
    async def fail() -> None:
        local = Local()
        references.append(weakref.ref(local))
        try:
            raise KeyError("inner")
        except KeyError as inner:
            error = LookupError("outer", 5)
            error.add_note("a note")
            error.status = 404  # type: ignore[attr-defined]
            raise error from inner

    async def catch() -> BaseException:
        try:
            await fail()
        except LookupError as error:
            return error
        raise AssertionError

    await catch()
    await settle()
    gc.collect()
    assert references[0]() is None
    first, second = await catch(), await catch()
    assert first is not second
    assert (type(first), first.args, first.status, first.__notes__) == (
        LookupError,
        ("outer", 5),
        404,
        ["a note"],
    )
    depths = [len(traceback.extract_tb((await catch()).__traceback__)) for _ in range(5)]
    assert depths == [depths[0]] * 5
    assert len(references) == 1


class Several(ExceptionGroup[LookupError]):
    """A group that does not say how another one is derived from it."""


@pytest.mark.parametrize("kind", [ExceptionGroup, Several])
async def test_t46_a_remembered_group_of_errors_pins_no_frame(kind: type[Several]) -> None:
    class Local:
        """Lives in a frame of the failing call."""

    references: list[weakref.ref[Local]] = []

    def fail_inside() -> None:
        local = Local()
        references.append(weakref.ref(local))
        raise LookupError(5)

    @cached(error_ttl=60)
    async def fail() -> None:
        try:
            fail_inside()
        except LookupError as error:
            group = kind("several", [error])
            group.code = 7  # type: ignore[attr-defined]
        try:
            raise group
        finally:
            del group

    for _ in range(2):
        with pytest.raises(kind, match="several") as caught:
            await fail()
        assert repr(caught.value.exceptions) == "(LookupError(5),)"
        assert caught.value.code == 7  # type: ignore[attr-defined]
        del caught
    await settle()
    gc.collect()
    assert references[0]() is None
    assert len(references) == 1


async def test_t46_an_error_that_is_its_own_copy_is_not_remembered() -> None:
    class OnlyError(Exception):
        def __copy__(self) -> "OnlyError":
            return self

        def __new__(cls) -> "OnlyError":
            return only if references else super().__new__(cls)

    references: list[OnlyError] = []
    only = OnlyError()
    references.append(only)
    source = Source(error_ttl=60)
    source.error = only
    for calls in (1, 2):
        with pytest.raises(OnlyError):
            await source.load()
        assert source.calls == calls


async def test_t37_an_older_load_that_was_forgotten_leaves_the_newer_error_remembered() -> None:
    source = Source(error_ttl=60, seconds=5)
    older = asyncio.create_task(source.load())
    await settle()
    source.policy.invalidate()
    source.seconds = 1
    source.error = LookupError("down")
    with pytest.raises(LookupError):
        await source.load()
    source.error = None
    assert await older == 1
    with pytest.raises(LookupError):
        await source.load()
    assert source.calls == 2


async def test_rejections_and_cancellations_are_not_remembered() -> None:
    source = Source(error_ttl=60)
    source.error = CircuitBreakerOpenError(policy="api", retry_after=5)
    for calls in (1, 2):
        with pytest.raises(CircuitBreakerOpenError):
            await source.load()
        assert source.calls == calls
    source.error = None
    source.seconds = 10
    task = asyncio.create_task(source.load())
    await settle()
    task.cancel()
    await settle()
    source.seconds = 0
    assert await source.load() == 4


async def test_a_remembered_error_lets_an_expired_value_stand_in_without_a_call() -> None:
    source = Source(ttl=10, stale_if_error=20, error_ttl=5)
    await source.load()
    advance(10)
    source.error = LookupError("down")
    assert [await source.load(), await source.load(), await source.load()] == [1, 1, 1]
    assert source.calls == 2
    advance(5)
    assert await source.load() == 1
    assert source.calls == 3


async def test_a_remembered_error_pauses_the_refreshes() -> None:
    source = Source(ttl=10, stale_while_revalidate=100, error_ttl=5)
    await source.load()
    advance(10)
    source.error = LookupError("down")
    for _ in range(5):
        assert await source.load() == 1
        await settle()
    assert source.calls == 2
    advance(5)
    assert await source.load() == 1
    await settle()
    assert source.calls == 3


async def test_remembered_errors_are_bounded_and_drive_out_no_value() -> None:
    source = Source(maxsize=3, error_ttl=60)
    for key in range(3):
        await source.load(key)
    source.error = LookupError("down")
    for key in range(10, 20):
        with pytest.raises(LookupError):
            await source.load(key)
    assert [await source.load(key) for key in range(3)] == [1, 2, 3]
    assert source.policy.info().size == 6


async def test_an_error_that_cannot_be_copied_is_not_remembered() -> None:
    class StubbornError(Exception):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("not this one")

        def __new__(cls, *args: object, allowed: bool = False) -> "StubbornError":
            if not allowed:
                raise TypeError("nor this way")
            return super().__new__(cls)

        def __init__(self, *args: object, allowed: bool = False) -> None:
            super().__init__()

    source = Source(error_ttl=60)
    source.error = StubbornError(allowed=True)
    for calls in (1, 2):
        with pytest.raises(StubbornError):
            await source.load()
        assert source.calls == calls


# --- Tags and invalidation ---------------------------------------------------------------------------


async def test_invalidate_takes_the_arguments_of_the_call_in_any_spelling() -> None:
    source = Source()
    assert [await source.load("a"), await source.load("b")] == [1, 2]
    source.policy.invalidate(key="a")
    assert [await source.load("a"), await source.load("b")] == [3, 2]
    source.policy.invalidate("unknown")
    with pytest.raises(TypeError, match="too many|takes"):
        source.policy.invalidate("a", "b", "c")
    with pytest.raises(TypeError, match="argument 'key' is not hashable"):
        source.policy.invalidate([])


async def test_invalidate_reaches_every_function_that_takes_the_arguments() -> None:
    policy = cached()
    calls: list[str] = []

    @policy
    async def one(login: str) -> None:
        calls.append("one")

    @policy
    async def two(login: str, page: int = 1) -> None:
        calls.append("two")

    @policy
    async def three() -> None:
        calls.append("three")

    async def all_of_them() -> list[str]:
        calls.clear()
        await one("bob")
        await two("bob")
        await three()
        return calls

    assert await all_of_them() == ["one", "two", "three"]
    policy.invalidate("bob")
    assert await all_of_them() == ["one", "two"]
    policy.invalidate("bob", page=1)
    assert await all_of_them() == ["two"]
    policy.invalidate()
    assert await all_of_them() == ["three"]
    policy.clear()
    assert await all_of_them() == ["one", "two", "three"]


async def test_invalidate_before_any_function_is_decorated_does_nothing() -> None:
    cached().invalidate("whatever")


async def test_invalidate_with_key_goes_through_key() -> None:
    source = Source(key=lambda login: str(login).lower())
    await source.load("Bob")
    source.policy.invalidate("BOB")
    assert await source.load("bob") == 2
    source = Source(key=lambda login: login.missing)
    with pytest.raises(AttributeError):
        source.policy.invalidate("bob")


async def test_invalidate_forgets_a_remembered_error() -> None:
    source = Source(error_ttl=60, tags="t")
    for forget in (
        source.policy.invalidate,
        source.policy.clear,
        source.policy.reset,
        lambda: source.policy.invalidate_tag("t"),
    ):
        source.error = LookupError("down")
        with pytest.raises(LookupError):
            await source.load()
        source.error = None
        with pytest.raises(LookupError):
            await source.load()
        forget()
        assert await source.load() > 1
        source.policy.clear()


async def test_what_is_returned_may_be_awaited_or_not() -> None:
    source = Source()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (source.policy.invalidate, source.policy.clear, source.policy.reset):
            assert await call() is None
            call()
        source.policy.invalidate_tag("t")
        await source.policy.invalidate_tag("t")
        gc.collect()


async def test_tags_of_the_arguments() -> None:
    source = Source(tags=lambda key: [f"group {key[0]}", "all"])
    keys = ["a1", "a2", "b1"]
    assert [await source.load(key) for key in keys] == [1, 2, 3]
    source.policy.invalidate_tag("group a")
    assert [await source.load(key) for key in keys] == [4, 5, 3]
    source.policy.invalidate_tag("all")
    assert [await source.load(key) for key in keys] == [6, 7, 8]
    source.policy.invalidate_tag("unknown")
    assert await source.load("b1") == 8


@pytest.mark.parametrize(
    "tags", ["users", ["users"], ("users", "users"), {"users", "more"}, lambda *_: "users"]
)
async def test_a_tag_is_a_string_or_several(tags: Any) -> None:
    source = Source(tags=tags)
    await source.load()
    source.policy.invalidate_tag("u")
    assert await source.load() == 1
    source.policy.invalidate_tag("users")
    assert await source.load() == 2


@pytest.mark.parametrize("result", [None, 5, [5], b"bytes", ["a", None]])
async def test_a_tags_function_that_returns_nonsense_is_told_before_the_call(result: Any) -> None:
    source = Source(tags=lambda *_: result)
    with pytest.raises(TypeError, match=r"the result of tags= must be a string or several"):
        await source.load()
    assert source.calls == 0
    assert source.policy.snapshot()["in_flight"] == 0


async def test_the_index_of_tags_forgets_evicted_keys() -> None:
    source = Source(maxsize=3, tags=lambda key: [f"tag {key}", "all"])
    for key in range(100):
        await source.load(key)
    index = source.policy._store._tags
    assert len(index._tags) == 3
    assert len(index._keys) == 5  # with the instance, as this is a method
    assert len(index._keys["all"]) == 3
    source.policy.invalidate_tag("all")
    assert not index._tags
    assert not index._keys
    assert source.policy.info().size == 0


async def test_tags_of_a_replaced_entry_are_the_new_ones() -> None:
    current = "old"
    source = Source(ttl=1, tags=lambda *_: current)
    await source.load()
    advance(1)
    current = "new"
    await source.load()
    source.policy.invalidate_tag("old")
    assert await source.load() == 2
    source.policy.invalidate_tag("new")
    assert await source.load() == 3


async def test_values_are_released_outside_of_the_lock() -> None:
    policy = cached(maxsize=2, ttl=1, tags="t")
    sizes: list[int | None] = []

    class Value:
        def __del__(self) -> None:
            assert not policy._store.lock._is_owned()
            sizes.append(policy.info().size)

    @policy
    async def load(key: int) -> Value:
        return Value()

    for key in range(3):
        await load(key)
    policy.invalidate(2)
    await load(3)
    policy.invalidate_tag("t")
    await load(4)
    advance(1)
    await load(4)
    policy.clear()
    await settle()
    assert len(sizes) == 6
    for _ in range(2):
        await policy._store.write(Entry("key", Value(), (), 0, 0), lambda: True)
    assert len(sizes) == 7
    policy.clear()


# --- The handle -------------------------------------------------------------------------------------


async def test_info_snapshot_and_reset() -> None:
    source = Source(maxsize=2)
    for key in ("a", "b", "c", "c"):
        await source.load(key)
    assert source.policy.info() == CacheInfo(hits=1, misses=3, stale=0, coalesced=0, evictions=1, size=2)
    assert source.policy.snapshot() == {
        "hits": 1,
        "misses": 3,
        "stale": 0,
        "coalesced": 0,
        "evictions": 1,
        "size": 2,
        "refresh_failures": 0,
        "store_failures": 0,
        "in_flight": 0,
    }
    source.policy.reset()
    assert source.policy.info() == CacheInfo(hits=0, misses=0, stale=0, coalesced=0, evictions=0, size=0)
    assert await source.load("c") == 4
    with pytest.raises(AttributeError):
        source.policy.info().hits = 5  # type: ignore[misc]


async def test_two_functions_of_one_policy_share_store_and_counters() -> None:
    policy = cached(maxsize=2)

    @policy
    async def one(number: int) -> int:
        return number

    @policy
    async def two(number: int) -> int:
        return -number

    assert [await one(1), await two(1), await one(1), await two(1)] == [1, -1, 1, -1]
    await one(2)
    assert policy.info() == CacheInfo(hits=2, misses=3, stale=0, coalesced=0, evictions=1, size=2)


async def test_switched_off_the_function_runs_directly_and_nothing_is_kept() -> None:
    source = Source()
    source.policy.enabled = False
    assert [await source.load(), await source.load()] == [1, 2]
    assert await source.policy.call(source._load) == 3
    source.policy.enabled = True
    with inactive():
        assert await source.load() == 4
    set_active(False)
    assert await source.load() == 5
    set_active(True)
    assert source.policy.info().size == 0
    assert [await source.load(), await source.load()] == [6, 6]


async def test_a_call_that_began_finishes_as_it_began() -> None:
    source = Source(seconds=1)
    tasks = [asyncio.create_task(source.load()) for _ in range(2)]
    await settle()
    source.policy.enabled = False
    assert await asyncio.gather(*tasks) == [1, 1]
    source.policy.enabled = True
    assert await source.load() == 1


async def test_the_bare_decorator() -> None:
    calls = 0

    @cached
    async def load(number: int) -> int:
        """Load."""
        nonlocal calls
        calls += 1
        return number

    assert [await load(1), await load(1)] == [1, 1]
    assert calls == 1
    assert load.__doc__ == "Load."


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(cached()) == "cached()"
    assert repr(cached(60, maxsize=5, stale_if_error=timedelta(minutes=1))) == (
        "cached(ttl=60, maxsize=5, stale_if_error=60.0)"
    )
    assert repr(cached(key=len)) == "cached(key=len)"
    assert repr(cached(early_refresh=1, copy=copy.deepcopy)) == "cached(early_refresh=1, copy=deepcopy)"
    assert repr(cached(store=DictStore(), memory_ttl=5)) == "cached(memory_ttl=5)"


async def test_events_carry_the_name_and_no_key_and_no_value() -> None:
    events: list[Event] = []
    source = Source(maxsize=1, ttl=10, stale_while_revalidate=5, tags="t")
    unsubscribe = subscribe(events.append)
    await source.load("secret")
    await source.load("secret")
    await source.load("more secret")
    advance(10)
    await source.load("more secret")
    await settle()
    unsubscribe()
    assert [(event.kind, dict(event.attributes)) for event in events] == [
        ("cache.miss", {}),
        ("cache.hit", {}),
        ("cache.miss", {}),
        ("cache.evicted", {}),
        ("cache.stale", {"reason": "revalidating"}),
    ]
    assert {event.name for event in events} == {"Source._load"}
    assert "secret" not in repr(events)


async def test_a_listener_may_call_back() -> None:
    source = Source(maxsize=1)
    seen: list[object] = []

    def listen(event: Event) -> None:
        seen.append(source.policy.info())
        source.policy.invalidate("other")

    unsubscribe = subscribe(listen)
    await source.load("a")
    await source.load("b")
    await source.load("b")
    unsubscribe()
    assert len(seen) == 4


async def test_t48_no_state_of_loads_is_in_the_evictable_store() -> None:
    source = Source(maxsize=1, seconds=1)
    tasks = [asyncio.create_task(source.load(key)) for key in ("a", "b", "c", "a", "b", "c")]
    assert await asyncio.gather(*tasks) == [1, 2, 3, 1, 2, 3]
    assert source.calls == 3


async def test_t39_t49_neither_timers_nor_tasks_are_kept() -> None:
    source = Source(ttl=10, seconds=1)
    await source.load()
    source.policy.clear()
    await source.load()
    loop: Any = asyncio.get_running_loop()
    assert [handle for handle in loop._scheduled if not handle.cancelled()] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    advance(9.5)
    assert await source.load() == 2


async def test_t40_the_table_of_flights_is_empty_afterwards() -> None:
    source = Source(seconds=1)
    tasks = [asyncio.create_task(source.load(key)) for key in range(1000)]
    await settle()
    assert source.policy.snapshot()["in_flight"] == 1000
    for task in tasks[::3]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert source.policy.snapshot()["in_flight"] == 0
    assert not source.policy._loads.flights._tables


# --- Bad input --------------------------------------------------------------------------------------


async def not_plain(*args: object) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        *[
            (name, -1, ValueError)
            for name in ("ttl", "stale_while_revalidate", "stale_if_error", "error_ttl")
        ],
        *[
            (name, math.nan, ValueError)
            for name in ("ttl", "stale_while_revalidate", "stale_if_error", "jitter")
        ],
        *[(name, math.inf, ValueError) for name in ("ttl", "stale_while_revalidate", "error_ttl")],
        *[
            (name, "60", TypeError)
            for name in ("ttl", "stale_while_revalidate", "stale_if_error", "error_ttl")
        ],
        *[
            (name, None, TypeError)
            for name in ("ttl", "stale_while_revalidate", "stale_if_error", "error_ttl")
        ],
        ("ttl", True, TypeError),
        ("ttl", timedelta(seconds=-1), ValueError),
        ("ttl", 10**400, ValueError),
        ("ttl", not_plain, TypeError),
        ("maxsize", 0, ValueError),
        ("maxsize", -1, ValueError),
        ("maxsize", 2.5, TypeError),
        ("maxsize", None, TypeError),
        ("maxsize", True, TypeError),
        ("store", {}, TypeError),
        ("store", "memory", TypeError),
        ("store", 5, TypeError),
        ("key", "login", TypeError),
        ("key", not_plain, TypeError),
        ("condition", True, TypeError),
        ("condition", not_plain, TypeError),
        ("copy", True, TypeError),
        ("copy", not_plain, TypeError),
        *[("early_refresh", value, ValueError) for value in (-0.1, math.nan, math.inf)],
        *[("early_refresh", value, TypeError) for value in ("1", None, True, timedelta(seconds=1))],
        *[("memory_ttl", value, ValueError) for value in (-1, math.nan, math.inf, 5, timedelta(seconds=1))],
        *[("memory_ttl", value, TypeError) for value in ("5", None, True)],
        ("jitter", -0.1, ValueError),
        ("jitter", 1.1, ValueError),
        ("jitter", "0.1", TypeError),
        ("jitter", None, TypeError),
        ("tags", 5, TypeError),
        ("tags", [5], TypeError),
        ("tags", not_plain, TypeError),
        ("name", 5, TypeError),
        ("name", "", ValueError),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{argument} must be .*got "):
        cached(**{argument: value})


def test_memory_ttl_needs_a_store_to_be_in_front_of() -> None:
    with pytest.raises(ValueError, match="^memory_ttl must be 0 without an async store, got 5$"):
        cached(memory_ttl=5)
    with pytest.raises(ValueError, match="^memory_ttl must be 0 without an async store, got 5$"):
        cached(memory_ttl=5, store=cachetools.LRUCache(3))
    assert cached(memory_ttl=0, store=cachetools.LRUCache(3)).config.memory_ttl == 0
    policy = cached(memory_ttl=timedelta(seconds=5), store=DictStore())
    assert policy.config.memory_ttl == 5


def test_wrong_calls_of_the_decorator() -> None:
    with pytest.raises(TypeError, match="ttl is given twice: 5 and 6"):
        cached(5, ttl=6)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="ttl must be"):
        cached(None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_size'"):
        cached(max_size=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="is not async"):
        cached(5)(len)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tag must be a string, got 5"):
        cached().invalidate_tag(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("jitter", [0, 1, 1.0, 0.5])
def test_the_ends_of_the_ranges_are_allowed(jitter: float) -> None:
    cached(0, maxsize=1, jitter=jitter, stale_while_revalidate=0, stale_if_error=0, error_ttl=0, tags=())
