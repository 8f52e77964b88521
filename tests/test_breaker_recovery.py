"""`circuit_breaker`: pauses that grow, recovery in stages, and calls that nobody waits for any more."""

import asyncio
import contextlib
import sys
import threading
from datetime import timedelta

import pytest
import tenacity

from resilience import (
    CircuitBreakerOpenError,
    CircuitState,
    DecorrelatedJitter,
    FullJitter,
    circuit_breaker,
    retry,
    timeout,
)
from tests.support.virtual_time import advance, now, settle


class DownError(Exception):
    """The service is down."""


class Service:
    """What is called: it is well, or down, or never answers; it counts."""

    def __init__(self):
        self.calls = 0
        self.does = "answer"

    async def __call__(self, *args):
        self.calls += 1
        if self.does == "hang":
            await asyncio.Event().wait()
        if self.does == "fail":
            raise DownError
        return "ok"


@pytest.fixture
def service():
    return Service()


async def use(guarded, times=1):
    """Return what calls come to, one letter each: o(k), f(ailed), r(ejected)."""
    seen = ""
    for _ in range(times):
        try:
            seen += (await guarded())[0]
        except DownError:
            seen += "f"
        except CircuitBreakerOpenError:
            seen += "r"
    return seen


async def cancelled(guarded, times=1):
    for _ in range(times):
        task = asyncio.create_task(guarded())
        await settle(3)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def told(events):
    return [
        (event.kind.partition(".")[2], event.attributes.get("reason", event.attributes.get("rate")))
        for event in events
        if event.kind != "circuit_breaker.rejected"
    ]


# --- A growing pause ---


@pytest.mark.parametrize("pauses", [[5, 10, 30], (5.0, timedelta(seconds=10), 30)])
async def test_t13_the_pause_may_be_a_sequence_whose_last_one_repeats(service, pauses):
    breaker = circuit_breaker(2, recovery_timeout=pauses)
    guarded = breaker(service)
    assert breaker.config.recovery_timeout == (5, 10, 30)
    service.does = "fail"
    assert await use(guarded, 3) == "ffr"
    for pause in (5, 10, 30, 30):
        assert breaker.snapshot()["retry_after"] == pause
        advance(pause - 0.5)
        assert await use(guarded) == "r"
        advance(0.5)
        assert await use(guarded, 2) == "fr"
    service.does = "answer"
    advance(30)
    assert await use(guarded) == "o"
    service.does = "fail"
    assert await use(guarded, 3) == "ffr"
    assert breaker.snapshot()["retry_after"] == 5, "it closed in between"


async def test_t13_late_failures_do_not_make_the_pause_grow(service):
    breaker = circuit_breaker(1, recovery_timeout=[5, 100])
    gate = asyncio.Event()

    async def fails_late():
        await gate.wait()
        raise DownError

    tasks = [asyncio.create_task(breaker.call(fails_late)) for _ in range(3)]
    await settle()
    advance(50)
    gate.set()
    await asyncio.wait(tasks)
    assert breaker.snapshot()["retry_after"] == 5
    assert breaker.snapshot()["openings"] == 1


@pytest.mark.parametrize(("pauses", "seconds"), [([0.25, 5], 0.25), ([0, 5], 1), ([2], 2)])
async def test_t12_a_probe_keeps_its_place_for_the_pause_before_it(service, pauses, seconds):
    breaker = circuit_breaker(1, recovery_timeout=pauses)
    service.does = "fail"
    guarded = breaker(service)
    await use(guarded)
    advance(pauses[0])
    service.does = "hang"
    task = asyncio.create_task(guarded())
    await settle()
    assert breaker.snapshot()["retry_after"] == seconds
    task.cancel()
    await asyncio.wait([task])


async def test_the_pause_may_be_random_below_a_bound_that_grows(service, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.5)
    breaker = circuit_breaker(1, recovery_timeout=FullJitter(10, max=100))
    service.does = "fail"
    guarded = breaker(service)
    for pause in (5, 10, 20, 40, 50, 50):
        assert await use(guarded) == "f"
        assert breaker.snapshot()["retry_after"] == pause
        advance(pause)
    service.does = "answer"
    await use(guarded)
    service.does = "fail"
    await use(guarded)
    assert breaker.snapshot()["retry_after"] == 5


