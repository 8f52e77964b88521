"""`adaptive_throttle` against a list of all requests, each with its slice of the window."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from resilience import CircuitBreakerOpenError, ThrottledError, adaptive_throttle
from tests.models.machines import AsyncMachine, as_test

SLICES = 20


class ThrottleMachine(AsyncMachine):
    """Calls that begin, end in every way, are rejected or cancelled, while time passes."""

    @initialize(
        ratio=st.sampled_from([1.0, 1.5, 2.0]),
        minimum=st.sampled_from([1, 3, 8]),
        most=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    )
    def open(self, ratio: float, minimum: int, most: float) -> None:
        self.ratio, self.minimum, self.most = ratio, minimum, most
        self.draw = 0.0
        self.policy = adaptive_throttle(
            ratio,
            window=float(SLICES),
            minimum_calls=minimum,
            max_rejection_rate=most,
            on=OSError,
            random=lambda: self.draw,
        )
        self.requests: list[tuple[int, bool]] = []  # in which second, accepted
        self.running: list[tuple[asyncio.Task[object], asyncio.Future[None]]] = []
        self.rejected = 0
        self.serve = self.policy(self.wait)

    async def wait(self, answer: asyncio.Future[None]) -> None:
        await answer

    def recent(self) -> list[bool]:
        second = int(self.loop.now)
        return [accepted for at, accepted in self.requests if at > second - SLICES]

    def chance(self) -> float:
        recent = self.recent()
        if len(recent) < self.minimum or all(recent):
            return 0.0
        requests = len(recent) + len(self.running) * recent.count(False) / len(recent)
        return min(self.most, max(0.0, (requests - self.ratio * sum(recent)) / (requests + 1)))

    @rule(draw=st.floats(0, 1, exclude_max=True))
    def begin(self, draw: float) -> None:
        self.draw = draw
        chance = self.chance()
        if abs(draw - chance) < 1e-9:
            return
        answer = self.loop.create_future()
        task = self.start(self.serve(answer))
        self.run()
        if draw < chance:
            assert isinstance(task.exception(), ThrottledError)
            self.requests.append((int(self.loop.now), False))
            self.rejected += 1
        else:
            assert not task.done()
            self.running.append((task, answer))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), accepted=st.booleans())
    def end(self, data: st.DataObject, accepted: bool) -> None:
        _, answer = self.pick(data)
        if accepted:
            answer.set_result(None)
        else:
            answer.set_exception(OSError())
        self.run()
        self.requests.append((int(self.loop.now), accepted))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["rejected further in", "not in on", "cancelled"]))
    def end_as_nothing(self, data: st.DataObject, how: str) -> None:
        task, answer = self.pick(data)
        if how == "cancelled":
            task.cancel()
        elif how == "not in on":
            answer.set_exception(KeyError())
        else:
            answer.set_exception(CircuitBreakerOpenError())
        self.run()
        assert task.done()

    def pick(self, data: st.DataObject) -> tuple[asyncio.Task[object], asyncio.Future[None]]:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))

    @rule(many=st.integers(1, 30), accepted=st.booleans())
    def many_one_after_another(self, many: int, accepted: bool) -> None:
        self.policy.reset()  # also drops what would reject them
        self.requests.clear()
        self.draw = 1 - 1e-12
        for _ in range(many):
            answer = self.loop.create_future()
            if accepted:
                answer.set_result(None)
            else:
                answer.set_exception(OSError())
            task = self.start(self.serve(answer))
            self.run()
            assert accepted == (task.exception() is None)
            self.requests.append((int(self.loop.now), accepted))

    @rule(seconds=st.sampled_from([0.25, 1.0, 1.5, 7.0, 19.0, 20.0, 300.0]))
    def time_passes(self, seconds: float) -> None:
        self.sleep(seconds)

    @rule()
    def reset(self) -> None:
        self.policy.reset()
        self.requests.clear()

    @invariant()
    def the_figures_agree(self) -> None:
        if not hasattr(self, "policy"):
            return
        snapshot = self.policy.snapshot()
        recent = self.recent()
        assert (snapshot["requests"], snapshot["accepts"]) == (len(recent), sum(recent))
        assert (snapshot["running"], snapshot["rejected"]) == (len(self.running), self.rejected)
        assert snapshot["rejection_rate"] == pytest.approx(self.chance(), abs=1e-9)


test_adaptive_throttle_agrees_with_the_list_of_requests = as_test(ThrottleMachine)
