"""A bulkhead beside a slow one that keeps everybody in lists: starts, ends, cancellations, time jumps."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from resilience import (
    AdaptiveLimit,
    BulkheadFullError,
    CallTimeoutError,
    Priority,
    bulkhead,
    timeout,
)
from resilience._bulkhead_entrance import EVERY
from resilience._bulkhead_slots import FixedLimit, Permit
from tests.models.machines import AsyncMachine, as_test

# In a grid of powers of two, sums of floats are exact.
GRID = 1 / 8
steps = st.integers(0, 24).map(lambda number: number * GRID)
waits = st.none() | st.integers(0, 16).map(lambda number: number * GRID)
# Between the grid lines, so that no deadline and no end of a `max_wait` fall on one moment.
deadlines = st.none() | st.integers(0, 16).map(lambda number: number * GRID + GRID / 3)
LEVELS = list(Priority)


@dataclass
class Caller:
    name: int
    level: int
    due: float  # when it gives up waiting
    deadline: float  # when it is cut off, if it runs
    cancelled: bool = False
    resets: int = 0  # how many there had been when it got its slot


class SlowBulkhead:
    """The rules, as plainly as they can be written."""

    def __init__(self, limit: int, max_queue: float) -> None:
        self.limit = limit
        self.max_queue = max_queue
        self.running: list[Caller] = []
        self.waiting: list[Caller] = []  # in the order in which they came
        self.unaware: list[Caller] = []  # those with a slot who have not run since
        self.refused: set[int] = set()
        self.rejected = 0
        self.overtaken = 0
        self.resets = 0

    def arrive(self, caller: Caller, now: float) -> str:
        if not self.waiting and len(self.running) < self.limit:
            self.admit(caller)
            return "in"
        if caller.due > now and self.has_room(caller.level):
            self.waiting.append(caller)
            return "waits"
        self.refuse(caller)
        return "refused"

    def admit(self, caller: Caller) -> None:
        self.running.append(caller)
        caller.resets = self.resets

    def has_room(self, level: int) -> bool:
        if len(self.waiting) < self.max_queue:
            return True
        lower = [each for each in self.waiting[1:] if each.level > level]
        if not lower:
            return False
        lowest = max(each.level for each in lower)
        last = [each for each in lower if each.level == lowest][-1]
        self.waiting.remove(last)
        self.refuse(last)
        return True

    def refuse(self, caller: Caller) -> None:
        self.refused.add(caller.name)
        self.rejected += 1

    def end(self, caller: Caller) -> None:
        self.running.remove(caller)
        self.serve()

    def serve(self) -> None:
        while self.waiting and len(self.running) < self.limit:
            chosen = self.next()
            self.waiting.remove(chosen)
            self.admit(chosen)
            self.unaware.append(chosen)

    def next(self) -> Caller:
        highest = min(each.level for each in self.waiting)
        first = next(each for each in self.waiting if each.level == highest)
        if first is self.waiting[0] or self.overtaken == 9:
            self.overtaken = 0
            return self.waiting[0]
        self.overtaken += 1
        return first

    def give_up(self, now: float) -> None:
        for each in [each for each in self.waiting if each.due <= now]:
            self.waiting.remove(each)
            self.refuse(each)


class Scripted(FixedLimit):
    """A limit that becomes what it is told when the next call has ended well."""

    then = 0

    def record(self, started: float, now: float, in_flight: int, *, overloaded: bool) -> None:
        assert not overloaded
        self.limit = self.then or self.limit
        self.then = 0


class FailedError(Exception):
    """What a call ends with that is told to fail."""


class BulkheadMachine(AsyncMachine):
    """Callers come to one bulkhead in every form, and leave it in every way."""

    @initialize(
        kind=st.sampled_from(["straight", "priorities", "adaptive"]),
        limit=st.integers(1, 4),
        max_queue=st.sampled_from([0, 1, 2, 5, 15, None, None]),
        max_wait=waits,
    )
    def open(self, kind: str, limit: int, max_queue: int | None, max_wait: float | None) -> None:
        self.kind = kind
        self.initial = limit
        self.max_wait = math.inf if max_wait is None else max_wait
        self.policy = bulkhead(
            AdaptiveLimit(limit) if kind == "adaptive" else limit,
            max_queue=max_queue,
            max_wait=max_wait,
            priority=None if kind == "straight" else lambda name: LEVELS[self.callers[name].level],
        )
        if kind == "adaptive":
            self.policy.entrance._new_limit = lambda: Scripted(limit)
            self.policy.reset()
        self.slow = SlowBulkhead(limit, math.inf if max_queue is None else max_queue)
        self.guarded = self.policy(self.work)
        self.callers: dict[int, Caller] = {}
        self.tasks_of: dict[int, asyncio.Task[object]] = {}
        self.gates: dict[int, asyncio.Future[None]] = {}
        self.held: list[tuple[Caller, Permit]] = []
        self.began: list[int] = []
        self.expected: list[int] = []
        self.refused: set[int] = set()

    @property
    def time(self) -> float:
        return self.loop.now

    async def work(self, name: int) -> None:
        self.began.append(name)
        gate = self.gates[name] = self.loop.create_future()
        await gate

    async def come(self, name: int, form: str, seconds: float | None) -> None:
        async def enter() -> None:
            if form == "call":
                await self.guarded(name)
            else:
                async with self.policy:
                    await self.work(name)

        try:
            await (enter() if seconds is None else timeout(seconds)(enter)())
        except BulkheadFullError:
            self.refused.add(name)
        except (CallTimeoutError, FailedError):
            pass

    def running_tasks(self) -> list[int]:
        return [each.name for each in self.slow.running if each.name in self.tasks_of]

    def new_caller(self, level: int, seconds: float | None) -> Caller:
        now = self.time
        deadline = math.inf if seconds is None else now + seconds
        if self.kind == "straight":
            level = LEVELS.index(Priority.NORMAL)
        caller = Caller(len(self.callers), level, min(now + self.max_wait, deadline), deadline)
        self.callers[caller.name] = caller
        return caller

    # --- What callers do ------------------------------------------------------------------------------

    @rule(level=st.integers(0, 4), form=st.sampled_from(["call", "call", "block"]), seconds=deadlines)
    def arrives(self, level: int, form: str, seconds: float | None) -> None:
        self.settle()
        if form == "block" and self.kind != "straight":
            level = LEVELS.index(Priority.NORMAL)
        caller = self.new_caller(level, seconds)
        if self.slow.arrive(caller, self.time) == "in":
            self.expected.append(caller.name)
        self.tasks_of[caller.name] = self.start(self.come(caller.name, form, seconds))
        self.settle()

    @precondition(lambda self: self.running_tasks())
    @rule(data=st.data(), failed=st.booleans(), then=st.integers(1, 5))
    def ends(self, data: st.DataObject, failed: bool, then: int) -> None:
        self.settle()
        if not (names := self.running_tasks()):
            return
        name = data.draw(st.sampled_from(names))
        if failed:
            self.gates[name].set_exception(FailedError())
        else:
            self.gates[name].set_result(None)
            # After a reset, calls from before it teach the new limit nothing.
            if self.kind == "adaptive" and self.callers[name].resets == self.slow.resets:
                self.policy.entrance.one.limit.then = then
                self.slow.limit = then
        self.slow.end(self.callers[name])
        self.settle()

    @precondition(lambda self: self.running_tasks() or self.slow.waiting)
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        """Running, in the queue, or granted and not yet aware of it."""
        there = sorted({*self.running_tasks(), *(each.name for each in self.slow.waiting)})
        victim = self.callers[data.draw(st.sampled_from(there))]
        if victim.cancelled:
            return
        self.tasks_of[victim.name].cancel()
        if victim in self.slow.waiting:
            self.slow.waiting.remove(victim)
            self.settle()
            return
        if victim not in self.slow.unaware:
            self.slow.end(victim)
            self.settle()
            return
        victim.cancelled = True  # it passes the slot on when it runs

    # --- Slots that are taken and given back outside the loop -----------------------------------------

    @rule()
    def takes_a_slot_by_hand(self) -> None:
        self.settle()
        if self.slow.waiting or len(self.slow.running) >= self.slow.limit:
            return
        caller = self.new_caller(2, None)
        assert self.slow.arrive(caller, self.time) == "in"
        permit = self.policy.entrance.arrive(EVERY, Priority.NORMAL, "by hand")
        assert permit is not None
        self.held.append((caller, permit))

    @precondition(lambda self: self.held)
    @rule()
    def gives_a_slot_back_by_hand(self) -> None:
        """Whoever gets it does not know before the loop runs."""
        caller, permit = self.held.pop()
        self.policy.entrance.leave(permit)
        self.slow.end(caller)

    # --- What time and others do ----------------------------------------------------------------------

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.settle()
        end = self.time + seconds
        while (at := self.next_moment()) <= end:
            self.slow.give_up(at)
            for each in [each for each in self.slow.running if each.deadline <= at]:
                self.slow.end(each)
                self.resume()
        self.sleep(seconds)
        self.settle()

    def next_moment(self) -> float:
        dues = [each.due for each in self.slow.waiting] + [each.deadline for each in self.slow.running]
        return min(dues, default=math.inf)

    @precondition(lambda self: all(each.deadline == math.inf for each in self.there()))
    @rule(seconds=steps)
    def time_jumps(self, seconds: float) -> None:
        """The loop is busy in the meantime."""
        self.settle()
        self.loop.advance(seconds)

    def there(self) -> list[Caller]:
        return self.slow.waiting + self.slow.running

    @rule()
    def is_reset(self) -> None:
        self.settle()
        self.policy.reset()
        self.slow.rejected = 0
        self.slow.limit = self.initial
        self.slow.resets += 1
        self.slow.serve()
        self.settle()

    @rule()
    def settle(self) -> None:
        """Everyone runs whose turn has come, and who has waited long enough goes."""
        self.resume()
        self.slow.give_up(self.time)
        self.run()

    def resume(self) -> None:
        unaware = self.slow.unaware
        while unaware:
            each = unaware.pop(0)
            if each.cancelled:
                self.slow.end(each)
            else:
                self.expected.append(each.name)

    # --- What must be true ----------------------------------------------------------------------------

    @invariant()
    def both_agree(self) -> None:
        figures: dict[str, Any] = self.policy.snapshot()
        del figures["name"]
        assert figures == {
            "max_concurrent": self.slow.limit,
            "in_flight": len(self.slow.running),
            "queued": len(self.slow.waiting),
            "rejected": self.slow.rejected,
        }

    @invariant()
    def everyone_got_a_slot_in_the_right_order(self) -> None:
        assert self.began == self.expected
        assert self.refused == self.slow.refused - {
            each.name for each in self.callers.values() if each.name not in self.tasks_of
        }

    def teardown(self) -> None:
        while self.held:
            self.policy.entrance.leave(self.held.pop()[1])
        super().teardown()
        assert self.policy.snapshot()["in_flight"] == 0
        assert self.policy.snapshot()["queued"] == 0


test_bulkhead = as_test(BulkheadMachine)