async def test_the_pause_may_be_drawn_between_the_first_and_thrice_the_one_before(service, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.5)
    breaker = circuit_breaker(1, recovery_timeout=DecorrelatedJitter(10, max=100))
    service.does = "fail"
    guarded = breaker(service)
    for pause in (20, 35, 55, 55):
        assert await use(guarded) == "f"
        assert breaker.snapshot()["retry_after"] == pause
        advance(pause)
    service.does = "answer"
    await use(guarded)
    service.does = "fail"
    await use(guarded)
    assert breaker.snapshot()["retry_after"] == 20


async def test_a_probe_after_a_jitter_has_a_second_at_least(service, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.001)
    breaker = circuit_breaker(1, recovery_timeout=FullJitter(10))
    service.does = "fail"
    await use(breaker(service))
    advance(1)
    task = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await settle()
    assert breaker.snapshot()["retry_after"] == 1
    task.cancel()
    await asyncio.wait([task])


def test_repr_shows_pauses_and_stages():
    policy = circuit_breaker(recovery_timeout=[5, 10], half_open_rates=[0.1, 0.5], half_open_stage=2)
    shown = "circuit_breaker(recovery_timeout=(5, 10), half_open_rates=(0.1, 0.5), half_open_stage=2)"
    assert repr(policy) == shown
    policy = circuit_breaker(abandoned_rate=1.0, recovery_timeout=FullJitter(1))
    assert repr(policy).startswith("circuit_breaker(recovery_timeout=FullJitter(initial=1,")
    assert repr(policy).endswith("abandoned_rate=1.0)")


# --- Recovery in stages ---


async def test_recovery_in_stages(service, events):
    breaker = circuit_breaker(1, recovery_timeout=10, half_open_rates=(0.25, 0.5), name="api")
    guarded = breaker(service)
    service.does = "fail"
    await use(guarded)
    service.does = "answer"
    advance(10)
    assert await use(guarded, 9) == "oorrrorrr", "the probe, and then every fourth call"
    assert breaker.state is CircuitState.HALF_OPEN
    assert breaker.snapshot()["half_open_rate"] == 0.25
    advance(10)
    assert await use(guarded, 8) == "orororor"
    assert breaker.snapshot()["half_open_rate"] == 0.5
    advance(10)
    assert breaker.state is CircuitState.CLOSED
    assert await use(guarded, 8) == "oooooooo"
    assert breaker.snapshot()["openings"] == 0
    assert [(event.kind.partition(".")[2], event.at, dict(event.attributes)) for event in events][:3] == [
        ("opened", 0, {"reason": "failure_threshold", "failures": 1, "retry_after": 10}),
        ("half_opened", 10, {}),
        ("half_opened", 10, {"rate": 0.25}),
    ]
    assert told(events) == [
        ("opened", "failure_threshold"),
        ("half_opened", None),
        ("half_opened", 0.25),
        ("half_opened", 0.5),
        ("closed", "recovered"),
    ]
    rejections = [event for event in events if event.kind == "circuit_breaker.rejected"]
    assert [dict(event.attributes) for event in rejections] == [{"retry_after": None}] * 10


async def test_a_stage_ends_with_a_call_or_before_the_next_one(service, events):
    breaker = circuit_breaker(1, half_open_rates=(0.5, 1), half_open_stage=5)
    service.does = "fail"
    await use(breaker(service))
    service.does = "answer"
    advance(30)
    await use(breaker(service))

    async def takes(seconds):
        await asyncio.sleep(seconds)

    await breaker.call(takes, 5)
    assert told(events)[-1] == ("half_opened", 1)
    await breaker.call(takes, 4)
    assert breaker.state is CircuitState.HALF_OPEN
    await asyncio.sleep(1)
    await breaker.call(takes, 0)
    assert told(events)[-1] == ("closed", "recovered")
    assert now() == 40


async def test_a_stage_opens_by_the_rules_of_a_closed_circuit(service, events):
    breaker = circuit_breaker(
        failure_rate=0.5, window=4, minimum_calls=4, recovery_timeout=[10, 20], half_open_rates=(0.5, 1)
    )
    guarded = breaker(service)
    service.does = "fail"
    await use(guarded, 4)
    service.does = "answer"
    advance(10)
    assert await use(guarded, 3) == "oor"
    service.does = "fail"
    assert await use(guarded, 6) == "frfrfr"
    assert breaker.state is CircuitState.OPEN
    assert breaker.snapshot()["retry_after"] == 20, "it did not close in between"
    assert told(events)[-1] == ("opened", "failure_rate")
    assert events[-2].attributes["rate"] == 0.75


