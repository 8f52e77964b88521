"""A limiter in use: callers who come, wait, are refused or cancelled, while time passes or jumps."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from resilience import RateLimit, RateLimitExceededError, rate_limited, timeout
from tests.models.machines import AsyncMachine
from tests.models.slow_limiters import Caller, SlowLimiter, SlowLine

# In a grid of powers of two, sums of floats are exact: real and slow ones must agree to the last bit.
GRID = 1 / 8
steps = st.integers(0, 24).map(lambda number: number * GRID)
costs = st.integers(1, 4)
waits = st.none() | st.integers(0, 16).map(lambda number: number * GRID)
# Between the grid lines, so that no deadline and turn fall on one moment.
deadlines = st.none() | st.integers(0, 16).map(lambda number: number * GRID + GRID / 3)


async def work(cost: int) -> None:
    """What the decorated functions do."""


class LineMachine(AsyncMachine):
    """Two policies share one limiter; the subclass makes it, and says how the slow one is made."""

    limiter: Any
    slow: SlowLimiter
    capacity: int

    @initialize(data=st.data(), impatience=waits, plain=st.booleans())
    def open(self, data: st.DataObject, impatience: float | None, plain: bool) -> None:
        self.make(data)
        self.impatience = impatience
        self.patient = rate_limited(self.limiter)
        self.impatient = rate_limited(self.limiter, max_wait=impatience)
        self.line = SlowLine(self.slow)
        self.callers: dict[int, Caller] = {}
        self.tasks_of: dict[int, asyncio.Task[object]] = {}
        self.with_deadline: set[int] = set()
        self.served: list[tuple[int, float]] = []
        self.expected: list[tuple[int, float]] = []
        self.refused: dict[int, float] = {}
        self.expected_refused: dict[int, float] = {}
        self.cost_functions = {
            each: rate_limited_by_cost(self.limiter, each.config.max_wait)(work)
            for each in (self.patient, self.impatient)
        }
        # Only a plain function with a cost of one has a straight path past the lock.
        self.plain_functions = {each: each(work) for each in (self.patient, self.impatient) if plain}

    def make(self, data: st.DataObject) -> None:
        """Set the limiter, the slow one, and the capacity."""
        raise NotImplementedError

    @property
    def time(self) -> Fraction:
        return Fraction(self.loop.now)

    @property
    def unaware(self) -> list[int]:
        """Those who have tokens and have not run since."""
        done = {name for name, _ in self.expected}
        return [
            name for name, each in self.callers.items() if each.taken_at is not None and name not in done
        ]

    # --- What callers do ------------------------------------------------------------------------------

    @rule(
        cost=costs,
        patient=st.booleans(),
        way=st.sampled_from(["acquire", "cost", "plain"]),
        seconds=deadlines,
    )
    def arrives(self, cost: int, patient: bool, way: str, seconds: float | None) -> None:
        policy = self.patient if patient else self.impatient
        cost = 1 if way == "plain" else min(cost, self.capacity)
        self.settle()
        caller = Caller(len(self.tasks_of), Fraction(cost))
        task = self.start(self.come(policy, cost, way, caller.name, seconds))
        self.tasks_of[caller.name] = task
        limits = [each for each in (policy.config.max_wait, seconds) if each is not None]
        wait = self.line.arrive(caller, self.time, min(limits, default=None))
        if wait is None:
            self.callers[caller.name] = caller
            if seconds is not None:
                self.with_deadline.add(caller.name)
        else:
            self.expected_refused[caller.name] = float(wait)
        self.settle()

    async def come(self, policy: RateLimit, cost: int, way: str, name: int, seconds: float | None) -> None:
        async def enter() -> None:
            if way == "plain" and policy in self.plain_functions:
                await self.plain_functions[policy](cost)
            elif way == "cost":
                await self.cost_functions[policy](cost)
            elif way == "plain":
                async with policy:
                    pass
            else:
                await policy.acquire(cost)

        try:
            await (enter() if seconds is None else timeout(seconds)(enter)())
        except RateLimitExceededError as error:
            self.refused[name] = error.retry_after
        else:
            self.served.append((name, self.loop.now))

    @rule(cost=costs, patient=st.booleans())
    def tries(self, cost: int, patient: bool) -> None:
        cost = min(cost, self.capacity)
        caller = Caller(-1, Fraction(cost))
        fits = self.line.arrive(caller, self.time, 0) is None
        # A turn that has just come is not waited for either, but a place in line would be.
        assert (self.patient if patient else self.impatient).try_acquire(cost) is fits
        assert caller not in self.line.waiting

    @precondition(lambda self: self.line.waiting or self.unaware)
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        there = [each.name for each in self.line.waiting] + self.unaware
        victim = data.draw(st.sampled_from(sorted(there)))
        self.tasks_of[victim].cancel()
        self.line.leave(self.callers.pop(victim), self.time)
        self.settle()
        assert self.tasks_of[victim].cancelled()

    # --- What time and others do ----------------------------------------------------------------------

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.settle()
        end = self.time + Fraction(seconds)
        at = self.time
        while (due := self.line.next_turn(at)) is not None and due <= end:
            at = due
            self.line.serve(at)
            self.resume(at)
        self.sleep(seconds)
        self.settle()

    @precondition(lambda self: not self.with_deadline.intersection(each.name for each in self.line.waiting))
    @rule(seconds=steps)
    def time_jumps(self, seconds: float) -> None:
        """The loop is busy in the meantime."""
        self.loop.advance(seconds)

    @rule()
    def settle(self) -> None:
        """Everyone runs whose turn has come."""
        self.line.serve(self.time)
        self.resume(self.time)
        self.run()

    @rule()
    def is_reset(self) -> None:
        self.settle()
        self.patient.reset()
        self.line.reset(self.time)

    def resume(self, at: Fraction) -> None:
        self.expected += [(name, float(at)) for name in self.unaware]

    # --- What must be true ----------------------------------------------------------------------------

    @invariant()
    def both_agree(self) -> None:
        state = self.patient.snapshot()
        assert state["waiting"] == len(self.line.waiting)
        assert state["available"] == self.slow.available(self.time)

    @invariant()
    def everyone_got_the_turn_at_its_time(self) -> None:
        assert self.served == self.expected
        assert self.refused == self.expected_refused

    def teardown(self) -> None:
        super().teardown()
        assert self.limiter.line is None


def rate_limited_by_cost(limiter: Any, max_wait: float | None) -> RateLimit:
    return rate_limited(limiter, max_wait=max_wait, cost=lambda cost: cost)
