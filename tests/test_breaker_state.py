"""The rules of the circuit, one by one; see tests/models for its comparison with a model."""

from datetime import timedelta
from typing import Any

import pytest

from resilience import _breaker_state
from resilience._breaker_config import CircuitBreakerConfig
from resilience._breaker_phases import (
    ABANDONED,
    BYSTANDER,
    FAILURE,
    IGNORED,
    SLOW,
    SLOW_FAILURE,
    SUCCESS,
    CircuitState,
    Closed,
    HalfOpen,
    Outcome,
    Probe,
    Stage,
    Trip,
)
from resilience._breaker_state import Circuit

PAUSE = 30.0


def plan(threshold: int = 2, **more: Any) -> CircuitBreakerConfig:
    return CircuitBreakerConfig(failure_threshold=threshold, **{"recovery_timeout": PAUSE, **more})


def end(circuit: Circuit, permit: Any, now: float, outcome: Outcome = SUCCESS) -> Any:
    """Record an outcome as the policy does, straight path included; return what came of it."""
    if circuit.straight is permit and permit is not None and outcome is SUCCESS and permit.take(now):
        return None
    before = circuit.phase
    verdict = circuit.record(permit, now, outcome)
    if isinstance(verdict, Trip):
        assert circuit.open(permit, now, PAUSE)
    elif circuit.phase is not before:
        return type(circuit.phase).__name__.lower()
    return verdict


def admit(circuit: Circuit, now: float) -> Any:
    return circuit.straight or circuit.admit(now)


def opened(circuit: Circuit, now: float = 0.0) -> Circuit:
    while not isinstance(end(circuit, admit(circuit, now), now, FAILURE), Trip):
        pass
    return circuit


# --- Rule by rule ---


def test_t10_b2_a_result_of_an_older_phase_changes_nothing():
    circuit = Circuit(plan(threshold=1))
    old_good, old_bad = admit(circuit, 0), admit(circuit, 0)
    opened(circuit)
    assert end(circuit, old_good, 1) == "late"
    assert end(circuit, old_bad, 1, FAILURE) == "late"
    assert circuit.retry_after(1) == PAUSE - 1
    probe = admit(circuit, PAUSE)
    assert end(circuit, old_good, PAUSE) == "late"
    assert circuit.state(PAUSE) is CircuitState.HALF_OPEN
    assert end(circuit, probe, PAUSE) == "closed"
    assert circuit.state(PAUSE) is CircuitState.CLOSED
    assert end(circuit, old_bad, PAUSE, FAILURE) == "late"
    assert circuit.state(PAUSE) is CircuitState.CLOSED
    assert circuit.counts["late"] == 4


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
    assert end(circuit, hung, 70, FAILURE) == "late"
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
    end(circuit, calls[0], 20, FAILURE)
    assert circuit.retry_after(20) == PAUSE
    end(circuit, calls[1], 25, FAILURE)
    end(circuit, calls[2], 45, FAILURE)
    assert circuit.retry_after(49) == 1
    assert circuit.counts["opened"] == 1


def test_b8_two_probes_that_fail_together_open_it_once():
    circuit = opened(Circuit(plan(half_open_calls=2)))
    first, second = admit(circuit, 30), admit(circuit, 30)
    assert isinstance(end(circuit, first, 31, FAILURE), Trip)
    assert end(circuit, second, 32, FAILURE) == "late"
    assert circuit.retry_after(32) == PAUSE - 1
    assert circuit.counts["opened"] == 2


def test_b10_a_fast_failure_of_a_probe_is_a_failure():
    circuit = opened(Circuit(plan()))
    verdict = end(circuit, admit(circuit, 30), 30, FAILURE)
    assert verdict == Trip("probe_failed", {})
    assert circuit.state(30) is CircuitState.OPEN


def test_a_slow_probe_opens_it_again():
    circuit = opened(Circuit(plan()))
    assert end(circuit, admit(circuit, 30), 35, SLOW) == Trip("probe_slow", {})


