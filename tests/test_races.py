"""Who wins: each pair of events that may happen at once, in both orders."""

import asyncio
from typing import Any

import pytest

from resilience import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreakerOpenError,
    CircuitState,
    Priority,
    bulkhead,
    cached,
    circuit_breaker,
    fallback,
    hedge,
    rate_limited,
    retry,
    subscribe,
    timeout,
)
from tests.support.races import AT, Gate, Race, at, both_orders
from tests.support.virtual_time import now, settle


async def outcome(task: "asyncio.Task[Any]") -> str:
    """Return how a task ended: its value, or the name of its error."""
    await asyncio.wait([task])
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return str(task.result()) if error is None else type(error).__name__


# --- The caller cancels while a call runs -----------------------------------------------------------


@both_orders
async def test_the_caller_cancels_and_the_probe_of_a_breaker_ends(race: Race) -> None:
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=4)
    with pytest.raises(OSError, match="opens it"):
        await breaker.call(_fail, OSError("opens it"))
    await asyncio.sleep(4)
    gate = Gate()
    probe = asyncio.create_task(breaker.call(gate))
    at(race.first, probe.cancel)
    at(race.second, gate.open)
    ended = await outcome(probe)
    # In one turn the cancellation wins whatever the order: the task had no chance to see the value.
    ended_first = race.second == AT - 1
    assert ended == ("value" if ended_first else "cancelled")
    assert breaker.state is (CircuitState.CLOSED if ended_first else CircuitState.HALF_OPEN)
    assert breaker.snapshot()["probes"] == 0
    assert await breaker.call(_echo, 1) == 1
    assert breaker.state is CircuitState.CLOSED


@both_orders
async def test_the_caller_cancels_and_a_call_fails(race: Race) -> None:
    breaker = circuit_breaker(failure_threshold=1)
    gate = Gate()
    call = asyncio.create_task(breaker.call(gate))
    at(race.first, call.cancel)
    at(race.second, gate.fail)
    ended = await outcome(call)
    assert ended == ("OSError" if race.second == AT - 1 else "cancelled")
    assert breaker.state is (CircuitState.OPEN if ended == "OSError" else CircuitState.CLOSED)


@both_orders
async def test_the_caller_cancels_and_a_call_with_a_slot_ends(race: Race) -> None:
    slots = bulkhead(1)
    gate = Gate()
    call = asyncio.create_task(slots.call(gate))
    at(race.first, call.cancel)
    at(race.second, gate.open)
    assert await outcome(call) == ("value" if race.second == AT - 1 else "cancelled")
    assert slots.snapshot()["in_flight"] == 0
    assert await slots.call(_echo, 1) == 1


@both_orders
async def test_the_caller_cancels_and_a_call_fails_that_has_a_fallback(race: Race) -> None:
    answers: list[str] = []
    gate = Gate()
    call = asyncio.create_task(fallback(lambda error: answers.append("asked")).call(gate))
    at(race.first, call.cancel)
    at(race.second, gate.fail)
    came_first = race.second == AT - 1
    assert await outcome(call) == ("None" if came_first else "cancelled")
    assert answers == (["asked"] if came_first else [])


# --- The caller cancels in a line -------------------------------------------------------------------


@both_orders
@pytest.mark.parametrize("burst", [None, 1])
async def test_the_caller_cancels_in_a_line_and_its_turn_comes(race: Race, burst: int | None) -> None:
    per = race.second  # the turn comes so long after the first call, at 0
    limit = rate_limited(1, per=per, burst=burst)
    assert limit.try_acquire()
    first, second, third = (asyncio.create_task(limit.acquire()) for _ in range(3))
    await settle()
    at(race.first, first.cancel)
    ends = [await outcome(first)]
    came_first = race.second == AT - 1
    assert (ends == ["cancelled"]) is not came_first
    await asyncio.wait([second, third])
    # Nothing is lost and nothing is made: the next ones come one period apart.
    periods = (2, 3) if came_first else (1, 2)
    assert now() == pytest.approx(per * periods[1])
    assert second.result() == pytest.approx(per * periods[0])
    assert third.result() == pytest.approx(per * periods[1])


