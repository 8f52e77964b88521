"""What a retry budget is for: 200 clients, and a server that fails everything for a minute.

Each client calls three times in two seconds. In the outage everybody retries, and without a budget the
server gets three times its load just when it can bear it least. A budget counts per policy object, so the
figures depend on how many of them there are: one for 200 clients in a process, or one in each of 200
processes. There a floor of 10 retries a second is more than such a client makes, so it limits nothing: it
has to be divided by the number of processes. ``pytest -s`` shows the table.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from resilience import Retry, RetryBudget, retry
from tests.simulation.backend import Backend, DownError
from tests.support.virtual_time import now, run_virtually

CLIENTS = 200
CALLS_PER_SECOND = 1.5  # of each client
BEFORE, OUTAGE, AFTER = 10, 60, 10


@pytest.fixture(autouse=True)
def _same_waits_each_time() -> Iterator[None]:
    state = random.getstate()
    random.seed(1)
    yield
    random.setstate(state)


@dataclass
class Load:
    """What the server received, each second, and what the clients saw."""

    normal: float
    received: list[int] = field(default_factory=list)
    calls: int = 0
    failed_before: int = 0
    failed_after: int = 0

    @property
    def in_outage(self) -> list[int]:
        return self.received[BEFORE : BEFORE + OUTAGE]

    @property
    def times(self) -> float:
        """The load in the outage, in times of the normal one."""
        return sum(self.in_outage) / (self.normal * OUTAGE)

    @property
    def worst_second(self) -> float:
        return max(self.in_outage) / self.normal


def simulate(policies: list[Retry], clients: int = CLIENTS) -> Load:
    return run_virtually(_simulate(policies, clients))


async def _simulate(policies: list[Retry], clients: int) -> Load:
    server = Backend(capacity=100, service_time=0.1)
    load = Load(normal=clients * CALLS_PER_SECOND)
    starts = random.Random(2)
    async with asyncio.TaskGroup() as group:
        for client in range(clients):
            send = policies[client % len(policies)](server.serve)
            group.create_task(_call_regularly(send, starts.uniform(0, 1 / CALLS_PER_SECOND), load))
        for second in range(BEFORE + OUTAGE + AFTER):
            server.is_down = BEFORE <= second < BEFORE + OUTAGE
            before = server.received
            await asyncio.sleep(1)
            load.received.append(server.received - before)
    return load


async def _call_regularly(send: Callable[[], "asyncio.Future[None]"], start: float, load: Load) -> None:
    for number in range(int((BEFORE + OUTAGE + AFTER) * CALLS_PER_SECOND)):
        await asyncio.sleep(max(0, start + number / CALLS_PER_SECOND - now()))
        load.calls += 1
        began = now()
        try:
            await send()
        except DownError:
            load.failed_before += began < BEFORE - 1
            load.failed_after += began > BEFORE + OUTAGE


def alone(budget: RetryBudget | None) -> Retry:
    return retry(attempts=3, on=DownError, budget=budget)


def test_a_retry_budget_keeps_an_outage_from_being_multiplied() -> None:
    floor = 10 / CLIENTS
    cases = {
        "no budget": [alone(None)],
        "one process, the default budget": [retry(attempts=3, on=DownError)],
        "200 processes, the default floor of 10/s each": [alone(RetryBudget()) for _ in range(CLIENTS)],
        "200 processes, a floor of 0.05/s each": [
            alone(RetryBudget(min_per_second=floor)) for _ in range(CLIENTS)
        ],
    }
    loads = {name: simulate(policies) for name, policies in cases.items()}
    print(f"\n{'':46}  load in the outage  worst second")
    for name, load in loads.items():
        print(f"{name:46}  {load.times:16.2f} x  {load.worst_second:10.2f} x")

    without, shared, too_high, divided = loads.values()
    assert shared.times < 1.25
    assert divided.times < 1.25
    assert without.times > 2.9
    assert too_high.times > 2.9, "each floor for itself: that is why the docs tell to divide it"
    for load in loads.values():
        assert load.failed_before == load.failed_after == 0
        assert load.calls == CLIENTS * 120
        assert sum(load.received[-5:]) == pytest.approx(5 * load.normal, rel=0.02), "back to normal"


def test_a_client_that_rarely_calls_never_notices_the_budget() -> None:
    without, by_default = (simulate([alone(budget)], clients=1) for budget in (None, RetryBudget()))
    assert without.times == pytest.approx(3, rel=0.01)
    assert by_default.times == pytest.approx(3, rel=0.01)
