"""Test what policies do: in virtual time, with their events recorded, and with faults injected."""

import asyncio
import time

from resilience import CircuitBreakerOpenError, circuit_breaker, retry, timeout
from resilience.testing import EventRecorder, inject_errors, inject_latency, run_virtually

slow = inject_latency(30)  # both are off until a test switches them on
flaky = inject_errors(ConnectionError, rate=0.5, seed=1)

breaker = circuit_breaker(failure_threshold=3, recovery_timeout=60)


@retry(attempts=4, on=(ConnectionError, TimeoutError), wait=[1, 10, 30])
@breaker
@timeout(5)
@slow
@flaky
async def get_user(login: str) -> str:
    return login.title()


async def some_failures_are_survived() -> None:
    with flaky.active():
        assert await get_user("ada") == "Ada"
    print(f"  failures: {flaky.snapshot()['injected']}, seconds: {asyncio.get_running_loop().time():g}")


async def a_server_that_hangs_opens_the_circuit() -> None:
    with EventRecorder() as events, slow.active():
        try:
            await get_user("ada")
        except CircuitBreakerOpenError as error:
            print(f"  {error}")
    events.assert_sequence("timeout.expired", "retry.scheduled", "circuit_breaker.opened", "retry.gave_up")
    for event in events.events:
        print(f"  {event.at:5g} s  {event.kind}")


def main() -> None:
    began = time.monotonic()
    print("Half of the calls fail:")
    run_virtually(some_failures_are_survived())
    breaker.reset()
    print("The server hangs:")
    run_virtually(a_server_that_hangs_opens_the_circuit())
    assert time.monotonic() - began < 10
    print("Minutes of waiting, in no time.")


if __name__ == "__main__":
    main()
