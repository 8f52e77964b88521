"""`early_refresh` of `cached`, and what runs in the background: how much, where, and how it ends."""

import asyncio
import gc
import math
import random
import weakref
from typing import Any

import pytest

import resilience._cache_load
from resilience import Event, cached
from resilience._cache_store import Entry
from tests.support.cache_sources import DictStore, Source, clock_ahead
from tests.support.virtual_time import advance, now, settle


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw is the mean: one scale ahead of the expiry."""
    monkeypatch.setattr("random.random", lambda: 1 - math.exp(-1))


# --- When it is due ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "seconds"), [(1.0, 2.0), (2.5, 2.0), (0.5, 6.0)])
@pytest.mark.parametrize("left_in_scales", [0.1, 0.5, 1.0, 2.0, 4.0])
async def test_the_chance_of_a_refresh_is_that_of_the_paper(
    beta: float, seconds: float, left_in_scales: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilience._cache_load, "MOST_REFRESHES", 10_000)
    random.seed(11)
    keys = 500
    source = Source(ttl=100, early_refresh=beta, seconds=seconds, maxsize=keys)
    await asyncio.gather(*map(source.load, range(keys)))
    advance(100 - left_in_scales * beta * seconds)
    before = now()
    assert await asyncio.gather(*map(source.load, range(keys))) == list(range(1, keys + 1))
    assert now() == before, "nobody waits for a refresh"
    await settle()
    chance = math.exp(-left_in_scales)
    refreshes = source.calls - keys
    assert abs(refreshes - keys * chance) < 4 * math.sqrt(keys * chance * (1 - chance))
    await source.policy.aclose()


async def test_each_call_draws_so_that_a_busy_key_is_refreshed_earlier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resilience._cache_load, "MOST_REFRESHES", 10_000)
    random.seed(12)
    keys, callers = 300, 5
    source = Source(ttl=100, early_refresh=1, seconds=2, maxsize=keys)
    await asyncio.gather(*map(source.load, range(keys)))
    advance(100 - 2 * 2)
    for _ in range(callers):
        await asyncio.gather(*map(source.load, range(keys)))
    chance = 1 - (1 - math.exp(-2)) ** callers
    refreshes = source.calls - keys
    assert abs(refreshes - keys * chance) < 4 * math.sqrt(keys * chance * (1 - chance))
    await source.policy.aclose()


async def test_nobody_waits_for_a_busy_key_once_it_is_known() -> None:
    random.seed(13)
    source = Source(ttl=20, early_refresh=1, seconds=1)
    await source.load()
    while now() < 400:
        before = now()
        await source.load()
        assert now() == before
        await asyncio.sleep(1 / 16)
    info = source.policy.info()
    assert (info.misses, info.coalesced, info.stale) == (1, 0, 0)
    assert 20 < source.calls < 30
    await source.policy.aclose()


@pytest.mark.parametrize("scale", [1, 3])
def test_what_is_drawn_is_between_the_expiry_and_long_before(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("key", 1, (), 0, 100, took=scale)
    monkeypatch.setattr("random.random", lambda: 0.0)  # the least that `random` returns
    assert not entry.is_due(math.nextafter(100, 0), 1)
    assert entry.is_due(100, 1)
    monkeypatch.setattr("random.random", lambda: 1 - 2**-53)  # the most
    assert entry.is_due(100 - 36 * scale, 1)
    assert not entry.is_due(100 - 37 * scale, 1)
    monkeypatch.setattr("random.random", lambda: 0.5)
    assert entry.is_due(100 - 0.69 * scale, 1)
    assert not entry.is_due(100 - 0.70 * scale, 1)
    assert entry.is_due(100 - 1.38 * scale, 2)
    assert not entry.is_due(100 - 1.40 * scale, 2)


async def test_until_ten_times_the_mean_before_the_expiry_nothing_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 1 - 2**-53)
    source = Source(ttl=100, early_refresh=2, seconds=0.5)
    await source.load()  # at 0.5, until 100.5, in 10 means of 2 * 0.5
    advance(89.5)
    await source.load()
    await settle()
    assert source.calls == 1
    advance(0.5)
    await source.load()
    await settle()
    assert source.calls == 2
    await source.policy.aclose()


@pytest.mark.usefixtures("drawn")
async def test_it_is_due_ahead_of_the_expiry_by_what_the_call_took_and_not_sooner() -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4)
    assert await source.load() == 1  # at 4 seconds, until 104
    advance(95.999)
    assert await source.load() == 1
    await settle()
    assert source.calls == 1
    advance(0.001)
    assert await source.load() == 1
    await settle()
    assert source.calls == 2
    await asyncio.sleep(4)
    assert await source.load() == 2
    assert source.policy.info().misses == 1
    assert (source.policy.info().hits, source.policy.info().stale) == (3, 0)


@pytest.mark.usefixtures("drawn")
async def test_the_next_one_is_due_by_what_the_refresh_took() -> None:
    source = Source(ttl=100, early_refresh=2, seconds=4)
    await source.load()
    advance(92)
    source.seconds = 1
    await source.load()
    await asyncio.sleep(1)  # at 97, until 197
    advance(97.999)
    await source.load()
    await settle()
    assert source.calls == 2
    advance(0.001)
    await source.load()
    await settle()
    assert source.calls == 3
    await asyncio.sleep(1)


async def test_it_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1 - 2**-53)
    source = Source(ttl=100, seconds=50)
    assert source.policy.config.early_refresh == 0
    await source.load()
    advance(99.999)
    assert await source.load() == 1
    await settle()
    assert source.calls == 1


@pytest.mark.usefixtures("drawn")
async def test_a_call_that_takes_no_time_is_not_refreshed_early() -> None:
    source = Source(ttl=100, early_refresh=50)
    await source.load()
    advance(99.999)
    await source.load()
    await settle()
    assert source.calls == 1


@pytest.mark.usefixtures("drawn")
async def test_a_clock_that_is_set_back_during_the_call_makes_no_negative_time() -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4)
    with clock_ahead(50):
        loading = asyncio.create_task(source.load())
        await settle()
    assert await loading == 1  # at 4, until 104, as it took from 50 to 4
    advance(99.5)
    assert await source.load() == 1
    await settle()
    assert source.calls == 1
    advance(0.5)
    assert await source.load() == 2


@pytest.mark.usefixtures("drawn")
async def test_all_who_come_while_it_is_due_share_one_refresh(events: list[Event]) -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4, maxsize=2)
    await source.load()
    advance(97)
    assert await asyncio.gather(*(source.load() for _ in range(50))) == [1] * 50
    await settle()
    assert source.calls == 2
    hits = [dict(event.attributes) for event in events if event.kind == "cache.hit"]
    assert hits == [{"reason": "refreshing"}] + [{}] * 49
    await asyncio.sleep(4)
    assert await source.load() == 2


@pytest.mark.usefixtures("drawn")
async def test_who_comes_after_the_expiry_joins_the_early_refresh() -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4)
    await source.load()
    advance(99)
    await source.load()
    await settle()
    advance(1)
    assert await source.load() == 2
    assert source.policy.info().coalesced == 1
    assert source.calls == 2


@pytest.mark.usefixtures("drawn")
async def test_a_value_that_is_being_refreshed_counts_as_used() -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4, maxsize=2)
    await source.load("a")
    await source.load("b")  # at 8 seconds
    advance(93)
    assert await source.load("a") == 1
    await settle()
    source.seconds = 0
    await source.load("c")
    assert source.policy.info().evictions == 1
    assert await source.load("a") == 1, "the one that was used last stays"
    await source.policy.aclose()


@pytest.mark.usefixtures("drawn")
async def test_t52_a_failed_early_refresh_is_told_and_tried_again(events: list[Event]) -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4)
    await source.load()
    advance(97)
    source.error = LookupError("down")
    source.seconds = 0
    for calls in (2, 3):
        assert await source.load() == 1
        await settle()
        assert source.calls == calls
    kinds = [event.kind for event in events if event.kind != "cache.hit"]
    assert kinds == ["cache.miss", "cache.refresh_failed", "cache.refresh_failed"]
    assert source.policy.info().stale == 0
    source.error = None
    assert await source.load() == 1
    await settle()
    assert await source.load() == 4


@pytest.mark.usefixtures("drawn")
async def test_a_remembered_error_pauses_early_refreshes_and_is_not_raised() -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4, error_ttl=2)
    await source.load()
    advance(97)
    source.error = LookupError("down")
    source.seconds = 0
    for _ in range(3):
        assert await source.load() == 1
        await settle()
    assert source.calls == 2
    advance(2)
    assert await source.load() == 1
    await settle()
    assert source.calls == 3


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("how", ["invalidate", "clear", "invalidate_tag"])
async def test_t38_what_is_invalidated_during_an_early_refresh_is_gone(how: str) -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4, tags="t")
    await source.load()
    advance(97)
    await source.load()
    await settle()
    getattr(source.policy, how)(*["t"] if how == "invalidate_tag" else [])
    assert await source.load() == 3
    await settle()
    assert await source.load() == 3


@pytest.mark.usefixtures("drawn")
async def test_a_result_that_must_not_be_kept_leaves_the_present_one() -> None:
    source = Source(ttl=100, early_refresh=1, seconds=4, condition=lambda result: result == 1)
    await source.load()
    advance(97)
    assert await source.load() == 1
    await asyncio.sleep(5)
    source.seconds = 0
    assert await source.load() == 3


@pytest.mark.usefixtures("drawn")
async def test_beyond_the_bound_nothing_is_refreshed_and_a_value_expires(
    monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    monkeypatch.setattr(resilience._cache_load, "MOST_REFRESHES", 2)
    source = Source(ttl=100, early_refresh=1, seconds=4)
    await asyncio.gather(*map(source.load, range(4)))
    advance(97)
    events.clear()
    assert [await source.load(key) for key in range(4)] == [1, 2, 3, 4]
    await settle()
    assert source.calls == 6
    assert [dict(event.attributes) for event in events] == [{"reason": "refreshing"}] * 2 + [{}] * 2
    await asyncio.sleep(4)
    assert await source.load(3) == 7


async def test_t52_a_hundred_refreshes_run_at_once_and_no_more() -> None:
    source = Source(ttl=10, stale_while_revalidate=5)
    for key in range(102):
        await source.load(key)
    advance(10)
    source.seconds = 1
    for key in range(102):
        await source.load(key)
    await settle()
    assert source.running == source.policy.snapshot()["in_flight"] == 100
    await source.policy.aclose()


# --- Over a shared store -------------------------------------------------------------------------------


def process(store: DictStore, **options: Any) -> Source:
    """Make what one of several processes on a store has."""
    return Source(store=store, ttl=100, early_refresh=1, seconds=4, key=lambda key=None: key, **options)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("memory_ttl", [0, 1000])
async def test_another_process_refreshes_by_what_the_call_took_there(memory_ttl: float) -> None:
    store = DictStore()
    one, two = process(store), process(store, memory_ttl=memory_ttl)
    assert await one.load() == 1
    ((_, entry),) = store.entries.values()
    assert entry.took == 4
    advance(50)
    assert await two.load() == 1
    advance(45.999)
    assert await two.load() == 1
    await settle()
    assert two.calls == 0
    advance(0.001)
    assert await two.load() == 1
    await settle()
    assert (one.calls, two.calls) == (1, 1)
    advance(100)
    await settle()
    await two.policy.aclose()


async def test_what_the_call_took_is_not_measured_for_nothing() -> None:
    store = DictStore()
    source = Source(store=store, seconds=4, key=lambda key=None: key)
    await source.load()
    ((_, entry),) = store.entries.values()
    assert entry.took == 0


async def test_each_process_draws_for_itself_and_looks_first_whether_another_was_quicker() -> None:
    random.seed(7)
    store = DictStore()
    processes = [process(store, memory_ttl=1000) for _ in range(30)]
    for each in processes:
        await each.load()
    assert sum(each.calls for each in processes) == 1
    advance(60)
    while now() < 114:  # each of them asks twice a second
        for each in processes:
            assert await each.load() in (1, 2)
        await asyncio.sleep(0.5)
    assert sum(each.policy.info().misses for each in processes) == 1, "nobody had to wait"
    assert 2 <= sum(each.calls for each in processes) <= 10, "few of them called, the others took the value"
    assert store.log.count("set") == sum(each.calls for each in processes)
    for each in processes:
        await each.policy.aclose()


# --- In the background: loops ----------------------------------------------------------------------------


def test_t52_refreshes_of_a_closed_loop_take_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resilience._cache_load, "MOST_REFRESHES", 2)
    policy = cached(ttl=0, stale_while_revalidate=1000)
    hang = False
    calls: list[int] = []

    @policy
    async def load(key: int) -> int:
        calls.append(key)
        if hang:
            await asyncio.Event().wait()
        return len(calls)

    async def leave_behind() -> None:
        nonlocal hang
        await load(1)
        await load(2)
        hang = True
        assert [await load(1), await load(2)] == [1, 2]
        await asyncio.sleep(0)
        hang = False

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(leave_behind())
    pending = asyncio.all_tasks(loop)
    assert len(pending) == 2
    loop.close()

    async def refresh() -> int:
        assert await load(1) == 1
        await settle()
        return await load(1)

    assert asyncio.run(refresh()) == 5
    assert policy.snapshot()["in_flight"] == 0
    gone = weakref.ref(loop)
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del loop, pending, task
    gc.collect()
    assert gone() is None, "nothing keeps a loop that is closed"


def test_t52_aclose_forgets_what_a_closed_loop_left_behind() -> None:
    policy = cached(ttl=0, stale_while_revalidate=1000)
    hang = asyncio.Event()

    @policy
    async def load() -> int:
        if hang.is_set():
            await asyncio.Event().wait()
        return 1

    async def leave_behind() -> None:
        await load()
        hang.set()
        await load()
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_behind())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert policy.snapshot()["in_flight"] == 1
    asyncio.run(policy.aclose())
    assert policy.snapshot()["in_flight"] == 0


def test_t64_a_refresh_ends_with_its_loop_and_the_next_loop_refreshes_again() -> None:
    policy = cached(ttl=0, stale_while_revalidate=1000)
    cancelled: list[int] = []
    calls: list[int] = []

    @policy
    async def load() -> int:
        calls.append(1)
        number = len(calls)
        if number > 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
        return number

    async def refresh() -> int:
        value = await load()
        await asyncio.sleep(0)
        return value

    assert [asyncio.run(refresh()) for _ in range(4)] == [1] * 4
    assert cancelled == [2, 3, 4]
    assert policy.snapshot()["in_flight"] == 0
    assert policy.snapshot()["refresh_failures"] == 0


@pytest.mark.parametrize("turns", range(6))
async def test_t52_a_cancelled_aclose_has_cancelled_the_refreshes_all_the_same(turns: int) -> None:
    ended: list[str] = []
    policy = cached(ttl=0, stale_while_revalidate=1000)

    @policy
    async def load(key: str) -> str:
        if ended or policy.info().misses > 2 or policy.info().stale:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0)
                ended.append(key)
        return key

    await load("a")
    await load("b")
    assert [await load("a"), await load("b")] == ["a", "b"]
    await settle()
    closing = asyncio.create_task(policy.aclose())
    await settle(turns)
    closing.cancel()
    await settle()
    assert sorted(ended) == (["a", "b"] if turns else [])
    await policy.aclose()
    assert sorted(ended) == ["a", "b"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