def test_openings_in_a_row_count_until_it_closes():
    circuit = opened(Circuit(plan()))
    end(circuit, admit(circuit, 30), 30, FAILURE)
    assert (circuit.openings, circuit.counts["opened"]) == (2, 2)
    end(circuit, admit(circuit, 60), 60)
    assert (circuit.openings, circuit.counts["opened"]) == (0, 2)


def test_a_decision_to_open_that_was_overtaken_is_dropped():
    circuit = Circuit(plan(threshold=1))
    permit = circuit.admit(0)
    assert isinstance(circuit.record(permit, 0, FAILURE), Trip)
    circuit.reset()
    assert not circuit.open(permit, 0, PAUSE)
    assert circuit.state(0) is CircuitState.CLOSED


def test_a_failed_probe_keeps_its_place_until_the_circuit_opens():
    circuit = opened(Circuit(plan()))
    probe = admit(circuit, 30)
    assert isinstance(circuit.record(probe, 30, FAILURE), Trip)
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
    circuit.record(permit, 0, FAILURE)
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
    assert circuit.record(old, 103, FAILURE) == "late"
    assert circuit.state(103) is CircuitState.HALF_OPEN
    assert circuit.record(old, 103, SUCCESS) == "late"
    circuit.record(new, 102.5, SUCCESS)
    assert circuit.state(102.5) is CircuitState.HALF_OPEN, "one of the two successes is missing"


def test_a_permit_counts_once():
    circuit = opened(Circuit(plan(half_open_calls=2)))
    probe = admit(circuit, 30)
    assert end(circuit, probe, 30) is None
    assert end(circuit, probe, 30) == "late"
    assert circuit.state(30) is CircuitState.HALF_OPEN


def trip(circuit, permit, now, pause):
    assert isinstance(circuit.record(permit, now, FAILURE), Trip)
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
    assert (circuit.rejected, circuit.counts.get("late", 0)) == (0, 0)


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
    end(circuit, permit, 0, FAILURE)
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
    assert (model.counts["opened"], model.rejected, model.counts["late"]) == (2, 2, 2)


@pytest.mark.parametrize("outcome", ["success", "failure", "cancel", "late"])
def test_calls_in_flight_are_given_back_once(outcome):
    circuit = keyed(threshold=1)
    permit = circuit.admit(0)
    if outcome == "late":
        circuit.reset()
    if outcome == "cancel":
        circuit.give_back(permit)
    else:
        end(circuit, permit, 0, FAILURE if outcome == "failure" else SUCCESS)
    assert circuit.in_flight == 0


@pytest.mark.parametrize("outcome", [SUCCESS, SLOW, FAILURE, SLOW_FAILURE, ABANDONED, IGNORED])
@pytest.mark.parametrize("kind", ["closed", "probe", "bystander", "late"])
def test_each_call_is_counted_once_for_itself_and_for_all_keys(kind, outcome):
    model = Circuit(plan(9, key=id))
    circuit = keyed(9, model)
    if kind in ("probe", "bystander"):
        circuit = opened(keyed(1, model))
    if kind == "bystander":
        circuit.shadow()
    circuit.counts.clear()
    model.counts.clear()
    permit = circuit.admit(PAUSE if kind == "probe" else 0)
    if kind == "late":
        circuit.reset()
    if isinstance(circuit.record(permit, PAUSE, outcome), Trip):
        circuit.give_back(permit)
    expected = "late" if kind == "late" and outcome.is_verdict else outcome.name
    assert circuit.counts == model.counts == {expected: 1}
    assert circuit.in_flight == 0


def test_slow_failures_are_failures():
    assert [each.name for each in (SUCCESS, SLOW, FAILURE, SLOW_FAILURE, ABANDONED, IGNORED)] == [
        "success",
        "slow",
        "failure",
        "failure",
        "abandoned",
        "ignored",
    ]


# --- The last pause ---