async def test_b1_a_stage_lets_its_part_of_the_calls_pass_however_many_come_at_once(service):
    breaker = circuit_breaker(1, half_open_rates=(0.01, 0.5))
    service.does = "fail"
    guarded = breaker(service)
    await use(guarded)
    service.does = "answer"
    advance(30)
    await use(guarded)
    service.calls = 0
    results = await asyncio.gather(*(guarded() for _ in range(1000)), return_exceptions=True)
    assert service.calls == results.count("ok") == 10


async def test_t12_b4_a_stage_whose_calls_all_hang_still_recovers(service):
    breaker = circuit_breaker(1, recovery_timeout=10, half_open_rates=(0.001,))
    guarded = breaker(service)
    service.does = "fail"
    await use(guarded)
    service.does = "answer"
    advance(10)
    await use(guarded)
    service.does = "hang"
    task = asyncio.create_task(guarded())
    await settle()
    service.does = "answer"
    advance(9)
    assert await use(guarded, 5) == "rrrrr"
    advance(1)
    assert await use(guarded, 3) == "ooo"
    assert breaker.state is CircuitState.CLOSED
    task.cancel()
    await asyncio.wait([task])


async def test_rare_calls_recover_too(service):
    breaker = circuit_breaker(1, recovery_timeout=10, half_open_rates=(0.001, 0.01, 0.1))
    guarded = breaker(service)
    service.does = "fail"
    await use(guarded)
    service.does = "answer"
    seen = ""
    for _ in range(8):
        advance(60)
        seen += await use(guarded)
    assert seen == "oooooooo"
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("ending", ["cancelled", "closed"])
async def test_t3_a_call_of_a_stage_that_nobody_waits_for_counts_as_nothing(service, ending):
    breaker = circuit_breaker(1, recovery_timeout=10, half_open_rates=(0.5,))
    guarded = breaker(service)
    service.does = "fail"
    await use(guarded)
    service.does = "answer"
    advance(10)
    await use(guarded)
    service.does = "hang"
    if ending == "cancelled":
        await cancelled(guarded)
    else:
        coroutine = guarded()
        coroutine.send(None)
        coroutine.close()
    service.does = "answer"
    advance(10)
    assert breaker.state is CircuitState.HALF_OPEN
    assert await use(guarded, 2) == "oo"
    assert breaker.state is CircuitState.CLOSED


async def test_a_recovery_in_stages_is_for_each_key_alone(service):
    breaker = circuit_breaker(1, recovery_timeout=10, half_open_rates=(0.5,), key=lambda key: key)
    service.does = "fail"
    for key in ("a", "b"):
        with pytest.raises(DownError):
            await breaker(service)(key)
    service.does = "answer"
    advance(10)
    await breaker.at("a").call(service)
    assert breaker.at("a").snapshot()["half_open_rate"] == 0.5
    assert breaker.at("b").snapshot()["half_open_rate"] is None
    await breaker.at("a").call(service)
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.at("a").call(service)
    await breaker.at("b").call(service)


async def test_a_reset_ends_a_recovery(service):
    breaker = circuit_breaker(1, half_open_rates=(0.1,))
    service.does = "fail"
    guarded = breaker(service)
    await use(guarded)
    service.does = "answer"
    advance(30)
    await use(guarded)
    breaker.reset()
    assert await use(guarded, 20) == "o" * 20


async def test_a_reset_tells_of_a_recovery_that_no_call_has_ended_yet(service, events):
    breaker = circuit_breaker(1, half_open_rates=(1.0,))
    service.does = "fail"
    guarded = breaker(service)
    await use(guarded)
    service.does = "answer"
    advance(30)
    await use(guarded, 2)
    advance(30)
    assert breaker.state is CircuitState.CLOSED
    breaker.reset()
    assert told(events)[-1] == ("closed", "reset")
    breaker.reset()
    assert [kind for kind, _ in told(events)].count("closed") == 1


