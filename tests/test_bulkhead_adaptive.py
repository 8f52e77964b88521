"""A bulkhead with an `AdaptiveLimit`: what it tells the limit, and how it follows."""

import asyncio
from typing import Any

import pytest

from resilience import (
    AdaptiveLimit,
    Bulkhead,
    BulkheadFullError,
    RejectedError,
    bulkhead,
)
from resilience._bulkhead_slots import FixedLimit
from tests.support.bulkheads import Work, cancel, start
from tests.support.virtual_time import advance, settle


@pytest.fixture
def work() -> Work:
    return Work()


class Recording(FixedLimit):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.records: list[tuple[float, float, int, bool]] = []

    def record(self, started: float, now: float, in_flight: int, *, overloaded: bool) -> None:
        self.records.append((started, now, in_flight, overloaded))


def recording(limit: int, monkeypatch: pytest.MonkeyPatch, **rest: Any) -> tuple[Bulkhead, list[Recording]]:
    states: list[Recording] = []

    def new_state(self: AdaptiveLimit) -> Recording:
        states.append(Recording(self.initial))
        return states[-1]

    monkeypatch.setattr(AdaptiveLimit, "new_state", new_state)
    return bulkhead(AdaptiveLimit(limit), **rest), states


ENDINGS = [
    (None, False),
    (TimeoutError(), True),
    (OSError(), None),
    (BulkheadFullError(retry_after=3), None),
    (RejectedError(retry_after=3), None),
    (asyncio.CancelledError(), None),
    (KeyboardInterrupt(), None),
]


@pytest.mark.parametrize("form", ["call", "block"])
@pytest.mark.parametrize(("error", "overloaded"), ENDINGS, ids=lambda each: type(each).__name__)
async def test_what_a_call_tells_an_adaptive_limit(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, overloaded: bool | None, form: str
) -> None:
    policy, states = recording(3, monkeypatch)
    await asyncio.sleep(1)

    async def fail() -> None:
        await asyncio.sleep(2)
        if error is not None:
            raise error

    async def in_block() -> None:
        async with policy:
            await fail()

    guarded = policy(fail) if form == "call" else in_block
    holder = start(policy(Work()), "a")
    await settle()
    if error is None:
        await guarded()
    else:
        with pytest.raises(type(error)):
            await guarded()
    expected = [] if overloaded is None else [(1.0, 3.0, 2, overloaded)]
    assert states[0].records == expected
    await cancel(holder)
    assert states[0].records == expected
    assert policy.snapshot()["in_flight"] == 0


async def test_a_wait_is_no_part_of_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, states = recording(1, monkeypatch, max_queue=5)
    await asyncio.gather(*(policy.call(asyncio.sleep, 2) for _ in range(3)))
    assert states[0].records == [(0, 2, 1, False), (2, 4, 1, False), (4, 6, 1, False)]


async def test_a_limit_that_grows_lets_several_in_and_one_that_shrinks_nobody(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, (state, *_) = recording(1, monkeypatch, max_queue=None)
    monkeypatch.setattr(Recording, "record", lambda self, *_, **__: setattr(self, "limit", limits.pop()))
    limits = [2, 1, 4]
    guarded = policy(work)
    tasks = [start(guarded, name) for name in "abcdefgh"]
    await settle()
    assert work.running == ["a"]
    await work.end("a")
    assert work.running == ["b", "c", "d", "e"]
    assert policy.snapshot()["max_concurrent"] == 4
    await work.end("b")
    assert work.running == ["c", "d", "e"]
    limits.append(1)
    await work.end("c")
    assert work.running == ["d", "e"]
    await work.end("d")
    assert state.limit == 2
    assert work.running == ["e", "f"]
    await cancel(*tasks)
    assert policy.snapshot()["in_flight"] == 0


async def test_an_error_of_the_users_predicate_gives_the_slot_back() -> None:
    def broken(error: Exception) -> bool:
        raise ZeroDivisionError

    policy = bulkhead(AdaptiveLimit(1, on=broken))

    async def fail() -> None:
        raise OSError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await policy.call(fail)
    assert policy.snapshot()["in_flight"] == 0


async def test_adaptive_limits_follow_overload_and_reset_begins_anew() -> None:
    policy = bulkhead(AdaptiveLimit(10, decrease=0.5))

    async def fail() -> None:
        await asyncio.sleep(1)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await policy.call(fail)
    assert policy.snapshot()["max_concurrent"] == 5
    policy.reset()
    assert policy.snapshot()["max_concurrent"] == 10


async def test_a_reset_that_raises_the_limit_lets_those_in_who_wait(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, states = recording(3, monkeypatch, max_queue=None)
    states[0].limit = 1
    tasks = [start(policy(work), name) for name in "abcd"]
    await settle()
    assert work.running == ["a"]
    advance(5)
    policy.reset()
    await settle()
    assert work.running == ["a", "b", "c"]
    advance(1)
    await work.end("b")
    assert states[-1].records == [(5.0, 6.0, 2, False)], "it began when it was let in"
    await cancel(*tasks)