def test_the_last_pause_is_known_until_it_closes():
    circuit = Circuit(plan(threshold=1))
    assert circuit.pause == 0
    trip(circuit, circuit.admit(0), 0, pause=7)
    assert circuit.pause == 7
    trip(circuit, circuit.admit(7), 7, pause=20)
    assert circuit.pause == 20
    end(circuit, circuit.admit(27), 27)
    assert circuit.pause == 0


# --- Successes on the straight path ---


@pytest.mark.parametrize("arguments", [{"failure_rate": 1.0}, {"slow_call": 5.0}, {"key": id}])
def test_successes_are_counted_over_all_eras(arguments):
    circuit = Circuit(plan(2, minimum_calls=20, **arguments))
    for _ in range(7):
        end(circuit, admit(circuit, 0), 0)
    assert circuit.successes() == 7
    opened(circuit)
    assert circuit.successes() == 7
    end(circuit, admit(circuit, PAUSE), PAUSE)
    assert circuit.successes() == 8
    end(circuit, admit(circuit, PAUSE), PAUSE)
    circuit.shadow()
    assert circuit.successes() == 9
    for _ in range(3):
        end(circuit, admit(circuit, PAUSE), PAUSE)
    assert circuit.successes() == 12
    circuit.force_open()
    assert circuit.successes() == 12
    circuit.reset()
    assert circuit.successes() == 0


def test_successes_are_not_counted_where_that_would_cost_something():
    circuit = Circuit(plan())
    end(circuit, admit(circuit, 0), 0)
    assert circuit.successes() is None


# --- Stages of a progressive recovery ---


def staged(rates: tuple[float, ...] = (0.25, 0.5), now: float = PAUSE, **more: Any) -> Circuit:
    circuit = opened(Circuit(plan(half_open_rates=rates, **more)), now - PAUSE)
    assert end(circuit, circuit.admit(now), now) == "stage"
    return circuit


def passing(circuit: Circuit, now: float, calls: int) -> list[int]:
    """Number those calls, from 1, that pass; each succeeds after a while that is not told."""
    return [number for number in range(1, calls + 1) if circuit.admit(now) is not None]


def test_good_probes_lead_to_the_first_stage_and_a_bad_one_opens_it():
    circuit = opened(Circuit(plan(half_open_calls=2, half_open_rates=(0.5,))))
    first, second = admit(circuit, PAUSE), admit(circuit, PAUSE)
    assert end(circuit, first, PAUSE) is None
    assert isinstance(circuit.phase, HalfOpen)
    assert end(circuit, second, PAUSE) == "stage"
    assert circuit.state(PAUSE) is CircuitState.HALF_OPEN
    circuit = opened(Circuit(plan(half_open_rates=(0.5,))))
    assert end(circuit, admit(circuit, PAUSE), PAUSE, FAILURE) == Trip("probe_failed", {})


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.01, [1, 101, 201]),
        (0.05, [*range(1, 221, 20)]),
        (0.07, [1, 15, 29, 43, 58, 72, 86, 101, 115, 129, 143, 158, 172, 186, 201, 215]),
        (0.1, [*range(1, 221, 10)]),
        (0.25, [*range(1, 221, 4)]),
        (0.5, [*range(1, 221, 2)]),
        (1.0, [*range(1, 221)]),
    ],
)
def test_which_calls_pass_is_no_matter_of_chance(rate, expected):
    assert passing(staged((rate,)), PAUSE, 220) == expected


def test_a_rate_is_kept_exactly_however_many_calls_come():
    circuit = staged((0.001,))
    assert len(passing(circuit, PAUSE, 100_000)) == 100


def test_each_stage_begins_to_count_anew():
    circuit = staged((0.25, 0.5))
    for _ in range(3):
        call = circuit.admit(PAUSE)
        for _ in range(3):
            assert circuit.admit(PAUSE) is None
    assert end(circuit, call, 2 * PAUSE) == "stage"
    assert passing(circuit, 2 * PAUSE, 5) == [1, 3, 5]


