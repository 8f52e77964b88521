"""A process that runs for long ends with the memory it began with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

WORK = """
import asyncio, gc, json, tracemalloc
from resilience import (
    cached, circuit_breaker, map_errors, rate_limited, retry, stack, timeout, track_metrics
)

class Mapped(Exception): ...

failing = circuit_breaker(failure_threshold=50, recovery_timeout=0.01)
everything = stack(
    map_errors({LookupError: Mapped}),
    track_metrics("endurance"),
    cached(ttl=60, maxsize=100),
    timeout(60),
    retry(attempts=2, on=LookupError, wait=0),
    failing,
    rate_limited(10_000, per=0.001),
)
keyed = stack(
    circuit_breaker(key=lambda number: number, max_keys=100),
    rate_limited(1000, burst=1000, key=lambda number: number, max_keys=100),
)

@everything
async def one(number):
    if number % 4:
        await asyncio.sleep(0)
    if number % 3 == 0:
        raise LookupError(number)
    return number

@keyed
async def two(number):
    await asyncio.sleep(0)

async def batch(first, size):
    tasks = [asyncio.create_task(one(first + n)) for n in range(size // 2)]
    tasks += [asyncio.create_task(two(first + n)) for n in range(size // 2)]
    await asyncio.sleep(0)
    for task in tasks[::5]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

async def main():
    loop = asyncio.get_running_loop()
    tracemalloc.start()
    for first in range(0, 20_000, 200):
        await batch(first, 200)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for first in range(20_000, 200_000, 200):
        await batch(first, 200)
    await asyncio.sleep(0)  # the loop itself holds what it has just called
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    futures = [each for each in gc.get_objects() if isinstance(each, asyncio.Future)]
    print(json.dumps({
        "grown": after - before,
        "futures": len([each for each in futures if each is not asyncio.current_task()]),
        "timers": len([each for each in loop._scheduled if not each.cancelled()]),
    }))

asyncio.run(main())
"""


@pytest.mark.slow
def test_200_000_calls_leave_no_memory_no_task_and_one_timer_per_policy() -> None:
    path = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=path, check=False)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert left["grown"] < 2**20
    assert left["futures"] == 0
    assert left["timers"] <= 8
