"""What a circuit tells about itself: plain data, ready for JSON."""

from __future__ import annotations

from typing import Any

from resilience._breaker_phases import CLASSES, SUCCESS, HalfOpen, Stage
from resilience._breaker_state import Circuit


def figures_of(circuit: Circuit, now: float) -> dict[str, Any]:
    """Return the state of a circuit, what its rules have counted, and its totals."""
    phase = circuit.phase
    figures: dict[str, Any] = {
        "state": circuit.state(now).value,
        "would_be": circuit.verdict(now).value,
        "failures": 0,
        "slow_calls": 0,
        "abandoned_calls": 0,
        "calls": None,
        "failure_rate": None,
        "slow_call_rate": None,
        "abandoned_rate": None,
        "retry_after": circuit.retry_after(now),
        "probes": len(phase.probes) if isinstance(phase, HalfOpen) else 0,
        "half_open_rate": phase.rate if isinstance(phase, Stage) else None,
        "openings": circuit.openings,
    }
    for rule in phase.rules:
        facts = rule.facts(now)
        rate = facts.pop("rate", None)
        figures |= facts if rate is None else {**facts, rule.reason: rate}
    return figures | totals_of(circuit)


def totals_of(circuit: Circuit) -> dict[str, Any]:
    """Return what a circuit has counted since its last reset."""
    counts = circuit.counts
    outcomes = {each: counts.get(each, 0) for each in CLASSES}
    return {
        "outcomes": {**outcomes, SUCCESS.name: circuit.successes()},
        "opened_count": counts.get("opened", 0),
        "rejected": circuit.rejected,
        "late": counts.get("late", 0),
    }