async def test_a_shadow_tells_of_its_stages(service, events):
    breaker = circuit_breaker(1, half_open_rates=(0.5,))
    breaker.shadow()
    service.does = "fail"
    guarded = breaker(service)
    await use(guarded)
    service.does = "answer"
    advance(30)
    assert await use(guarded, 6) == "oooooo"
    advance(30)
    await use(guarded)
    assert [event.attributes["shadow"] for event in events] == [True] * len(events)
    assert told(events)[-2:] == [("half_opened", 0.5), ("closed", "recovered")]
    assert breaker.snapshot()["rejected"] == 0


def test_t64_t66_b1_threads_share_a_stage(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("resilience._clock.monotonic", lambda: clock[0])
    breaker = circuit_breaker(1, half_open_rates=(0.1, 1.0), half_open_stage=5)
    passed = []

    @breaker
    async def work(*, is_up=True):
        passed.append(None)
        if not is_up:
            raise DownError

    def in_threads():
        async def main():
            await asyncio.gather(*(work() for _ in range(250)), return_exceptions=True)

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with pytest.raises(DownError):
            asyncio.run(work(is_up=False))
        clock[0] = 30.0
        asyncio.run(work())
        for expected in (100, 1000, 1000):
            passed.clear()
            in_threads()
            assert len(passed) == expected
            clock[0] += 5
    finally:
        sys.setswitchinterval(interval)
    assert breaker.state is CircuitState.CLOSED


# --- Calls that nobody waits for any more ---


async def test_b7_a_service_that_never_answers_opens_the_circuit_though_every_call_is_cancelled(
    service, events
):
    breaker = circuit_breaker(abandoned_rate=1.0, minimum_calls=10, name="api")
    impatient = timeout(1)(breaker(service))
    service.does = "hang"
    for _ in range(10):
        assert breaker.state is CircuitState.CLOSED
        with pytest.raises(TimeoutError):
            await impatient()
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitBreakerOpenError):
        await impatient()
    assert service.calls == 10
    facts = {"reason": "abandoned_rate", "abandoned_calls": 10, "calls": 10, "rate": 1.0, "retry_after": 30}
    (opened,) = [event for event in events if event.kind == "circuit_breaker.opened"]
    assert dict(opened.attributes) == facts


async def test_b7_losers_of_a_race_do_not_open_it_while_others_win(service):
    breaker = circuit_breaker(abandoned_rate=1.0, minimum_calls=10)
    guarded = breaker(service)
    for _ in range(50):
        service.does = "hang"
        await cancelled(guarded)
        service.does = "answer"
        await use(guarded)
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["abandoned_rate"] == 0.5


async def test_b7_blocks_may_be_abandoned_as_well(service):
    breaker = circuit_breaker(abandoned_rate=0.5, minimum_calls=2)
    service.does = "hang"

    async def block():
        async with breaker:
            await service()

    await cancelled(block, 2)
    assert breaker.state is CircuitState.OPEN


async def test_b6_by_default_no_number_of_cancellations_opens_it(service):
    breaker = circuit_breaker(1, failure_rate=0.0, slow_call=0, slow_call_rate=0.0, minimum_calls=1)
    service.does = "hang"
    await cancelled(breaker(service), 200)
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["outcomes"]["abandoned"] == 200


async def test_b7_failures_in_a_row_still_count_when_only_an_abandoned_rate_is_given(service):
    breaker = circuit_breaker(abandoned_rate=1.0)
    assert breaker.config.failure_threshold == 5
    service.does = "fail"
    assert await use(breaker(service), 6) == "fffffr"


async def test_b7_a_cancellation_is_still_no_success(service):
    breaker = circuit_breaker(2, abandoned_rate=1.0)
    guarded = breaker(service)
    service.does = "fail"
    await use(guarded)
    service.does = "hang"
    await cancelled(guarded)
    service.does = "fail"
    await use(guarded)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("leaves", [GeneratorExit, KeyboardInterrupt, SystemExit])
async def test_b7_only_a_cancellation_abandons_a_call(leaves):
    breaker = circuit_breaker(abandoned_rate=0.0, minimum_calls=1)

    async def leave():
        raise leaves

    with pytest.raises(leaves):
        await breaker.call(leave)
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["outcomes"]["ignored"] == 1


