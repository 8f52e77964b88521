"""`cached` against a slow cache, in memory, in a shared store and in both: who is answered what."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from resilience import CacheEntry, cached
from resilience._cache_store import Entry
from tests.models.machines import AsyncMachine, as_test
from tests.models.slow_cache import Arguments, InStore, Load, SlowCache, tag_of
from tests.support.cache_sources import DictStore

# In a grid of powers of two, sums of floats are exact, so that each boundary is met.
GRID = 1 / 4
steps = st.integers(0, 40).map(lambda number: number * GRID)
keys = st.integers(0, 3)


def seconds(*choices: float) -> st.SearchStrategy[float]:
    return st.sampled_from(choices)


ARGUMENTS = st.builds(
    Arguments,
    ttl=seconds(4, 2, 0),
    maxsize=st.integers(1, 3),
    stale_while_revalidate=seconds(0, 1, 3),
    stale_if_error=seconds(0, 2, 5),
    error_ttl=seconds(0, 1, 4),
    early_refresh=seconds(0, 1, 2),
    draw=seconds(0.25, 0.5, 1, 2),
    is_shared=st.booleans(),
    memory_ttl=seconds(0, 0.5, 1, 8),
    most_refreshes=st.integers(1, 2),
)


FROM_ELSEWHERE = 10_000
"""Above this are the numbers of the loads in other processes."""


class LoadError(Exception):
    """What a load fails with; tells which one it was."""


class CacheMachine(AsyncMachine):
    """Callers who come, wait and leave; loads that end or fail; time that passes, jumps and is set back."""

    @initialize(arguments=ARGUMENTS, copies=st.booleans())
    def open(self, arguments: Arguments, copies: bool) -> None:
        if not arguments.is_shared:
            arguments.memory_ttl = 0
        self.slow = SlowCache(arguments, self.loop.time)
        self.set_back = 0.0
        self._entered.enter_context(mock.patch("resilience._clock.monotonic", self.clock))
        self.copies = copies
        self.gates: list[asyncio.Future[None]] = []
        self.callers: list[asyncio.Task[Any]] = []
        self.gone: set[int] = set()
        self.elsewhere = 0
        self.shared = DictStore() if arguments.is_shared else None

        def is_due(entry: Entry, now: float, early_refresh: float) -> bool:
            return now + arguments.draw * early_refresh * entry.took >= entry.expires_at

        self._entered.enter_context(mock.patch.object(Entry, "is_due", is_due))
        with mock.patch("resilience._cache_load.MOST_REFRESHES", arguments.most_refreshes):
            self.policy = cached(
                ttl=arguments.ttl,
                maxsize=arguments.maxsize,
                store=self.shared,
                memory_ttl=arguments.memory_ttl,
                stale_while_revalidate=arguments.stale_while_revalidate,
                stale_if_error=arguments.stale_if_error,
                error_ttl=arguments.error_ttl,
                early_refresh=arguments.early_refresh,
                copy=list if copies else None,
                tags=lambda key: f"tag {tag_of(key)}",
            )
        self.load = self.policy(self.function())

    def function(self) -> Any:
        async def load(key: int) -> list[int]:
            number = len(self.gates)
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            await gate
            return [number]

        return load

    async def caller(self, key: int) -> tuple[str, int]:
        try:
            value = await self.load(key)
        except LoadError as error:
            return "error", error.args[0]
        (number,) = value
        if self.copies:
            value.append("spoiled")
        return "value", number

    def clock(self) -> float:
        """What the clock of this process shows; the store's goes on when it is set back."""
        return self.loop.time() - self.set_back

    # --- Rules --------------------------------------------------------------------------------------

    @rule(key=keys, count=st.sampled_from([1, 1, 1, 3]))
    def come(self, key: int, count: int) -> None:
        for _ in range(count):
            self.slow.call(len(self.callers), key, self.clock())
            self.callers.append(self.start(self.caller(key)))
        self.slow.begin(self.clock())
        self.run()

    @precondition(lambda self: self.slow.running)
    @rule(data=st.data())
    def a_load_ends(self, data: st.DataObject) -> None:
        load = data.draw(st.sampled_from(self.slow.running))
        self.slow.succeed(load, self.clock())
        self.gates[load.number].set_result(None)
        self.run()

    @precondition(lambda self: self.slow.running)
    @rule(data=st.data())
    def a_load_fails(self, data: st.DataObject) -> None:
        load = data.draw(st.sampled_from(self.slow.running))
        self.slow.fail(load, self.clock())
        self.gates[load.number].set_exception(LoadError(load.number))
        self.run()

    def waiting(self) -> list[int]:
        return [caller for load in self.slow.running for caller in load.waiting]

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def a_caller_is_cancelled(self, data: st.DataObject) -> None:
        self.cancel(data.draw(st.sampled_from(self.waiting())))
        self.run()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def all_callers_of_a_load_are_cancelled(self, data: st.DataObject) -> None:
        load: Load = data.draw(st.sampled_from([each for each in self.slow.running if each.waiting]))
        for caller in list(load.waiting):
            self.cancel(caller)
        self.run()

    def cancel(self, caller: int) -> None:
        self.slow.leave(caller)
        self.gone.add(caller)
        self.callers[caller].cancel()

    @rule(step=steps)
    def time_passes(self, step: float) -> None:
        self.loop.advance(step)

    @rule(step=seconds(GRID, 1, 3))
    def the_clock_is_set_back(self, step: float) -> None:
        self.set_back += step

    @rule(key=keys)
    def invalidate(self, key: int) -> None:
        self.slow.forget([key])
        self.finish(self.policy.invalidate(key))

    @rule(tag=st.integers(0, 1))
    def invalidate_tag(self, tag: int) -> None:
        self.slow.forget_tag(tag)
        self.finish(self.policy.invalidate_tag(f"tag {tag}"))

    @rule()
    def clear(self) -> None:
        self.slow.forget_all()
        self.finish(self.policy.clear())

    @precondition(lambda self: self.shared)
    @rule(key=keys)
    def another_process_invalidates(self, key: int) -> None:
        self.slow.store.pop(key, None)
        self.shared.entries.pop(self.name(key), None)

    @precondition(lambda self: self.shared)
    @rule(key=keys, took=seconds(0, 1, 2))
    def another_process_stores(self, key: int, took: float) -> None:
        self.elsewhere += 1
        number = FROM_ELSEWHERE + self.elsewhere
        at, ttl = self.loop.time(), self.slow.arguments.ttl
        keep_for = ttl + self.slow.arguments.window
        self.slow.store[key] = InStore(number, at, ttl, keep_for, took)
        entry = CacheEntry([number], ttl, keep_for, (f"tag {tag_of(key)}",), took)
        self.shared.entries[self.name(key)] = (at, entry)

    def name(self, key: int) -> Any:
        """What the store knows a key by."""
        return self.policy._keys.of_call((key,), {})[0]

    @rule()
    def close(self) -> None:
        self.slow.close()
        self.finish(self.policy.aclose())

    def finish(self, awaitable: Any) -> None:
        async def wait() -> None:
            await awaitable

        self.loop.run_until_complete(wait())
        self.run()

    def teardown(self) -> None:
        try:
            if hasattr(self, "policy"):
                self.close()
        finally:
            super().teardown()
        if hasattr(self, "policy"):
            assert self.policy.snapshot()["in_flight"] == 0

    # --- What must hold at all times ------------------------------------------------------------------

    @invariant()
    def everybody_is_answered_alike(self) -> None:
        if not hasattr(self, "slow"):
            return
        assert len(self.gates) == len(self.slow.loads), "the function is called when it has to be"
        for caller, task in enumerate(self.callers):
            if caller in self.gone:
                assert task.cancelled()
            elif caller in self.slow.outcomes:
                assert task.result() == self.slow.outcomes[caller]
            else:
                assert not task.done()

    @invariant()
    def the_same_loads_are_under_way(self) -> None:
        if hasattr(self, "slow"):
            under_way = [load.number for load in self.slow.running]
            assert [number for number, gate in enumerate(self.gates) if not gate.done()] == under_way
            joinable = {load.key for load in self.slow.running if load.is_current}
            assert self.policy.snapshot()["in_flight"] == len(joinable)

    @invariant()
    def the_same_is_kept_and_counted(self) -> None:
        if not hasattr(self, "slow"):
            return
        counted, expected = self.policy.snapshot(), self.slow.counts
        assert {name: counted[name] for name in vars(expected)} == vars(expected)
        if self.shared is None:
            kept = len(self.slow.memory.things) + len(self.slow.errors.things)
            assert counted["size"] == kept
        else:
            stored = sorted(entry.value for _, entry in self.shared.entries.values())
            assert stored == sorted([each.value] for each in self.slow.store.values())


test_cache = as_test(CacheMachine)