@both_orders
async def test_the_caller_cancels_in_a_queue_and_a_slot_becomes_free(race: Race) -> None:
    slots = bulkhead(1, max_queue=2)
    gates = [Gate(), Gate(), Gate()]
    running, first, second = (asyncio.create_task(slots.call(gate)) for gate in gates)
    await settle()
    at(race.first, first.cancel)
    at(race.second, gates[0].open)
    assert await outcome(running) == "value"
    came_first = race.second == AT - 1
    if came_first:  # it got the slot long before, and was cancelled while it ran
        await asyncio.wait([first])
        assert gates[1].ended == ["CancelledError"]
    assert await outcome(first) == "cancelled"
    assert gates[1].ended == (["CancelledError"] if came_first else []), "else it never ran"
    await settle()
    assert slots.snapshot()["in_flight"] == 1, "the slot went on to the next"
    gates[2].open()
    assert await outcome(second) == "value"
    assert slots.snapshot() == {**slots.snapshot(), "in_flight": 0, "queued": 0, "rejected": 0}


@both_orders
async def test_the_wait_in_a_queue_is_over_and_a_slot_becomes_free(race: Race) -> None:
    slots = bulkhead(1, max_queue=1, max_wait=race.first)
    gates = [Gate(), Gate()]
    gates[1].open("second")
    running, waiting = (asyncio.create_task(slots.call(gate)) for gate in gates)
    at(race.second, gates[0].open)
    ends = [await outcome(waiting), await outcome(running)]
    if race.second == AT - 1:
        assert ends == ["second", "value"]
    elif race.first == AT - 1:
        assert ends == ["BulkheadFullError", "value"]
    else:
        assert ends[0] in {"second", "BulkheadFullError"}
    refused = ends[0] == BulkheadFullError.__name__
    assert slots.snapshot()["rejected"] == refused
    assert slots.snapshot()["in_flight"] == 0
    assert gates[1].ended == ([] if refused else ["second"])


@both_orders
async def test_a_higher_priority_comes_and_a_slot_becomes_free(race: Race) -> None:
    slots = bulkhead(1, max_queue=1, priority=lambda gate, priority: priority)

    @slots
    async def work(gate: Gate, priority: Priority) -> str:
        return await gate()

    gates = [Gate(), Gate(), Gate()]
    later: list[asyncio.Task[str]] = []
    running = asyncio.create_task(work(gates[0], Priority.NORMAL))
    low = asyncio.create_task(work(gates[1], Priority.LOW))
    await settle()
    at(race.first, lambda: later.append(asyncio.create_task(work(gates[2], Priority.CRITICAL))))
    at(race.second, gates[0].open)
    await asyncio.sleep(AT + 1)
    assert await outcome(running) == "value"
    # The oldest waiter keeps its place, so the newcomer is refused if it finds the queue full.
    newcomer_waits = not race.is_in_order
    gates[1].open("low")
    gates[2].open("critical")
    assert await outcome(low) == "low"
    assert await outcome(later[0]) == ("critical" if newcomer_waits else "BulkheadFullError")
    assert slots.snapshot()["in_flight"] == 0


# --- The caller cancels in a backoff ----------------------------------------------------------------


@both_orders
async def test_the_caller_cancels_in_a_backoff_and_the_backoff_ends(race: Race) -> None:
    attempts: list[float] = []

    @retry(attempts=2, wait=race.second)
    async def fail() -> None:
        attempts.append(now())
        raise OSError("again")

    call = asyncio.create_task(fail())
    at(race.first, call.cancel)
    ended = await outcome(call)
    if race.second == AT - 1:
        assert (ended, attempts) == ("OSError", [0, AT - 1])
    else:
        assert (ended, attempts) == ("cancelled", [0])


# --- The cache --------------------------------------------------------------------------------------


@both_orders
@pytest.mark.parametrize("cancelled", [0, 1], ids=["the first caller", "a later caller"])
async def test_a_caller_of_a_coalesced_miss_cancels_and_the_load_ends(race: Race, cancelled: int) -> None:
    gate = Gate()
    load = cached()(gate)
    callers = [asyncio.create_task(load()) for _ in range(2)]
    await settle()
    at(race.first, callers[cancelled].cancel)
    at(race.second, gate.open)
    ends = [await outcome(caller) for caller in callers]
    assert gate.ended == ["value"]
    assert ends[1 - cancelled] == "value"
    assert ends[cancelled] == ("value" if race.second == AT - 1 else "cancelled")
    assert await load() == "value"
    assert gate.ended == ["value"], "it was stored"