async def test_b7_a_call_that_the_garbage_collector_closes_is_not_abandoned(service):
    breaker = circuit_breaker(abandoned_rate=0.0, minimum_calls=1)
    service.does = "hang"
    coroutine = breaker(service)()
    coroutine.send(None)
    del coroutine
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot()["outcomes"]["ignored"] == 1


async def test_b7_a_slow_call_that_is_abandoned_is_abandoned(service):
    breaker = circuit_breaker(abandoned_rate=1.0, slow_call=1, slow_call_rate=0.0, minimum_calls=1)
    service.does = "hang"
    task = asyncio.create_task(breaker(service)())
    await asyncio.sleep(2)
    task.cancel()
    await asyncio.wait([task])
    assert breaker.snapshot()["outcomes"]["abandoned"] == 1
    assert breaker.state is CircuitState.OPEN


async def test_b7_the_window_may_be_seconds(service):
    breaker = circuit_breaker(abandoned_rate=1.0, window=timedelta(seconds=10), minimum_calls=2)
    service.does = "hang"
    guarded = breaker(service)
    await cancelled(guarded)
    advance(10)
    await cancelled(guarded)
    assert breaker.state is CircuitState.CLOSED
    await cancelled(guarded)
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("turns", range(8))
async def test_b7_t3_cancelled_in_any_turn_a_call_is_abandoned_once(turns):
    breaker = circuit_breaker(abandoned_rate=1.0, minimum_calls=20)

    async def work():
        for _ in range(3):
            await asyncio.sleep(0)

    task = asyncio.create_task(breaker.call(work))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    outcomes = breaker.snapshot()["outcomes"]
    began = turns > 0
    assert outcomes["abandoned"] == int(began and task.cancelled())
    assert outcomes["success"] == int(not task.cancelled())


async def test_t1_t2_a_wait_that_raises_takes_no_cancellation_s_place(service, events):
    breaker = circuit_breaker(abandoned_rate=0.0, minimum_calls=1, recovery_timeout=lambda state: 1 / 0)
    service.does = "hang"
    await cancelled(breaker(service))
    assert breaker.snapshot()["retry_after"] == 30, "the default, as the wait gives none"
    assert events[0].attributes["retry_after"] == 30


async def test_t2_a_wait_that_is_interrupted_is_interrupted(service):
    def interrupt(state):
        raise KeyboardInterrupt

    breaker = circuit_breaker(
        abandoned_rate=0.0, minimum_calls=1, recovery_timeout=interrupt, key=lambda *args: "key"
    )
    service.does = "hang"
    coroutine = breaker(service)()
    coroutine.send(None)
    with pytest.raises(KeyboardInterrupt):
        coroutine.throw(asyncio.CancelledError())
    assert breaker.at("key").state is CircuitState.CLOSED
    assert breaker._circuits._keyed.peek("key").in_flight == 0


async def test_b7_an_abandoned_call_that_ends_late_changes_nothing(service):
    breaker = circuit_breaker(1, abandoned_rate=0.0, minimum_calls=1)
    guarded = breaker(service)
    service.does = "hang"
    task = asyncio.create_task(guarded())
    await settle()
    service.does = "fail"
    await use(guarded)
    advance(10)
    task.cancel()
    await asyncio.wait([task])
    seen = breaker.snapshot()
    assert (seen["retry_after"], seen["late"], seen["outcomes"]["abandoned"]) == (20, 0, 1)


async def test_b7_of_two_that_are_cancelled_together_one_opens_it(service, events):
    breaker = circuit_breaker(abandoned_rate=1.0, minimum_calls=2)
    guarded = breaker(service)
    service.does = "hang"
    tasks = [asyncio.create_task(guarded()) for _ in range(5)]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert told(events) == [("opened", "abandoned_rate")]
    assert breaker.snapshot()["outcomes"]["abandoned"] == 5


async def test_retries_pass_a_recovery_in_stages(service):
    breaker = circuit_breaker(1, recovery_timeout=10, half_open_rates=(0.5,))
    patient = retry(attempts=None, deadline=60, on=CircuitBreakerOpenError, wait=tenacity.wait_fixed(1))
    guarded = patient(breaker(service))
    service.does = "fail"
    with contextlib.suppress(DownError):
        await guarded()
    service.does = "answer"
    assert await asyncio.gather(*(guarded() for _ in range(20))) == ["ok"] * 20
    assert breaker.state is CircuitState.HALF_OPEN