@pytest.mark.parametrize(("arguments", "seconds"), [({}, PAUSE), ({"half_open_stage": 4.0}, 4.0)])
def test_a_stage_lasts_its_time_and_then_the_next_call_meets_the_next(arguments, seconds):
    circuit = staged((0.25, 0.5), **arguments)
    first = circuit.phase
    assert end(circuit, circuit.admit(PAUSE), PAUSE) is None
    almost = PAUSE + seconds - 0.25
    assert circuit.admit(almost) is None
    assert circuit.phase is first
    assert circuit.admit(PAUSE + seconds) is circuit.phase is not first
    assert circuit.phase.rate == 0.5


def test_a_stage_moves_on_when_a_call_ends_too():
    circuit = staged((0.25, 0.5))
    call = circuit.admit(PAUSE)
    assert end(circuit, call, 2 * PAUSE) == "stage"
    assert circuit.phase.rate == 0.5
    assert not circuit.phase.is_over(2 * PAUSE)


def test_after_the_last_stage_it_closes():
    circuit = staged((0.25, 0.5), key=id)
    end(circuit, circuit.admit(PAUSE), 60)
    assert end(circuit, circuit.admit(60), 61) is None
    assert circuit.state(89) is CircuitState.HALF_OPEN
    assert not circuit.is_idle(89)
    assert circuit.state(90) is CircuitState.CLOSED, "the next call will find it closed"
    assert circuit.is_idle(90)
    assert isinstance(circuit.admit(90), Closed)
    assert (circuit.openings, circuit.pause) == (0, 0)


def test_a_stage_that_is_over_is_closed_only_if_it_was_the_last():
    circuit = staged((0.25, 0.5), key=id)
    end(circuit, circuit.admit(PAUSE), PAUSE)
    assert circuit.phase.is_over(60)
    assert circuit.state(60) is CircuitState.HALF_OPEN
    assert not circuit.is_idle(60)


@pytest.mark.parametrize("outcome", [SLOW, FAILURE, SLOW_FAILURE, ABANDONED, IGNORED])
def test_a_stage_goes_on_without_a_success(outcome):
    circuit = staged((1.0,))
    stage = circuit.phase
    end(circuit, circuit.admit(PAUSE), 60, outcome)
    circuit.admit(90)
    assert circuit.phase is stage
    assert circuit.state(90) is CircuitState.HALF_OPEN


def test_t10_b2_a_success_of_an_earlier_stage_moves_no_later_one_on():
    circuit = staged((1.0, 1.0, 1.0), half_open_stage=5.0)
    old = circuit.admit(30)
    assert end(circuit, circuit.admit(30), 35) == "stage"
    second = circuit.phase
    assert end(circuit, old, 40) is None
    assert circuit.phase is second
    circuit.admit(41)
    assert circuit.phase is second
    assert end(circuit, circuit.admit(42), 42) == "stage"


def test_b5_a_failure_of_an_earlier_stage_counts_in_a_later_one():
    circuit = staged((1.0, 1.0), threshold=2, half_open_stage=5.0)
    slow_to_fail = [circuit.admit(30) for _ in range(2)]
    assert end(circuit, circuit.admit(30), 35) == "stage"
    assert end(circuit, slow_to_fail[0], 36, FAILURE) is None
    verdict = end(circuit, slow_to_fail[1], 36, FAILURE)
    assert verdict == Trip("failure_threshold", {"failures": 2})
    assert circuit.state(36) is CircuitState.OPEN


def test_t10_b2_b3_results_of_one_recovery_are_late_in_the_next_and_when_it_is_closed():
    circuit = staged((1.0,), threshold=1)
    good, bad = circuit.admit(30), circuit.admit(30)
    assert isinstance(end(circuit, circuit.admit(31), 31, FAILURE), Trip)
    assert end(circuit, good, 32) == end(circuit, bad, 32, FAILURE) == "late"
    probe = circuit.admit(61)
    assert end(circuit, good, 61) == "late"
    assert end(circuit, probe, 61) == "stage"
    assert end(circuit, good, 62) == end(circuit, bad, 62, FAILURE) == end(circuit, probe, 62) == "late"
    older = circuit.admit(62)
    assert end(circuit, circuit.admit(62), 92) == "closed"
    assert end(circuit, older, 93, FAILURE) == "late"
    assert circuit.state(93) is CircuitState.CLOSED