@both_orders
async def test_the_last_caller_of_a_miss_cancels_and_the_load_ends(race: Race) -> None:
    gates = [Gate(), Gate()]
    calls: list[int] = []

    @cached()
    async def load() -> str:
        calls.append(1)
        return await gates[len(calls) - 1]()

    caller = asyncio.create_task(load())
    at(race.first, caller.cancel)
    at(race.second, gates[0].open)
    gates[1].open("another")
    ended = await outcome(caller)
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert ended == ("value" if race.second == AT - 1 else "cancelled")
    assert await load() == ("another" if gates[0].ended == ["CancelledError"] else "value")


@both_orders
@pytest.mark.parametrize("forget", ["invalidate", "clear"])
async def test_invalidate_and_the_end_of_a_load(race: Race, forget: str) -> None:
    gates = [Gate(), Gate()]
    calls: list[int] = []
    policy = cached()

    @policy
    async def load() -> str:
        calls.append(1)
        return await gates[len(calls) - 1]()

    caller = asyncio.create_task(load())
    at(race.first, getattr(policy, forget))
    at(race.second, gates[0].open)
    gates[1].open("newer")
    assert await outcome(caller) == "value", "a late value reaches its callers"
    await asyncio.sleep(2)
    assert await load() == "newer", "and is not stored, or is gone"
    assert len(calls) == 2


# --- Time limits ------------------------------------------------------------------------------------


@both_orders
async def test_a_timeout_and_a_result(race: Race) -> None:
    gate = Gate()
    call = asyncio.create_task(timeout(race.first).call(gate))
    at(race.second, gate.open)
    assert await outcome(call) == ("CallTimeoutError" if race.first == AT - 1 else "value")


@both_orders
async def test_a_timeout_and_a_failure(race: Race) -> None:
    gate = Gate()
    call = asyncio.create_task(timeout(race.first).call(gate))
    at(race.second, gate.fail)
    assert await outcome(call) == ("CallTimeoutError" if race.first == AT - 1 else "OSError")


@both_orders
async def test_a_timeout_and_the_cancellation_by_the_caller(race: Race) -> None:
    gate = Gate()
    call = asyncio.create_task(timeout(race.first).call(gate))
    at(race.second, call.cancel)
    assert await outcome(call) == ("CallTimeoutError" if race.first == AT - 1 else "cancelled")
    assert gate.ended == ["CancelledError"]


@both_orders
async def test_two_nested_timeouts(race: Race) -> None:
    outer, inner = timeout(race.first, name="outer"), timeout(race.second, name="inner")
    caught: list[str] = []

    @outer
    async def outside() -> str:
        try:
            return await inner.call(Gate())
        except CallTimeoutError as error:
            caught.append(error.details["policy"])
            return "went on"

    call = asyncio.create_task(outside())
    ended = await outcome(call)
    if race.first == AT - 1:
        assert (ended, caught) == ("CallTimeoutError", [])
        assert call.exception().details["policy"] == "outer"
    elif race.second == AT - 1:
        assert (ended, caught) == ("went on", ["inner"])
    else:
        # Both expired: whoever wins, nobody's expiry is taken for a cancellation by the caller.
        assert ended in {"CallTimeoutError", "went on"}
    assert call.cancelling() == 0


@both_orders
async def test_the_deadline_of_a_retry_and_the_end_of_an_attempt(race: Race) -> None:
    gates = [Gate(), Gate()]
    attempts: list[float] = []

    @retry(attempts=2, wait=0, deadline=race.first)
    async def call_twice() -> str:
        attempts.append(now())
        return await gates[len(attempts) - 1]()

    call = asyncio.create_task(call_twice())
    at(race.second, gates[0].fail)
    gates[1].open()
    ended = await outcome(call)
    if race.first == AT - 1:
        assert (ended, len(attempts)) == ("CallTimeoutError", 1)
    elif race.is_in_order:
        assert (ended, len(attempts)) == ("OSError", 1), "the real error; no time is left for another"
    else:
        assert (ended, len(attempts)) == ("value", 2)


# --- Attempts side by side --------------------------------------------------------------------------


async def _hedged(race: Race, *events: str) -> tuple[str, list[Gate]]:
    """Let two attempts end, or the caller cancel; return how the call ended."""
    gates = [Gate(), Gate()]
    started: list[Gate] = []

    @hedge(1, max_hedges=1)
    async def call() -> str:
        started.append(gates[len(started)])
        return await started[-1]()

    task = asyncio.create_task(call())
    names = ("first attempt", "second attempt")
    for when, event in zip((race.first, race.second), events, strict=True):
        if event == "cancel":
            at(when, task.cancel)
        else:
            which, how = event.rsplit(" ", 1)
            gate = gates[names.index(which)]
            at(when, gate.fail) if how == "fails" else at(when, gate.open, which)
    ended = await outcome(task)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "no attempt outlives the call"
    assert len(started) == 2
    return ended, gates


