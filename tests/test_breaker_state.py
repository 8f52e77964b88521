"""The circuit, compared with an obvious model in random interleavings, and its rules one by one."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import _breaker_state
from resilience._breaker_config import CircuitBreakerConfig
from resilience._breaker_phases import BYSTANDER, CircuitState, Closed, Probe, Trip
from resilience._breaker_state import Circuit

PAUSE = 30.0


def plan(threshold: int = 2, **more: Any) -> CircuitBreakerConfig:
    return CircuitBreakerConfig(failure_threshold=threshold, **{"recovery_timeout": PAUSE, **more})


def end(circuit: Circuit, permit: Any, now: float, *, failed: bool = False, slow: bool = False) -> Any:
    """Record an outcome as the policy does, straight path included; return what the circuit says."""
    if circuit.straight is permit and permit is not None and not failed and not slow and permit.take(now):
        return None
    verdict = circuit.record(permit, now, failed=failed, slow=slow)
    if isinstance(verdict, Trip):
        assert circuit.open(permit, now, PAUSE)
    return verdict


def admit(circuit: Circuit, now: float) -> Any:
    return circuit.straight or circuit.admit(now)


def opened(circuit: Circuit, now: float = 0.0) -> Circuit:
    while not isinstance(end(circuit, admit(circuit, now), now, failed=True), Trip):
        pass
    return circuit


# --- The model: a log of everything, searched from the start at each question ---


@dataclass
class Ticket:
    era: int
    started: float
    role: str  # "call", "probe" or "bystander"
    ended: str | None = None


@dataclass
class Model:
    threshold: int | None
    rate: float | None
    window: int
    seconds: bool
    minimum: int
    slow_rate: float | None
    half_open_calls: int
    state: str = "closed"
    shadow: bool = False
    era: int = 0
    until: float = 0.0
    openings: int = 0
    opened_count: int = 0
    rejected: int = 0
    late: int = 0
    log: list[tuple[int, float, bool, bool]] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)

    def enter(self, state: str) -> None:
        self.state = state
        self.era += 1

    def running_probes(self, now: float) -> list[Ticket]:
        return [
            each
            for each in self.tickets
            if each.role == "probe"
            and each.era == self.era
            and not each.ended
            and now < each.started + PAUSE
        ]

    def places(self) -> int:
        good = [each for each in self.tickets if each.era == self.era and each.ended == "success"]
        return self.half_open_calls - len(good)

    def admit(self, now: float) -> Ticket | None:
        if self.state == "open" and now >= self.until:
            self.enter("half_open")
        role = None
        if self.state == "closed":
            role = "call"
        elif self.state == "half_open" and len(self.running_probes(now)) < self.places():
            role = "probe"
        elif self.shadow:
            role = "bystander"
        if role is None:
            self.rejected += 1
            return None
        self.tickets.append(Ticket(self.era, now, role))
        return self.tickets[-1]

    def retry_after(self, now: float) -> float | None:
        if self.state == "open" and now < self.until:
            return self.until - now
        if self.state == "half_open":
            running = self.running_probes(now)
            if len(running) >= self.places():
                return min(each.started for each in running) + PAUSE - now
        return None

    def end(self, ticket: Ticket, now: float, failed: bool, slow: bool) -> str:
        running = ticket in self.running_probes(now)
        ticket.ended = "failure" if failed or slow else "success"
        if ticket.role == "bystander":
            return "nothing"
        if ticket.era != self.era or (ticket.role == "probe" and not running):
            ticket.ended = "late"
            self.late += 1
            return "late"
        if ticket.role == "probe":
            if failed or slow:
                return self.open(now)
            if self.places() == 0:
                self.openings = 0
                self.enter("closed")
                return "closed"
            return "nothing"
        self.log.append((self.era, now, failed, slow))
        return self.open(now) if self.must_open(now) else "nothing"

    def must_open(self, now: float) -> bool:
        mine = [entry for entry in self.log if entry[0] == self.era]
        last = [failed for _, _, failed, _ in mine[-(self.threshold or 1) :]]
        if self.threshold is not None and len(last) == self.threshold and all(last):
            return True
        if self.seconds:
            width = self.window / 20
            mine = [entry for entry in mine if int(entry[1] / width) > int(now / width) - 20]
        else:
            mine = mine[-self.window :]
        if len(mine) < self.minimum:
            return False
        for rate, column in ((self.rate, 2), (self.slow_rate, 3)):
            bad = [entry for entry in mine if entry[column]]
            if rate is not None and bad and len(bad) / len(mine) >= rate:
                return True
        return False

    def open(self, now: float) -> str:
        self.enter("open")
        self.until = now + PAUSE
        self.openings += 1
        self.opened_count += 1
        return "trip"

    def seen(self, now: float) -> str:
        if self.shadow:
            return "shadow"
        return "half_open" if self.state == "open" and now >= self.until else self.state

    def force_open(self) -> None:
        self.shadow = False
        self.openings = 0
        self.enter("forced_open")

    def make_shadow(self) -> None:
        self.shadow = True
        if self.state == "forced_open":
            self.enter("closed")

    def reset(self) -> None:
        self.shadow = False
        self.openings = self.opened_count = self.rejected = self.late = 0
        self.enter("closed")


ends = st.sampled_from(["success", "failure", "failure", "slow", "slow_failure", "cancel"])
actions = st.lists(
    st.one_of(
        st.just(("start", 0)),
        st.just(("start", 0)),
        st.tuples(ends, st.integers(0, 99)),
        st.tuples(st.just("wait"), st.sampled_from([0.25, 1, 5, 29.75, 30])),
        st.tuples(st.sampled_from(["force", "shadow", "reset", "reset"]), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(
    actions=actions,
    threshold=st.sampled_from([None, 1, 2, 3]),
    rate=st.sampled_from([None, 0.0, 0.5, 1.0]),
    window=st.integers(1, 8),
    seconds=st.booleans(),
    slow_rate=st.sampled_from([None, 0.5]),
    half_open_calls=st.integers(1, 3),
    has_gil=st.booleans(),
    data=st.data(),
)
def test_it_behaves_like_the_model(
    actions, threshold, rate, window, seconds, slow_rate, half_open_calls, has_gil, data
):
    minimum = data.draw(st.integers(1, window))
    if threshold is None and rate is None and slow_rate is None:
        threshold = 2
    model = Model(threshold, rate, window, seconds, minimum, slow_rate, half_open_calls)

    config = CircuitBreakerConfig(
        failure_threshold=threshold,
        recovery_timeout=PAUSE,
        failure_rate=rate,
        window=timedelta(seconds=window) if seconds else window,
        minimum_calls=minimum,
        slow_call=None if slow_rate is None else 1.0,
        slow_call_rate=slow_rate or 1.0,
        half_open_calls=half_open_calls,
    )
    before = _breaker_state.HAS_GIL
    _breaker_state.HAS_GIL = has_gil
    try:
        compare(model, Circuit(config), actions)
    finally:
        _breaker_state.HAS_GIL = before


def compare(model: Model, circuit: Circuit, actions: list[tuple[str, Any]]) -> None:
    commands = {
        "force": (model.force_open, circuit.force_open),
        "shadow": (model.make_shadow, circuit.shadow),
        "reset": (model.reset, circuit.reset),
    }
    now = 0.0
    running: list[tuple[Ticket, Any]] = []
    for action, operand in actions:
        if action == "wait":
            now += operand
        elif action == "start":
            ticket, permit = model.admit(now), admit(circuit, now)
            assert (ticket is None) == (permit is None)
            if ticket is not None:
                running.append((ticket, permit))
                assert (ticket.role == "probe") == (isinstance(permit, Probe) and permit is not BYSTANDER)
                assert (ticket.role == "bystander") == (permit is BYSTANDER)
        elif action in commands:
            for command in commands[action]:
                command()
        elif running:
            compare_end(model, circuit, action, now, *running.pop(operand % len(running)))
        compare_looks(model, circuit, now)


def compare_end(
    model: Model, circuit: Circuit, action: str, now: float, ticket: Ticket, permit: Any
) -> None:
    if action == "cancel":
        ticket.ended = "cancelled"
        circuit.give_back(permit)
        return
    failed, slow = "failure" in action, "slow" in action
    verdict = end(circuit, permit, now, failed=failed, slow=slow)
    got = "trip" if isinstance(verdict, Trip) else verdict or "nothing"
    assert got == model.end(ticket, now, failed, slow)


def compare_looks(model: Model, circuit: Circuit, now: float) -> None:
    assert circuit.state(now) == model.seen(now)
    assert circuit.retry_after(now) == model.retry_after(now)
    assert circuit.openings == model.openings
    assert circuit.opened_count == model.opened_count
    assert circuit.rejected == model.rejected
    assert circuit.late == model.late
    if circuit.straight is not None:
        assert circuit.straight is circuit.phase
        assert model.state == "closed"
    if circuit.rejects is not None:
        assert circuit.rejects is circuit.phase
        assert not model.shadow
        assert (circuit.rejects.left(now) > 0) == (model.seen(now) == "open")


# --- Rule by rule ---


def test_t10_b2_a_result_of_an_older_phase_changes_nothing():
    circuit = Circuit(plan(threshold=1))
    old_good, old_bad = admit(circuit, 0), admit(circuit, 0)
    opened(circuit)
    assert end(circuit, old_good, 1) == "late"
    assert end(circuit, old_bad, 1, failed=True) == "late"
    assert circuit.retry_after(1) == PAUSE - 1
    probe = admit(circuit, PAUSE)
    assert end(circuit, old_good, PAUSE) == "late"
    assert circuit.state(PAUSE) is CircuitState.HALF_OPEN
    assert end(circuit, probe, PAUSE) == "closed"
    assert circuit.state(PAUSE) is CircuitState.CLOSED
    assert end(circuit, old_bad, PAUSE, failed=True) == "late"
    assert circuit.state(PAUSE) is CircuitState.CLOSED
    assert circuit.late == 4


def test_t11_b1_half_open_admits_only_its_probes():
    circuit = opened(Circuit(plan(half_open_calls=3)))
    permits = [admit(circuit, PAUSE) for _ in range(50)]
    assert [permit is not None for permit in permits] == [True] * 3 + [False] * 47
    end(circuit, permits[0], PAUSE)
    assert admit(circuit, PAUSE) is None, "a success keeps its place: no more probes than the verdict needs"
    end(circuit, permits[1], PAUSE)
    assert circuit.state(PAUSE) is CircuitState.HALF_OPEN
    end(circuit, permits[2], PAUSE)
    assert circuit.state(PAUSE) is CircuitState.CLOSED


def test_t12_b3_b4_b9_a_hung_probe_loses_its_place_and_its_say():
    circuit = opened(Circuit(plan()))
    hung = admit(circuit, 40)
    assert admit(circuit, 69) is None
    assert circuit.retry_after(69) == 1
    second = admit(circuit, 70)
    assert isinstance(second, Probe)
    assert end(circuit, hung, 70, failed=True) == "late"
    assert admit(circuit, 70) is None, "the older probe must not give away the place of the newer"
    circuit.give_back(hung)
    assert admit(circuit, 70) is None
    assert end(circuit, hung, 70) == "late"
    assert end(circuit, second, 71) == "closed"
    assert circuit.state(71) is CircuitState.CLOSED


def test_t12_a_probe_that_returns_after_its_lease_counts_for_nothing():
    circuit = opened(Circuit(plan()))
    probe = admit(circuit, 30)
    assert end(circuit, probe, 60) == "late"
    assert circuit.state(60) is CircuitState.HALF_OPEN
    assert admit(circuit, 60) is not None


def test_t3_a_cancelled_probe_gives_its_place_back_once():
    circuit = opened(Circuit(plan()))
    probe = admit(circuit, 30)
    for _ in range(3):
        circuit.give_back(probe)
    permits = [admit(circuit, 30) for _ in range(3)]
    assert [permit is not None for permit in permits] == [True, False, False]


def test_t13_b8_the_pause_starts_when_the_failure_is_recorded():
    circuit = Circuit(plan(threshold=1))
    calls = [admit(circuit, 0) for _ in range(3)]
    end(circuit, calls[0], 20, failed=True)
    assert circuit.retry_after(20) == PAUSE
    end(circuit, calls[1], 25, failed=True)
    end(circuit, calls[2], 45, failed=True)
    assert circuit.retry_after(49) == 1
    assert circuit.opened_count == 1


def test_b8_two_probes_that_fail_together_open_it_once():
    circuit = opened(Circuit(plan(half_open_calls=2)))
    first, second = admit(circuit, 30), admit(circuit, 30)
    assert isinstance(end(circuit, first, 31, failed=True), Trip)
    assert end(circuit, second, 32, failed=True) == "late"
    assert circuit.retry_after(32) == PAUSE - 1
    assert circuit.opened_count == 2


def test_b10_a_fast_failure_of_a_probe_is_a_failure():
    circuit = opened(Circuit(plan()))
    verdict = end(circuit, admit(circuit, 30), 30, failed=True)
    assert verdict == Trip("probe_failed", {})
    assert circuit.state(30) is CircuitState.OPEN


def test_a_slow_probe_opens_it_again():
    circuit = opened(Circuit(plan()))
    assert end(circuit, admit(circuit, 30), 35, slow=True) == Trip("probe_slow", {})


def test_openings_in_a_row_count_until_it_closes():
    circuit = opened(Circuit(plan()))
    end(circuit, admit(circuit, 30), 30, failed=True)
    assert (circuit.openings, circuit.opened_count) == (2, 2)
    end(circuit, admit(circuit, 60), 60)
    assert (circuit.openings, circuit.opened_count) == (0, 2)


def test_a_decision_to_open_that_was_overtaken_is_dropped():
    circuit = Circuit(plan(threshold=1))
    permit = circuit.admit(0)
    assert isinstance(circuit.record(permit, 0, failed=True, slow=False), Trip)
    circuit.reset()
    assert not circuit.open(permit, 0, PAUSE)
    assert circuit.state(0) is CircuitState.CLOSED


def test_a_failed_probe_keeps_its_place_until_the_circuit_opens():
    circuit = opened(Circuit(plan()))
    probe = admit(circuit, 30)
    assert isinstance(circuit.record(probe, 30, failed=True, slow=False), Trip)
    assert admit(circuit, 30) is None
    circuit.give_back(probe)
    assert admit(circuit, 30) is not None
    assert not circuit.open(probe, 30, PAUSE)


def test_a_forgotten_probe_may_be_collected_at_any_moment(monkeypatch):
    circuit = opened(Circuit(plan()))
    hung = admit(circuit, 30)
    left = Probe.left

    def collected(probe, now):
        circuit.give_back(hung)
        return left(probe, now)

    monkeypatch.setattr(Probe, "left", collected)
    assert admit(circuit, 60) is not None


def test_without_a_pause_a_probe_still_has_a_place_of_its_own():
    circuit = Circuit(plan(threshold=1, recovery_timeout=0))
    permit = circuit.admit(0)
    circuit.record(permit, 0, failed=True, slow=False)
    circuit.open(permit, 0, 0.0)
    assert circuit.state(0) is CircuitState.HALF_OPEN
    assert [admit(circuit, 0) is not None for _ in range(5)] == [True] + [False] * 4
    assert circuit.retry_after(0) == 1


def test_who_waits_for_retry_after_may_come_a_clock_tick_early():
    tick = 1e-9
    circuit = opened(Circuit(plan()), 100)
    assert circuit.rejects is None or circuit.rejects.left(130 - tick) == 0
    assert circuit.retry_after(130 - tick) is None
    assert circuit.state(130 - tick) is CircuitState.HALF_OPEN
    assert isinstance(admit(circuit, 130 - tick), Probe)
    assert circuit.retry_after(130) > 0
    assert isinstance(admit(circuit, 160 - 2 * tick), Probe), "the lease of the first one is over"
    assert admit(circuit, 160) is None


def test_b3_a_probe_of_an_earlier_half_open_phase_does_not_count_though_its_lease_runs():
    circuit = Circuit(plan(threshold=1, half_open_calls=2))
    trip(circuit, circuit.admit(0), 0, pause=100)
    old, other = circuit.admit(100), circuit.admit(100)
    trip(circuit, other, 101, pause=1)
    new = circuit.admit(102)
    assert isinstance(new, Probe)
    assert circuit.record(old, 103, failed=True, slow=False) == "late"
    assert circuit.state(103) is CircuitState.HALF_OPEN
    assert circuit.record(old, 103, failed=False, slow=False) == "late"
    circuit.record(new, 102.5, failed=False, slow=False)
    assert circuit.state(102.5) is CircuitState.HALF_OPEN, "one of the two successes is missing"


def test_a_permit_counts_once():
    circuit = opened(Circuit(plan(half_open_calls=2)))
    probe = admit(circuit, 30)
    assert end(circuit, probe, 30) is None
    assert end(circuit, probe, 30) == "late"
    assert circuit.state(30) is CircuitState.HALF_OPEN


def trip(circuit, permit, now, pause):
    assert isinstance(circuit.record(permit, now, failed=True, slow=False), Trip)
    assert circuit.open(permit, now, pause)


@pytest.mark.parametrize("has_gil", [True, False])
def test_without_the_gil_nothing_goes_without_the_lock(has_gil, monkeypatch):
    monkeypatch.setattr(_breaker_state, "HAS_GIL", has_gil)
    circuit = Circuit(plan(threshold=1))
    assert circuit.straight is (circuit.phase if has_gil else None)
    opened(circuit)
    assert circuit.straight is None
    assert circuit.rejects is (circuit.phase if has_gil else None)
    for needs_more in ({"key": id}, {"slow_call": 1.0}, {"on_result": id}):
        assert Circuit(plan(**needs_more)).straight is None


def test_shadow_goes_through_all_phases_and_rejects_nothing():
    circuit = Circuit(plan(threshold=1))
    circuit.shadow()
    assert isinstance(admit(circuit, 0), Closed)
    opened(circuit)
    assert (circuit.state(0), circuit.verdict(0)) == (CircuitState.SHADOW, CircuitState.OPEN)
    bystander = admit(circuit, 0)
    assert bystander is BYSTANDER
    assert end(circuit, bystander, 0) is None
    probe = admit(circuit, 30)
    assert isinstance(probe, Probe)
    assert admit(circuit, 30) is BYSTANDER
    assert circuit.verdict(30) is CircuitState.HALF_OPEN
    end(circuit, probe, 30)
    assert circuit.verdict(30) is CircuitState.CLOSED
    assert circuit.state(30) is CircuitState.SHADOW
    assert (circuit.rejected, circuit.late) == (0, 0)


def test_shadowing_an_open_circuit_lets_calls_pass_at_once():
    circuit = opened(Circuit(plan()))
    assert circuit.rejects is (circuit.phase if _breaker_state.HAS_GIL else None)
    circuit.shadow()
    assert circuit.rejects is None
    assert admit(circuit, 1) is BYSTANDER


def test_states_are_strings():
    assert [state.value for state in CircuitState] == [
        "closed",
        "open",
        "half_open",
        "forced_open",
        "shadow",
    ]
    assert CircuitState.OPEN == "open"


# --- Circuits of keys ---


def keyed(threshold: int = 2, model: Circuit | None = None) -> Circuit:
    config = plan(threshold, key=id)
    return Circuit(config, model or Circuit(config))


def test_b16_a_circuit_is_idle_only_when_a_new_one_would_do_as_well():
    circuit = keyed()
    assert circuit.is_idle(0)
    permit = circuit.admit(0)
    assert not circuit.is_idle(0), "a call is in flight"
    end(circuit, permit, 0, failed=True)
    assert not circuit.is_idle(0), "it remembers a failure"
    end(circuit, circuit.admit(0), 0)
    assert circuit.is_idle(0)
    opened(circuit)
    assert not circuit.is_idle(0)
    probe = circuit.admit(30)
    circuit.give_back(probe)
    assert not circuit.is_idle(30)
    end(circuit, circuit.admit(30), 30)
    assert circuit.is_idle(30)
    circuit.shadow()
    assert not circuit.is_idle(30)
    circuit.force_open()
    assert not circuit.is_idle(30)


def test_a_new_circuit_of_a_key_takes_the_mode_of_its_model():
    model = Circuit(plan(key=id))
    model.force_open()
    circuit = keyed(model=model)
    assert circuit.state(0) is CircuitState.FORCED_OPEN
    assert circuit.is_idle(0)
    circuit.reset()
    assert not circuit.is_idle(0), "a new one would be forced open"
    model.reset()
    model.shadow()
    circuit = keyed(model=model)
    assert circuit.state(0) is CircuitState.SHADOW
    assert circuit.is_idle(0)


def test_the_model_counts_for_all_keys():
    model = Circuit(plan(1, key=id))
    circuits = [keyed(1, model) for _ in range(2)]
    for circuit in circuits:
        late = circuit.admit(0)
        opened(circuit)
        assert circuit.admit(1) is None
        end(circuit, late, 1)
    assert (model.opened_count, model.rejected, model.late) == (2, 2, 2)


@pytest.mark.parametrize("outcome", ["success", "failure", "cancel", "late"])
def test_calls_in_flight_are_given_back_once(outcome):
    circuit = keyed(threshold=1)
    permit = circuit.admit(0)
    if outcome == "late":
        circuit.reset()
    if outcome == "cancel":
        circuit.give_back(permit)
    else:
        end(circuit, permit, 0, failed=outcome == "failure")
    assert circuit.in_flight == 0