def test_t10_calls_of_the_closed_era_do_not_count_in_a_stage():
    circuit = Circuit(plan(threshold=1, half_open_rates=(1.0,)))
    old = admit(circuit, 0)
    end(circuit, admit(circuit, 0), 0, FAILURE)
    end(circuit, admit(circuit, 30), 30)
    assert isinstance(circuit.phase, Stage)
    assert end(circuit, old, 31, FAILURE) == "late"
    assert isinstance(circuit.phase, Stage)


def test_a_stage_is_judged_by_the_rules_of_a_closed_circuit_from_zero():
    circuit = staged((1.0,), threshold=3)
    for _ in range(2):
        assert end(circuit, circuit.admit(30), 30, FAILURE) is None
    end(circuit, circuit.admit(30), 30)
    for _ in range(2):
        assert end(circuit, circuit.admit(30), 30, FAILURE) is None
    assert isinstance(end(circuit, circuit.admit(30), 30, FAILURE), Trip)
    assert circuit.openings == 2


def test_t12_b4_calls_that_hang_do_not_keep_a_stage_from_probing():
    circuit = staged((0.01,), half_open_stage=10.0)
    assert circuit.admit(30) is not None
    assert circuit.admit(39.75) is None
    assert circuit.admit(40) is not None, "none has passed for as long as a stage lasts"
    assert circuit.admit(49.75) is None
    third = circuit.admit(50)
    assert circuit.admit(50) is None
    assert end(circuit, third, 51) == "closed"


def test_b9_a_cancelled_call_of_a_stage_makes_room_for_no_other():
    circuit = staged((0.25,), key=id)
    for _ in range(3):
        circuit.record(circuit.admit(30), 30, ABANDONED)
        assert [circuit.admit(30) for _ in range(3)] == [None] * 3
    assert circuit.in_flight == 0


def test_who_is_rejected_in_a_stage_may_come_back_at_any_time():
    circuit = staged((0.25,))
    circuit.admit(30)
    assert circuit.admit(30) is None
    assert circuit.retry_after(30) is None


@pytest.mark.parametrize("ahead", [0.0, 10.0])
def test_t63_a_stage_ends_when_the_clock_is_set_back(ahead):
    circuit = staged((0.25,), now=1000)
    end(circuit, circuit.admit(1000), 1000)
    back = 1000 - ahead
    assert circuit.state(back) is CircuitState.HALF_OPEN
    assert circuit.admit(back) is None
    assert circuit.state(back - 11) is CircuitState.CLOSED


def test_a_shadow_goes_through_the_stages_and_rejects_nothing():
    circuit = Circuit(plan(threshold=1, half_open_rates=(0.5,)))
    circuit.shadow()
    opened(circuit)
    end(circuit, circuit.admit(30), 30)
    permits = [circuit.admit(30) for _ in range(4)]
    assert [permit is BYSTANDER for permit in permits] == [False, True, False, True]
    assert end(circuit, permits[1], 60) is None
    assert circuit.verdict(60) is CircuitState.HALF_OPEN
    end(circuit, permits[0], 60)
    assert circuit.verdict(60) is CircuitState.CLOSED
    assert circuit.state(60) is CircuitState.SHADOW


def test_the_straight_path_is_off_in_a_stage():
    circuit = staged((1.0,))
    assert circuit.straight is circuit.rejects is None
    circuit.shadow()
    assert circuit.straight is None


# --- Abandoned calls ---


def test_b7_an_abandoned_call_counts_for_its_own_rule_alone():
    circuit = Circuit(plan(2, failure_rate=1.0, window=4, minimum_calls=2, abandoned_rate=1.0))
    end(circuit, circuit.admit(0), 0, FAILURE)
    verdicts = [end(circuit, circuit.admit(0), 0, ABANDONED) for _ in range(4)]
    reason = Trip("abandoned_rate", {"abandoned_calls": 4, "calls": 4, "rate": 1.0})
    assert verdicts == [None, None, None, reason]
    assert circuit.state(0) is CircuitState.OPEN


