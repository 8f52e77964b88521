"""State per key against lists: which keys have a place of their own, and what each of them owes."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience import rate_limited
from resilience._keys import KeyTable
from tests.models.line_machine import GRID, costs, steps
from tests.models.machines import AsyncMachine, as_test
from tests.models.slow_limiters import Caller, SlowBucket, SlowLine, SlowTable, SlowWindow

FALSY: list[Hashable] = [None, 0, "", (), b"", frozenset()]
keys = st.sampled_from(FALSY) | st.integers(1, 25)


class State:
    """Idle or not, as it is told."""

    def __init__(self) -> None:
        self.idle = True

    def is_idle(self, now: float) -> bool:
        return self.idle


class TableMachine(RuleBasedStateMachine):
    """The table alone."""

    @initialize(max_keys=st.integers(1, 20))
    def open(self, max_keys: int) -> None:
        self.table = KeyTable(State, max_keys)
        self.slow = SlowTable(max_keys)
        self.states: dict[Hashable, State] = {}
        self.overflow: State | None = None

    @rule(key=keys, busy=st.booleans())
    def a_key_is_used(self, key: Hashable, busy: bool) -> None:
        idle = {key for key, state in self.states.items() if state.idle}
        has_place, gone = self.slow.admit(key, idle)
        for each in gone:
            del self.states[each]
        state = self.table.at(key, 0)
        if not has_place:
            assert state is (self.overflow or state)
            assert state not in self.states.values()
            self.overflow = state
        else:
            assert state is self.states.setdefault(key, state)
            assert state is not self.overflow
            state.idle = state.idle and not busy

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def a_penalty_ends(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.states)))
        self.states[key].idle = True

    @rule(key=keys)
    def looking_is_not_using(self, key: Hashable) -> None:
        assert self.table.peek(key) is self.states.get(key)

    @rule()
    def is_cleared(self) -> None:
        self.table.clear()
        self.slow.order, self.states, self.overflow = [], {}, None

    @invariant()
    def both_agree(self) -> None:
        assert list(self.table.items()) == [(key, self.states[key]) for key in self.slow.order]
        overflow = [] if self.overflow is None else [self.overflow]
        assert list(self.table) == [self.states[key] for key in self.slow.order] + overflow
        assert len(self.table) == len(self.slow.order) <= self.slow.max_keys


class KeyedLimitMachine(AsyncMachine):
    """A keyed limit in use: with lines of its keys, while keys come and go."""

    @initialize(
        max_keys=st.integers(1, 4),
        capacity=st.integers(1, 3),
        bucket=st.booleans(),
        per=st.sampled_from([0.5, 1.0, 2.0]),
        max_wait=st.none() | st.integers(0, 8).map(lambda number: number * GRID),
    )
    def open(self, max_keys: int, capacity: int, bucket: bool, per: float, max_wait: float | None) -> None:
        self.capacity, self.max_wait = capacity, max_wait
        # A bucket that drips in a power of two, whatever it holds
        rate = 4 if bucket else capacity
        self.policy = rate_limited(
            rate,
            per=per,
            burst=capacity if bucket else None,
            max_wait=max_wait,
            max_keys=max_keys,
            key=lambda key: key,
        )
        self.decorated = self.policy(self.work)
        self.fresh = lambda: SlowLine(
            SlowBucket(rate, per, capacity) if bucket else SlowWindow(rate, Fraction(per))
        )
        self.table = SlowTable(max_keys)
        self.lines: dict[Hashable, SlowLine] = {}
        self.overflow = self.fresh()
        self.callers: dict[int, tuple[Caller, SlowLine]] = {}
        self.tasks_of: dict[int, asyncio.Task[object]] = {}
        self.served: dict[int, float] = {}
        self.expected: dict[int, float] = {}

    async def work(self, key: Hashable) -> None:
        """What is decorated."""

    @property
    def time(self) -> Fraction:
        return Fraction(self.loop.now)

    @property
    def all_lines(self) -> list[SlowLine]:
        return [*self.lines.values(), self.overflow]

    def line_of(self, key: Hashable) -> SlowLine:
        idle = {
            key
            for key, line in self.lines.items()
            if not line.waiting and line.limiter.available(self.time) == self.capacity
        }
        has_place, gone = self.table.admit(key, idle)
        for each in gone:
            del self.lines[each]
        return self.lines.setdefault(key, self.fresh()) if has_place else self.overflow

    @rule(key=keys, cost=costs, decorated=st.booleans())
    def arrives(self, key: Hashable, cost: int, decorated: bool) -> None:
        cost = 1 if decorated else min(cost, self.capacity)
        self.settle()
        name = len(self.tasks_of)
        self.tasks_of[name] = self.start(self.come(name, key, cost, decorated))
        caller, line = Caller(name, Fraction(cost)), self.line_of(key)
        if line.arrive(caller, self.time, self.max_wait) is None:
            self.callers[name] = caller, line
        self.settle()
        refused = self.tasks_of[name].done() and self.tasks_of[name].exception() is not None
        assert refused is (name not in self.callers)

    async def come(self, name: int, key: Hashable, cost: int, decorated: bool) -> None:
        await (self.decorated(key) if decorated else self.policy.at(key).acquire(cost))
        self.served[name] = self.loop.now

    @rule(key=keys, cost=costs)
    def tries(self, key: Hashable, cost: int) -> None:
        cost = min(cost, self.capacity)
        line = self.line_of(key)
        fits = line.arrive(Caller(-1, Fraction(cost)), self.time, 0) is None
        assert self.policy.at(key).try_acquire(cost) is fits

    @precondition(lambda self: set(self.callers) - set(self.expected))
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(set(self.callers) - set(self.expected))))
        caller, line = self.callers.pop(name)
        self.tasks_of[name].cancel()
        line.leave(caller, self.time)
        self.settle()
        assert self.tasks_of[name].cancelled()

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.settle()
        end = self.time + Fraction(seconds)
        for line in self.all_lines:
            at = self.time
            while (due := line.next_turn(at)) is not None and due <= end:
                at = due
                line.serve(at)
        self.resume()
        self.sleep(seconds)
        self.settle()

    @rule(seconds=steps)
    def time_jumps(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @rule()
    def settle(self) -> None:
        for line in self.all_lines:
            line.serve(self.time)
        self.resume(self.time)
        self.run()

    def resume(self, now: Fraction | None = None) -> None:
        for name, (caller, _) in self.callers.items():
            if caller.taken_at is not None:
                self.expected.setdefault(name, float(caller.taken_at if now is None else now))

    @rule(key=keys)
    def a_key_is_reset(self, key: Hashable) -> None:
        self.settle()
        self.policy.at(key).reset()
        if key in self.lines:
            self.lines[key].reset(self.time)

    @rule()
    def is_reset(self) -> None:
        self.settle()
        self.policy.reset()
        for line in self.all_lines:
            line.reset(self.time)

    @invariant()
    def both_agree(self) -> None:
        state = self.policy.snapshot()
        assert state["keys"] == len(self.lines)
        assert state["waiting"] == sum(len(line.waiting) for line in self.all_lines)
        for key in FALSY:
            line = self.lines.get(key, self.fresh())
            state = self.policy.at(key).snapshot()
            assert state["available"] == line.limiter.available(self.time)
            assert state["waiting"] == len(line.waiting)
        assert self.served == self.expected


test_key_table = as_test(TableMachine)
test_keyed_limit = as_test(KeyedLimitMachine)