@both_orders
async def test_two_attempts_of_a_hedge_succeed(race: Race) -> None:
    ended, _ = await _hedged(race, "first attempt succeeds", "second attempt succeeds")
    # In one turn the earlier attempt wins, whichever came first.
    assert ended == ("second attempt" if race.second == AT - 1 else "first attempt")


@both_orders
@pytest.mark.parametrize("fails", ["first attempt", "second attempt"])
async def test_one_attempt_of_a_hedge_fails_and_the_other_succeeds(race: Race, fails: str) -> None:
    succeeds = "second attempt" if fails == "first attempt" else "first attempt"
    ended, _ = await _hedged(race, f"{fails} fails", f"{succeeds} succeeds")
    assert ended == succeeds


@both_orders
@pytest.mark.parametrize("how", ["first attempt succeeds", "second attempt succeeds"])
async def test_the_caller_of_a_hedge_cancels_and_an_attempt_succeeds(race: Race, how: str) -> None:
    ended, gates = await _hedged(race, "cancel", how)
    came_first = race.second == AT - 1
    assert ended == (how.removesuffix(" succeeds") if came_first else "cancelled")
    assert all(len(gate.ended) == 1 for gate in gates)


@both_orders
async def test_a_timeout_around_a_hedge_and_a_success(race: Race) -> None:
    gate = Gate()
    call = asyncio.create_task(timeout(race.first)(hedge(100)(gate))())
    at(race.second, gate.open)
    assert await outcome(call) == ("CallTimeoutError" if race.first == AT - 1 else "value")
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- The breaker ------------------------------------------------------------------------------------


@both_orders
@pytest.mark.parametrize("ends", ["open", "fail"])
async def test_the_circuit_opens_and_an_earlier_call_ends(race: Race, ends: str) -> None:
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=100)
    opening, earlier = Gate(), Gate()
    tasks = [asyncio.create_task(breaker.call(gate)) for gate in (opening, earlier)]
    at(race.first, opening.fail)
    at(race.second, getattr(earlier, ends))
    assert await outcome(tasks[0]) == "OSError"
    assert await outcome(tasks[1]) == ("value" if ends == "open" else "OSError")
    assert breaker.state is CircuitState.OPEN
    figures = breaker.snapshot()
    assert figures["opened_count"] == 1
    is_late = race.is_in_order or ends == "fail"
    assert figures["late"] == (1 if is_late else 0)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await breaker.call(_echo, 1)
    opened_at = min(race.first, race.second) if ends == "fail" else race.first
    assert caught.value.retry_after == pytest.approx(opened_at + 100 - now())


@both_orders
async def test_the_lease_of_a_probe_ends_and_the_probe_returns(race: Race) -> None:
    pause = race.first / 2  # it opens at 0, the probe starts when the pause is over, its lease is as long
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=pause)
    with pytest.raises(OSError, match="opens it"):
        await breaker.call(_fail, OSError("opens it"))
    await asyncio.sleep(pause)
    hung = Gate()
    probe = asyncio.create_task(breaker.call(hung))
    at(race.second, hung.open)
    assert await outcome(probe) == "value"
    is_late = race.second != AT - 1  # a microsecond is a rounding of time
    assert breaker.snapshot()["late"] == is_late
    assert breaker.state is (CircuitState.HALF_OPEN if is_late else CircuitState.CLOSED)
    assert await breaker.call(_echo, 1) == 1, "a new probe is admitted"
    assert breaker.state is CircuitState.CLOSED


# --- Listeners --------------------------------------------------------------------------------------


async def test_a_listener_raises_and_the_call_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("broken")

    unsubscribe = subscribe(broken)
    try:
        calls: list[int] = []

        @retry(attempts=2, wait=0)
        async def once_more() -> str:
            calls.append(1)
            if len(calls) == 1:
                raise OSError("again")
            return "value"

        assert await once_more() == "value"
    finally:
        unsubscribe()


async def _fail(error: Exception) -> None:
    raise error


async def _echo(value: int) -> int:
    return value