def test_b7_successes_and_failures_are_calls_that_were_not_abandoned():
    circuit = Circuit(plan(9, window=4, minimum_calls=4, abandoned_rate=0.5))
    for outcome in (ABANDONED, SUCCESS, FAILURE):
        assert end(circuit, circuit.admit(0), 0, outcome) is None
    assert isinstance(end(circuit, circuit.admit(0), 0, ABANDONED), Trip)


def test_b7_a_success_may_complete_the_minimum():
    circuit = Circuit(plan(9, window=4, minimum_calls=2, abandoned_rate=0.5))
    assert end(circuit, circuit.admit(0), 0, ABANDONED) is None
    assert circuit.straight is None, "every call must be counted"
    assert end(circuit, circuit.admit(0), 0).reason == "abandoned_rate"


def test_b6_without_that_rule_an_abandoned_call_counts_for_nothing():
    circuit = Circuit(plan(2, failure_rate=0.0, slow_call=1.0, minimum_calls=1))
    for _ in range(50):
        assert end(circuit, circuit.admit(0), 0, ABANDONED) is None
    assert all(rule.is_clean(0) for rule in circuit.phase.rules)
    assert circuit.is_idle(0)


def test_b7_an_abandoned_probe_gives_its_place_back_and_says_nothing():
    circuit = opened(Circuit(plan(1, abandoned_rate=0.0)))
    for _ in range(5):
        assert end(circuit, admit(circuit, 30), 30, ABANDONED) is None
        assert isinstance(circuit.phase, HalfOpen)
    assert end(circuit, admit(circuit, 30), 30) == "closed"


def test_b7_a_stage_may_open_by_abandoned_calls():
    circuit = staged((1.0,), abandoned_rate=1.0, minimum_calls=3)
    verdicts = [end(circuit, circuit.admit(30), 30, ABANDONED) for _ in range(3)]
    assert [isinstance(verdict, Trip) for verdict in verdicts] == [False, False, True]


def test_b16_a_circuit_that_remembers_abandoned_calls_is_not_idle():
    circuit = Circuit(plan(9, window=2, minimum_calls=2, abandoned_rate=1.0, key=id))
    end(circuit, circuit.admit(0), 0, ABANDONED)
    assert not circuit.is_idle(0)
    end(circuit, circuit.admit(0), 0)
    end(circuit, circuit.admit(0), 0)
    assert circuit.is_idle(0)


def test_b16_failures_that_left_a_window_of_seconds_are_forgiven():
    window = timedelta(seconds=10)
    config = plan(9, failure_rate=1.0, abandoned_rate=1.0, window=window, minimum_calls=9, key=id)
    circuit = Circuit(config._replace(failure_threshold=None))
    for outcome in (FAILURE, ABANDONED):
        end(circuit, circuit.admit(0), 0, outcome)
    assert not circuit.is_idle(9)
    assert circuit.is_idle(10)


def test_a_call_that_counts_for_nothing_leaves_its_phase_alone():
    circuit = staged((1.0,))
    end(circuit, circuit.admit(30), 30)
    ignored = circuit.admit(30)
    stage = circuit.phase
    assert circuit.record(ignored, 60, IGNORED) is None
    assert circuit.phase is stage, "the garbage collector may be in the middle of anything"
    assert isinstance(circuit.admit(60), Closed)


def test_every_rule_sees_the_call_that_trips_another():
    circuit = Circuit(plan(1, failure_rate=1.0, minimum_calls=9))
    permit = circuit.admit(0)
    assert circuit.record(permit, 0, FAILURE).reason == "failure_threshold"
    assert [rule.facts(0)["failures"] for rule in circuit.phase.rules] == [1, 1]
    assert isinstance(circuit.phase, Closed)
