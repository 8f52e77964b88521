"""`hedge` against a simulation that goes from one moment to the next, with all kinds of attempts."""

import asyncio
import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from resilience import RateLimitExceededError, hedge
from tests.support.virtual_time import now, run_virtually

SUCCESS, FAILURE, REJECTION = "success", "failure", "rejection"


@dataclass
class Plan:
    """What an attempt does: how long it takes, how it ends, and how long it takes to die."""

    seconds: float
    outcome: str
    dying: float


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """Attempts whose ends never fall on one moment, nor on that of a timer."""
    outcomes = st.sampled_from([SUCCESS, FAILURE, FAILURE, REJECTION])
    return [
        Plan(draw(st.integers(0, 6)) + 2.0 ** -(number + 4), draw(outcomes), draw(st.integers(0, 2)))
        for number in range(5)
    ]


@dataclass
class Course:
    """What became of a call: when attempts began, which one decided, and when the call was over."""

    started: list[float]
    decisive: int
    over: float


def simulate(plans: list[Plan], delay: float, max_hedges: int) -> Course:
    """Go from moment to moment; the attempt 0 is the first."""
    time, started, left = 0.0, [0.0], max_hedges
    running = {0: plans[0].seconds}
    due = delay if left else math.inf
    while running:
        number, end = min(running.items(), key=lambda each: each[1])
        time = min(end, due)
        if end < due:
            del running[number]
            if plans[number].outcome == SUCCESS:
                return Course(
                    started, number, time + max([plans[each].dying for each in running], default=0)
                )
            if plans[number].outcome == REJECTION or not left:
                continue
        left -= 1
        running[len(started)] = time + plans[len(started)].seconds
        started.append(time)
        due = time + delay if left else math.inf
    return Course(started, 0, time)


async def run(plans: list[Plan], delay: float, max_hedges: int, cancelled_after: float | None) -> Course:
    started: list[float] = []
    running: set[int] = set()

    @hedge(delay, max_hedges=max_hedges)
    async def call() -> int:
        number = len(started)
        plan = plans[number]
        started.append(now())
        running.add(number)
        try:
            await asyncio.sleep(plan.seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(plan.dying)
            raise
        finally:
            running.remove(number)
        if plan.outcome == SUCCESS:
            return number
        raise OSError(number) if plan.outcome == FAILURE else RateLimitExceededError(policy=str(number))

    task = asyncio.create_task(call())
    if cancelled_after is not None:
        await asyncio.wait([task], timeout=cancelled_after)
        task.cancel()
    await asyncio.wait([task])
    assert not running, "an attempt outlived its call"
    if task.cancelled():
        return Course(started, -1, now())
    error = task.exception()
    if error is None:
        return Course(started, task.result(), now())
    assert str(error.args[0] if isinstance(error, OSError) else error.policy) == "0", "not the first one's"
    return Course(started, 0, now())


@given(plans(), st.integers(0, 4), st.integers(1, 4))
def test_a_call_goes_as_simulated(plans: list[Plan], delay: int, max_hedges: int) -> None:
    expected = simulate(plans, delay, max_hedges)
    assert run_virtually(run(plans, delay, max_hedges, None)) == expected


@given(
    plans(), st.integers(0, 4), st.integers(1, 4), st.integers(0, 20).map(lambda number: number / 2 + 0.25)
)
def test_a_call_that_is_cancelled_goes_as_simulated_until_then(
    plans: list[Plan], delay: int, max_hedges: int, cancelled_after: float
) -> None:
    expected = simulate(plans, delay, max_hedges)
    course = run_virtually(run(plans, delay, max_hedges, cancelled_after))
    if expected.over < cancelled_after:
        assert course == expected
        return
    assert course.decisive == -1
    assert course.started == [each for each in expected.started if each < cancelled_after]
    most = max(plan.dying for plan in plans)
    assert cancelled_after <= course.over <= cancelled_after + 2 * most
