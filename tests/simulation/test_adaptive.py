"""What adaptive policies are for: a server that loses half of its capacity, and one that goes down.

Half of the capacity: callers give up after a quarter of a second, which is much for a server that answers
in 0.15 s. A fixed limit that was right before now lets in more than the server can answer in that time; it
goes on working for those who gave up, and answers nobody any more, until its capacity comes back. An
adaptive limit finds the new one.

Down: callers go on calling, and without a throttle the server gets all of it.

``python -m tests.simulation.test_adaptive`` or ``pytest -s`` shows the tables.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from resilience import (
    AdaptiveLimit,
    AdaptiveThrottle,
    Bulkhead,
    BulkheadFullError,
    CallTimeoutError,
    ThrottledError,
    adaptive_throttle,
    bulkhead,
    timeout,
)
from tests.simulation.backend import Backend, DownError
from tests.support.virtual_time import now, run_virtually

REFUSED = (BulkheadFullError, CallTimeoutError, ThrottledError, DownError)


class Traffic:
    """Calls at random moments, and what the server made of them in each second.

    Args:
        backend: The server.
        rate: Calls per second on average.
        seed: Of the moments.
    """

    def __init__(self, backend: Backend, rate: float, seed: int = 7) -> None:
        self.answered: list[int] = []
        self.received: list[int] = []
        self._backend = backend
        self._rate = rate
        self._random = random.Random(seed)

    async def run(self, call: Callable[[], Awaitable[object]], seconds: int) -> None:
        async with asyncio.TaskGroup() as callers:
            while now() < seconds:
                callers.create_task(_try(call))
                await asyncio.sleep(self._random.expovariate(self._rate))
                self._note(now())
        self._note(seconds + 1)

    def _note(self, at: float) -> None:
        while len(self.answered) < int(at):
            self.answered.append(self._backend.answered - sum(self.answered))
            self.received.append(self._backend.received - sum(self.received))


async def _try(call: Callable[[], Awaitable[object]]) -> None:
    with suppress(*REFUSED):
        await call()


def mean(counts: list[int], start: int, end: int) -> float:
    """Per second."""
    return sum(counts[start:end]) / (end - start)


# --- Half of the capacity is lost ---

FULL, HALF = 20, 10  # requests at once, of 0.1 s each: 200 and 100 per second
PATIENCE = 0.25
LOSS, RETURN, END = 15, 45, 75  # seconds

# What the full capacity needs at 200 requests per second and 0.15 s, network included (Little's law).
FIXED = 30


@dataclass
class Course:
    """Answers per second that came in time, and how the limit moved."""

    before: float
    at_half: float
    after: float
    limits: list[int] = field(default_factory=list)


def lose_half(limit: int | AdaptiveLimit) -> Course:
    return run_virtually(_lose_half(bulkhead(limit, max_queue=20, max_wait=0.1)))


async def _lose_half(slots: Bulkhead) -> Course:
    server = Backend(capacity=FULL, service_time=0.1, network=0.05)
    traffic = Traffic(server, rate=190)
    limits: list[int] = []

    def set_capacity(capacity: int) -> None:
        server.capacity = capacity

    loop = asyncio.get_running_loop()
    loop.call_at(LOSS, set_capacity, HALF)
    loop.call_at(RETURN, set_capacity, FULL)
    for second in range(0, END, 5):
        loop.call_at(second, lambda: limits.append(slots.snapshot()["max_concurrent"]))
    await traffic.run(slots(timeout(PATIENCE)(server.serve)), END)
    return Course(
        before=mean(traffic.answered, 5, LOSS),
        at_half=mean(traffic.answered, LOSS + 5, RETURN),
        after=mean(traffic.answered, RETURN + 15, END),
        limits=limits,
    )


LIMITS: dict[str, int | AdaptiveLimit] = {
    f"fixed limit of {FIXED}": FIXED,
    "AIMD": AdaptiveLimit(),
    "AIMD, slow_call=0.2": AdaptiveLimit(slow_call=0.2),
    "gradient": AdaptiveLimit(algorithm="gradient"),
}


def show_courses(courses: dict[str, Course]) -> None:
    print(f"\n{'answers per second in time':26}  before  at half  after  limit, every 5 s")
    for name, course in courses.items():
        figures = f"{course.before:6.0f}  {course.at_half:7.0f}  {course.after:5.0f}"
        print(f"{name:26}  {figures}  {' '.join(map(str, course.limits))}")


def test_an_adaptive_limit_finds_the_capacity_that_is_left() -> None:
    courses = {name: lose_half(limit) for name, limit in LIMITS.items()}
    show_courses(courses)
    fixed, *adaptive = courses.values()
    assert fixed.before > 180
    assert fixed.at_half < 10, "it answers nearly nobody in time"
    for course in adaptive:
        assert course.before > 0.9 * fixed.before, "adapting costs little while all is well"
        assert course.at_half > 80, "of the 100 per second that are possible"
        assert course.at_half > 8 * max(fixed.at_half, 1.0)
        assert course.after > 0.85 * fixed.after, "it finds the capacity that came back"


# --- All of it is lost ---

CALLS_PER_SECOND = 20
DOWN, UP, STOP = 60, 180, 420


@dataclass
class Load:
    """Requests per second that the server received."""

    before: float
    while_down: float
    late_while_down: float
    just_after: float
    at_the_end: float


def go_down(throttle: AdaptiveThrottle | None) -> Load:
    return run_virtually(_go_down(throttle))


async def _go_down(throttle: AdaptiveThrottle | None) -> Load:
    server = Backend(capacity=10)
    traffic = Traffic(server, rate=CALLS_PER_SECOND)

    def set_down(down: bool) -> None:
        server.is_down = down

    loop = asyncio.get_running_loop()
    loop.call_at(DOWN, set_down, True)
    loop.call_at(UP, set_down, False)
    await traffic.run(throttle(server.serve) if throttle else server.serve, STOP)
    return Load(
        before=mean(traffic.received, 0, DOWN),
        while_down=mean(traffic.received, DOWN, UP),
        late_while_down=mean(traffic.received, UP - 30, UP),
        just_after=mean(traffic.received, UP, UP + 30),
        at_the_end=mean(traffic.received, STOP - 30, STOP),
    )


def throttles() -> dict[str, AdaptiveThrottle | None]:
    """New ones, as they have state; the same draws each time."""
    return {
        "no throttle": None,
        "adaptive_throttle()": adaptive_throttle(random=random.Random(1).random),
        "window=10": adaptive_throttle(window=10, random=random.Random(1).random),
    }


def show_loads(loads: dict[str, Load]) -> None:
    print(f"\n{'requests per second':20}  before  in 2 min down  in the last 30 s  30 s up  4 min up")
    for name, load in loads.items():
        figures = f"{load.before:6.0f}  {load.while_down:13.0f}  {load.late_while_down:16.0f}"
        print(f"{name:20}  {figures}  {load.just_after:7.0f}  {load.at_the_end:8.0f}")


def test_a_throttle_takes_the_load_off_a_server_that_is_down() -> None:
    loads = {name: go_down(throttle) for name, throttle in throttles().items()}
    show_loads(loads)
    without, default, short = loads.values()
    for load in loads.values():
        assert load.before == pytest.approx(CALLS_PER_SECOND, rel=0.1), "nothing is rejected before"
        assert load.at_the_end == pytest.approx(CALLS_PER_SECOND, rel=0.1), "nor in the end"
    assert without.while_down == pytest.approx(CALLS_PER_SECOND, rel=0.1)
    assert default.while_down < 0.85 * without.while_down, "its window remembers the good minute before"
    assert default.late_while_down < 0.33 * without.late_while_down
    assert short.while_down < 0.25 * without.while_down
    assert short.late_while_down < 0.2 * without.late_while_down
    assert short.just_after > 2 * default.just_after, "a short window forgets an outage sooner"


if __name__ == "__main__":
    show_courses({name: lose_half(limit) for name, limit in LIMITS.items()})
    show_loads({name: go_down(throttle) for name, throttle in throttles().items()})
