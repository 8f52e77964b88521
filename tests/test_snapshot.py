"""`resilience.snapshot()`: every live policy by name, for health pages."""

import asyncio
import gc
import json
import threading

import pytest

import resilience
from resilience import (
    CircuitBreakerOpenError,
    circuit_breaker,
    map_errors,
    rate_limited,
    retry,
    stack,
    timeout,
)


@pytest.fixture(autouse=True)
def _nothing_left_over() -> None:
    gc.collect()


async def echo(value: int = 0) -> int:
    return value


async def test_it_shows_state_and_counters_by_name() -> None:
    breaker = circuit_breaker(failure_threshold=1, name="snapshot of users")

    @retry(attempts=1, name="snapshot of users")
    @breaker
    async def fail() -> None:
        raise OSError

    for expected in (OSError, CircuitBreakerOpenError):
        with pytest.raises(expected):
            await fail()
    circuit, again = resilience.snapshot()["snapshot of users"]
    assert circuit == {
        **breaker.snapshot(),
        "name": "snapshot of users",
        "kind": "circuit_breaker",
        "policy": "circuit_breaker(failure_threshold=1)",
        "enabled": True,
    }
    assert (circuit["state"], circuit["rejected"]) == ("open", 1)
    assert (again["kind"], again["policy"]) == ("retry", "retry(attempts=1)")


def test_policies_of_one_name_stand_in_the_order_in_which_they_were_made() -> None:
    kept = [timeout(number + 1, name="snapshot order") for number in range(5)]
    shown = [each["policy"] for each in resilience.snapshot()["snapshot order"]]
    assert shown == [f"timeout({policy.config.seconds})" for policy in kept]


def test_a_policy_without_a_name_has_that_of_its_first_function() -> None:
    policy = timeout(3)
    policy(echo)
    (entry,) = [each for each in resilience.snapshot()["echo"] if each["policy"] == "timeout(3)"]
    assert entry == {"name": "echo", "kind": "timeout", "policy": "timeout(3)", "enabled": True}


def test_a_policy_that_is_switched_off_says_so() -> None:
    policy = rate_limited(5, name="snapshot off")
    policy.enabled = False
    (entry,) = resilience.snapshot()["snapshot off"]
    assert entry["enabled"] is False
    assert entry["available"] == 5


def test_a_stack_shows_its_order_in_one_line_beside_its_parts() -> None:
    limit, again = rate_limited(5, name="snapshot part"), retry(name="snapshot part")
    whole = stack(again, limit, name="snapshot whole")
    page = resilience.snapshot()
    assert [each["policy"] for each in page["snapshot whole"]] == ["stack(retry(), rate_limited(rate=5))"]
    assert [each["kind"] for each in page["snapshot part"]] == ["rate_limited", "retry"]
    assert whole.policies == (again, limit)


def test_it_is_plain_data() -> None:
    kept = [
        retry(),
        circuit_breaker(key=lambda key: key),
        rate_limited(1e300, burst=1e300, name="snapshot json"),
        resilience.cached(),
        resilience.bulkhead(1) if hasattr(resilience, "bulkhead") else retry(),
        map_errors({KeyError: OSError}),
        resilience.track_metrics(),
    ]
    page = resilience.snapshot()
    assert json.loads(json.dumps(page, allow_nan=False)) == page
    assert kept


def test_it_keeps_no_policy_alive() -> None:
    gc.collect()
    before = resilience.snapshot()
    for _ in range(100):
        policy = circuit_breaker(name="snapshot leak")
        policy(echo)
    assert len(resilience.snapshot()["snapshot leak"]) >= 1
    del policy
    gc.collect()
    assert "snapshot leak" not in resilience.snapshot()
    assert len(resilience.snapshot()) <= len(before)


def test_threads_may_make_policies_meanwhile() -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def make() -> None:
        try:
            while not stop.is_set():
                timeout(1, name="snapshot thread")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            resilience.snapshot()
    finally:
        stop.set()
    for thread in threads:
        thread.join(10)
    assert not errors


def test_it_needs_no_event_loop_and_works_in_one() -> None:
    policy = rate_limited(1, name="snapshot loop")

    async def main() -> None:
        await policy.call(echo)
        assert resilience.snapshot()["snapshot loop"][0]["available"] == 0

    asyncio.run(main())
    assert "snapshot loop" in resilience.snapshot()
