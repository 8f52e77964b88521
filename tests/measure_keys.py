"""Drive a flood of distinct keys through a limiter and a breaker that remember 10,000, and measure.

Before the flood some keys are penalised: their tokens are used up, or their circuit is open. While it
lasts, and at its end, each of them must owe exactly what it would owe if it were alone; and the memory of
the table must not grow once it is full. A slow flood leaves keys behind that are idle and make room; a
fast one leaves keys that owe something themselves, so that nothing can be evicted.

    python tests/measure_keys.py [COUNT]

prints time and memory for a million keys, or COUNT. Time is virtual, so the figures do not depend on it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from resilience import CircuitState, Policy, RejectedError, _clock, circuit_breaker, rate_limited

MAX_KEYS = 10_000
RECOVERY = 100.0
"""Seconds after which a penalty ends by itself."""

CAPACITY = 100
PENALISED = [f"penalised {number}" for number in range(100)]
LOOKS = 20
"""How often it is looked during the flood whether the penalties are still there."""


class Clock:
    """Stands still until it is moved."""

    now = 0.0


@dataclass(frozen=True)
class Flood:
    """A flood of keys through one kind of policy.

    Attributes:
        make: Makes the policy.
        call: What is called; it fails for penalised keys of a breaker, or for all in a fast flood.
        calls: How many calls of a key are its penalty.
        owes: What must be true of a penalised key, so many seconds after its penalty.
        seconds: How long the flood lasts for each `MAX_KEYS` keys.
    """

    make: Callable[[], Any]
    call: Callable[[str], Any]
    calls: int
    owes: Callable[[Any, str, float], bool]
    seconds: float


async def succeed(key: str) -> None:
    """A call that does not fail."""


async def fail(key: str) -> None:
    """A call that always fails."""
    raise ConnectionError


async def fail_for_penalised(key: str) -> None:
    """A call that fails for those that are to be penalised."""
    if key.startswith("penalised"):
        raise ConnectionError


def has_dripped(policy: Any, key: str, passed: float) -> bool:
    """Whether a drained bucket holds what has dripped in since."""
    left = policy.at(key).snapshot()["available"]
    return abs(left - min(passed, RECOVERY) * CAPACITY / RECOVERY) < 1e-6


def is_full(policy: Any, key: str, passed: float) -> bool:
    """Whether a window has not let go of any admission before its time."""
    return policy.at(key).snapshot()["available"] == (CAPACITY if passed >= RECOVERY else 0)


def is_open(policy: Any, key: str, passed: float) -> bool:
    """Whether a circuit is open until its time has come."""
    return passed >= RECOVERY or policy.at(key).state is CircuitState.OPEN


def itself(key: str) -> str:
    """Say which key a call has."""
    return key


def bucket() -> Policy:
    """Return a token bucket per key."""
    return rate_limited(CAPACITY, per=RECOVERY, burst=CAPACITY, max_wait=0, key=itself, max_keys=MAX_KEYS)


def window() -> Policy:
    """Return an exact window per key."""
    return rate_limited(CAPACITY, per=RECOVERY, max_wait=0, key=itself, max_keys=MAX_KEYS)


def breaker() -> Policy:
    """Return a circuit breaker per key."""
    return circuit_breaker(5, recovery_timeout=RECOVERY, key=itself, max_keys=MAX_KEYS)


FLOODS = {
    "bucket, slow": Flood(bucket, succeed, CAPACITY, has_dripped, seconds=5.0),
    "bucket, fast": Flood(bucket, succeed, CAPACITY, has_dripped, seconds=0.5),
    "window, slow": Flood(window, succeed, CAPACITY, is_full, seconds=150.0),
    "window, fast": Flood(window, succeed, CAPACITY, is_full, seconds=0.5),
    "breaker, slow": Flood(breaker, fail_for_penalised, 5, is_open, seconds=0.5),
    "breaker, fast": Flood(breaker, fail, 5, is_open, seconds=0.5),
}


@dataclass
class Result:
    """What a flood did: bytes held by the table once it was full, grown after that, and seconds."""

    held: int
    grown: int
    seconds: float


def drive(flood: Flood, count: int) -> Result:
    """Drive distinct keys through a policy.

    Raises:
        AssertionError: If a penalty was forgiven.
    """
    policy = flood.make()
    guarded = policy(flood.call)
    real = _clock.monotonic
    _clock.monotonic = lambda: Clock.now
    Clock.now = 0.0
    try:
        return asyncio.run(_drive(flood, policy, guarded, count))
    finally:
        _clock.monotonic = real


async def _drive(flood: Flood, policy: Any, guarded: Any, count: int) -> Result:
    async def call(key: str) -> None:
        with suppress(ConnectionError, RejectedError):
            await guarded(key)

    began_with = tracemalloc.get_traced_memory()[0]
    penalised_at = await _penalise(flood, call)
    held, seconds = 0, 0.0
    share = count // LOOKS
    for look in range(LOOKS):
        began = time.process_time()
        for number in range(look * share, (look + 1) * share):
            Clock.now += flood.seconds / MAX_KEYS
            await call(f"key {number}")
        seconds += time.process_time() - began
        passed = Clock.now - penalised_at
        forgiven = [key for key in PENALISED if not flood.owes(policy, key, passed)]
        assert not forgiven, f"{forgiven} owe less after {passed} seconds than they should"
        if passed >= RECOVERY:
            penalised_at = await _penalise(flood, call)
        if not held and (look + 1) * share >= 2 * MAX_KEYS:
            held = _traced() - began_with
    return Result(held, _traced() - began_with - held, seconds)


async def _penalise(flood: Flood, call: Callable[[str], Any]) -> float:
    for key in PENALISED:
        for _ in range(flood.calls):
            await call(key)
    return Clock.now


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def check(result: Result) -> None:
    """See to it that the memory is bounded.

    Raises:
        AssertionError: If it is not.
    """
    assert result.grown < 2**18, f"the table grew by {result.grown} bytes after it was full"


def main() -> None:
    """Measure the time alone, then the memory; tracing it makes everything slow."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{count:,} keys, {MAX_KEYS:,} remembered, {len(PENALISED)} penalised")
    for name, flood in FLOODS.items():
        seconds = drive(flood, count).seconds
        tracemalloc.start()
        result = drive(flood, count)
        tracemalloc.stop()
        check(result)
        print(
            f"{name:15} {seconds / count * 1e6:5.2f} us a call, {result.held / 1e6:5.2f} MB,"
            f" then {result.grown / 1e3:+.1f} kB; no penalty forgiven"
        )


if __name__ == "__main__":
    main()
