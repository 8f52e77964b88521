"""`circuit_breaker` beside a model that remembers every call and searches that log at each question.

The real thing is driven from outside, call by call, without an event loop: so each call can be left
hanging, ended, cancelled or closed at any moment, in any order.
"""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from resilience import CircuitBreakerOpenError, _breaker_state, _clock, circuit_breaker, subscribe
from tests.models.machines import as_test

SLOW = 1.0  # seconds from which on a call is slow
KEYS = ("", 0, "a", "b", "c")
SEVERITY = ("closed", "shadow", "half_open", "open", "forced_open")


class DownError(Exception):
    """A failure."""


class OtherError(Exception):
    """No failure."""


# --- The model ---


@dataclass
class Plan:
    """The arguments, as the model understands them."""

    threshold: int | None
    failure_rate: float | None
    slow_call: bool
    slow_call_rate: float
    abandoned_rate: float | None
    window: int
    in_seconds: bool
    minimum: int
    pauses: list[float]
    places: int
    rates: list[str]
    stage: float | None
    bad_result: bool
    keyed: bool
    max_keys: int

    def arguments(self) -> dict[str, Any]:
        return {
            "failure_threshold": self.threshold,
            "failure_rate": self.failure_rate,
            "slow_call": SLOW if self.slow_call else None,
            "slow_call_rate": self.slow_call_rate,
            "abandoned_rate": self.abandoned_rate,
            "window": timedelta(seconds=self.window) if self.in_seconds else self.window,
            "minimum_calls": self.minimum,
            "recovery_timeout": self.pauses if len(self.pauses) > 1 else self.pauses[0],
            "half_open_calls": self.places,
            "half_open_rates": [float(each) for each in self.rates],
            "half_open_stage": self.stage,
            "ignore": OtherError,
            "on_result": (lambda value: value == "bad") if self.bad_result else None,
            "key": (lambda key: key) if self.keyed else None,
            "max_keys": self.max_keys,
        }

    @property
    def is_counting_successes(self) -> bool:
        known = self.slow_call or self.bad_result or self.keyed
        return known or self.abandoned_rate is not None or self.failure_rate is not None


@dataclass
class Call:
    circuit: "Model"
    role: str  # "call", "probe", "staged" or "bystander"
    era: int
    stage: int
    started: float
    lease: float = math.inf
    outcome: str | None = None
    ended: float = 0.0
    counted_in: int = -1  # the era of the rules that judged it

    def runs(self, now: float) -> bool:
        return self.outcome is None and now < self.started + self.lease


@dataclass
class Model:
    """One circuit."""

    plan: Plan
    page: "Page"
    mode: str | None = None
    state: str = "closed"
    era: int = 0
    eras: "count[int]" = field(default_factory=lambda: count(1))
    since: float = 0.0
    pause: float = 0.0
    openings: int = 0
    stage: int = 0
    asked: int = 0
    calls: list[Call] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)

    def tally(self, what: str) -> None:
        self.totals[what] += 1
        if self.page.totals is not self.totals:
            self.page.totals[what] += 1

    def enter(self, state: str, now: float = 0.0) -> None:
        self.state, self.since, self.era = state, now, next(self.eras)

    def close(self) -> None:
        self.openings = 0
        self.enter("closed")

    # Admission

    def advance(self, now: float) -> None:
        if self.state == "open" and now >= self.since + self.pause:
            self.enter("half_open", now)
            self.page.tell("half_opened", self)
        elif self.state == "half_open" and not self.missing():
            if not self.plan.rates:
                self.close()
                self.page.tell("closed", self)
                return
            self.enter("staged", now)
            self.stage = self.asked = 0
            self.page.tell("half_opened", self)
        elif self.stage_is_over(now):
            if self.stage == len(self.plan.rates) - 1:
                self.close()
                self.page.tell("closed", self)
                return
            self.since, self.stage, self.asked = now, self.stage + 1, 0
            self.page.tell("half_opened", self)

    def lease(self) -> float:
        return self.pause or 1.0

    def stage_seconds(self) -> float:
        return self.lease() if self.plan.stage is None else self.plan.stage

    def stage_is_over(self, now: float) -> bool:
        own = [call for call in self.of_stage() if call.outcome == "success"]
        return self.state == "staged" and bool(own) and now >= self.since + self.stage_seconds()

    def of_stage(self) -> list[Call]:
        return [
            call
            for call in self.calls
            if call.role == "staged" and call.era == self.era and call.stage == self.stage
        ]

    def probes(self, now: float) -> list[Call]:
        mine = [call for call in self.calls if call.role == "probe" and call.era == self.era]
        return [call for call in mine if call.runs(now)]

    def missing(self) -> int:
        mine = [call for call in self.calls if call.role == "probe" and call.era == self.era]
        return self.plan.places - len([call for call in mine if call.outcome == "success"])

    def free_places(self, now: float) -> int:
        return self.missing() - len(self.probes(now))

    def admit(self, now: float) -> Call | None:
        role = None
        if self.mode != "forced_open":
            self.advance(now)
            role = self.role(now)
        if role is None and self.mode == "shadow":
            role = "bystander"
        if role is None:
            self.tally("rejected")
        if role in (None, "bystander"):
            self.page.tell("rejected", self)
        if role is None:
            return None
        lease = self.lease() if role == "probe" else math.inf
        call = Call(self, role, self.era, self.stage, now, lease)
        self.calls.append(call)
        return call

    def role(self, now: float) -> str | None:
        if self.state == "closed":
            return "call"
        if self.state == "half_open" and self.free_places(now) > 0:
            return "probe"
        if self.state == "staged":
            self.asked += 1
            passed = self.of_stage()
            is_due = Fraction(len(passed), self.asked) < Fraction(self.plan.rates[self.stage])
            if is_due or now >= passed[-1].started + self.stage_seconds():
                return "staged"
        return None

    # Outcomes

    def end(self, call: Call, outcome: str, now: float) -> None:
        in_time = call.runs(now)
        call.outcome, call.ended = outcome, now
        is_verdict = outcome not in ("abandoned", "ignored")
        stands = in_time and call.era == self.era and call.role != "bystander"
        if is_verdict and not stands and call.role != "bystander":
            call.outcome = "late"
            self.tally("late")
            self.page.tell("late", self)
            return
        self.tally({"slow_failure": "failure"}.get(outcome, outcome))
        if not stands:
            return
        if call.role == "probe":
            if is_verdict and outcome != "success":
                self.open(now, "probe_slow" if outcome == "slow" else "probe_failed")
            elif is_verdict:
                self.advance(now)
            return
        call.counted_in = self.era
        reason = None if outcome == "ignored" else self.reason_to_open(call, now)
        if reason:
            self.open(now, reason)
        elif is_verdict:
            self.advance(now)

    def judged(self) -> list[Call]:
        """Those that count in this era, in the order in which they ended."""
        mine = [call for call in self.page.ended if call.circuit is self and call.counted_in == self.era]
        return [call for call in mine if call.outcome != "ignored"]

    def in_window(self, now: float, *, with_abandoned: bool) -> list[Call]:
        seen = [call for call in self.judged() if with_abandoned or call.outcome != "abandoned"]
        if not self.plan.in_seconds:
            return seen[-self.plan.window :]
        width = self.plan.window / 20
        return [call for call in seen if int(call.ended / width) > int(now / width) - 20]

    def in_a_row(self) -> int:
        verdicts = [call.outcome for call in self.judged() if call.outcome != "abandoned"]
        row = 0
        for outcome in reversed(verdicts):
            if "failure" not in outcome:
                break
            row += 1
        return row

    def rate_rules(self, now: float) -> list[tuple[str, float, str, int, int]]:
        """Name of the rule, what trips it, name of its count, bad calls, calls."""
        found = []
        for name, rate, of, bad in (
            ("abandoned_rate", self.plan.abandoned_rate, "abandoned_calls", ("abandoned",)),
            ("failure_rate", self.plan.failure_rate, "failures", ("failure", "slow_failure")),
            (
                "slow_call_rate",
                self.plan.slow_call_rate if self.plan.slow_call else None,
                "slow_calls",
                ("slow", "slow_failure"),
            ),
        ):
            if rate is None:
                continue
            calls = self.in_window(now, with_abandoned=name == "abandoned_rate")
            found.append((name, rate, of, len([c for c in calls if c.outcome in bad]), len(calls)))
        return found

    def reason_to_open(self, last: Call, now: float) -> str | None:
        self.page.ended.append(last)
        if self.plan.threshold and last.outcome != "abandoned" and self.in_a_row() >= self.plan.threshold:
            return "failure_threshold"
        for name, rate, _, bad, calls in self.rate_rules(now):
            if last.outcome == "abandoned" and name != "abandoned_rate":
                continue
            if calls >= self.plan.minimum and bad and Fraction(bad, calls) >= Fraction(rate):
                return name
        return None

    def open(self, now: float, reason: str) -> None:
        self.enter("open", now)
        self.openings += 1
        self.pause = self.plan.pauses[min(self.openings, len(self.plan.pauses)) - 1]
        self.tally("opened")
        self.page.tell("opened", self, reason)

    # Commands

    def force_open(self) -> None:
        self.mode = "forced_open"
        self.close()

    def shadow(self) -> None:
        self.mode = "shadow"

    def reset(self) -> None:
        self.mode = None
        self.close()
        self.totals.clear()

    # Looks

    def is_closed(self, now: float) -> bool:
        last = self.stage == len(self.plan.rates) - 1
        return self.state == "closed" or (last and self.stage_is_over(now))

    def would_be(self, now: float) -> str:
        if self.mode == "forced_open":
            return "forced_open"
        if self.is_closed(now):
            return "closed"
        return "open" if self.state == "open" and now < self.since + self.pause else "half_open"

    def seen(self, now: float) -> str:
        return self.mode or self.would_be(now)

    def retry_after(self, now: float) -> float | None:
        if self.state == "open":
            return self.since + self.pause - now if now < self.since + self.pause else None
        if self.state == "half_open" and self.free_places(now) <= 0:
            return min(call.started + call.lease for call in self.probes(now)) - now
        return None

    def is_idle(self, now: float) -> bool:
        busy = [call for call in self.calls if call.outcome is None]
        failing = self.plan.threshold and self.in_a_row()
        bad = [bad for _, _, _, bad, _ in self.rate_rules(now) if bad]
        return not busy and self.mode == self.page.mode and self.is_closed(now) and not failing and not bad

    def snapshot(self, now: float) -> dict[str, Any]:
        rules = self.rate_rules(now) if self.state in ("closed", "staged") else []
        facts: dict[str, Any] = {"failures": 0, "slow_calls": 0, "abandoned_calls": 0, "calls": None}
        facts |= {"failure_rate": None, "slow_call_rate": None, "abandoned_rate": None}
        if self.plan.threshold and self.state in ("closed", "staged"):
            facts["failures"] = self.in_a_row()
        for name, _, of, bad, calls in rules:
            facts |= {of: bad, "calls": calls, name: bad / calls if calls else 0.0}
        return {
            "state": self.seen(now),
            "would_be": self.would_be(now),
            **facts,
            "retry_after": self.retry_after(now),
            "probes": None,  # one whose lease is over is there until the next call
            "half_open_rate": float(self.plan.rates[self.stage]) if self.state == "staged" else None,
            "openings": self.openings,
            **self.page.shown(self.totals),
        }


@dataclass
class Page:
    """All circuits of a policy: by key, least recently used first."""

    plan: Plan
    mode: str | None = None
    totals: Counter[str] = field(default_factory=Counter)
    own: list[tuple[Any, Model]] = field(default_factory=list)
    shared: Model | None = None
    ended: list[Call] = field(default_factory=list)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    only: Model | None = None

    def __post_init__(self) -> None:
        if not self.plan.keyed:
            self.only = Model(self.plan, self, totals=self.totals)

    def tell(self, what: str, circuit: Model, reason: str | None = None) -> None:
        rate = None
        if what == "half_opened" and circuit.state == "staged":
            rate = float(self.plan.rates[circuit.stage])
        self.told.append((what, reason, rate, circuit.mode == "shadow"))

    def shown(self, totals: Counter[str]) -> dict[str, Any]:
        classes = ("success", "failure", "slow", "ignored", "abandoned")
        outcomes: dict[str, int | None] = {each: totals[each] for each in classes}
        if not self.plan.is_counting_successes:
            outcomes["success"] = None
        return {
            "outcomes": outcomes,
            "opened_count": totals["opened"],
            "rejected": totals["rejected"],
            "late": totals["late"],
        }

    def at(self, key: Any, now: float) -> Model:
        if self.only is not None:
            return self.only
        for entry in self.own:
            if entry[0] == key:
                self.own.remove(entry)
                self.own.append(entry)
                return entry[1]
        if len(self.own) == self.plan.max_keys and not self.evict(now):
            self.shared = self.shared or Model(self.plan, self, self.mode)
            return self.shared
        self.own.append((key, Model(self.plan, self, self.mode)))
        return self.own[-1][1]

    def evict(self, now: float) -> bool:
        for _ in range(min(8, len(self.own))):
            entry = self.own.pop(0)
            if entry[1].is_idle(now):
                return True
            self.own.append(entry)
        return False

    def all(self) -> list[Model]:
        circuits = [model for _, model in self.own]
        return circuits + ([self.shared] if self.shared else [])

    def snapshot(self, now: float) -> dict[str, Any]:
        if self.only is not None:
            return self.only.snapshot(now)
        alone = [self.mode or "closed"]
        would_be = ["forced_open" if self.mode == "forced_open" else "closed"]
        return {
            "state": max(alone + [each.seen(now) for each in self.all()], key=SEVERITY.index),
            "would_be": max(would_be + [each.would_be(now) for each in self.all()], key=SEVERITY.index),
            "keys": len(self.own),
            "states": dict(Counter(each.seen(now) for each in self.all())),
            **self.shown(self.totals),
        }


# --- The comparison ---


class Suspend:
    def __await__(self):
        return (yield)


async def suspended(key: Any) -> Any:
    return await Suspend()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    window = draw(st.integers(1, 8))
    plan = Plan(
        threshold=draw(st.sampled_from([None, 1, 2, 3])),
        failure_rate=draw(st.sampled_from([None, 0.0, 0.25, 0.5, 1.0])),
        slow_call=draw(st.booleans()),
        slow_call_rate=draw(st.sampled_from([0.5, 1.0])),
        abandoned_rate=draw(st.sampled_from([None, 0.0, 0.5, 1.0])),
        window=window,
        in_seconds=draw(st.booleans()),
        minimum=draw(st.integers(1, window)),
        pauses=draw(st.sampled_from([[30.0], [0.0], [0.5], [5.0, 30.0, 10.0], [0.0, 5.0]])),
        places=draw(st.integers(1, 3)),
        rates=draw(st.sampled_from([[], [], ["1"], ["0.25", "0.5"], ["0.125", "0.5", "1"]])),
        stage=draw(st.sampled_from([None, 0.5, 5.0])),
        bad_result=draw(st.booleans()),
        keyed=draw(st.booleans()),
        max_keys=draw(st.integers(1, 3)),
    )
    if plan.threshold is None and plan.failure_rate is None and not plan.slow_call:
        plan.threshold = 5
    return plan


class BreakerMachine(RuleBasedStateMachine):
    """Every command of a breaker, and every end of a call."""

    @initialize(plan=plans(), has_gil=st.booleans())
    def make(self, plan: Plan, has_gil: bool) -> None:
        self.now = 0.0
        self.clock, _clock.monotonic = _clock.monotonic, lambda: self.now
        self.gil, _breaker_state.HAS_GIL = _breaker_state.HAS_GIL, has_gil
        self.plan = plan
        self.page = Page(plan)
        self.breaker = circuit_breaker(**plan.arguments(), name="api")
        self.function = self.breaker(suspended)
        self.calls: list[tuple[Call, Any]] = []
        self.told: list[Any] = []
        self.unsubscribe = subscribe(self.told.append)

    def teardown(self) -> None:
        for _, coroutine in self.calls:
            coroutine.close()
        self.unsubscribe()
        _clock.monotonic = self.clock
        _breaker_state.HAS_GIL = self.gil

    # Calls

    @rule(key=st.sampled_from(KEYS))
    def start(self, key: Any) -> None:
        circuit = self.page.at(key, self.now)
        call = circuit.admit(self.now)
        coroutine = self.function(key)
        if call is not None:
            coroutine.send(None)
            self.calls.append((call, coroutine))
        else:
            with pytest.raises(CircuitBreakerOpenError) as caught:
                coroutine.send(None)
            expected = None if circuit.mode == "forced_open" else circuit.retry_after(self.now)
            assert caught.value.retry_after == expected
        self.compare()

    @precondition(lambda self: self.calls)
    @rule(
        which=st.integers(0, 99),
        how=st.sampled_from(
            ["return", "return", "bad", "raise", "raise", "other", "cancel", "cancel", "close"]
        ),
    )
    def end(self, which: int, how: str) -> None:
        call, coroutine = self.calls.pop(which % len(self.calls))
        self.finish(call, coroutine, how)
        self.compare()

    def finish(self, call: Call, coroutine: Any, how: str) -> None:
        ways = {
            "return": (StopIteration, lambda: coroutine.send("ok")),
            "bad": (StopIteration, lambda: coroutine.send("bad")),
            "raise": (DownError, lambda: coroutine.throw(DownError())),
            "other": (OtherError, lambda: coroutine.throw(OtherError())),
            "cancel": (asyncio.CancelledError, lambda: coroutine.throw(asyncio.CancelledError())),
        }
        if how == "close":
            coroutine.close()
        else:
            raises, end = ways[how]
            with pytest.raises(raises):
                end()
        call.circuit.end(call, self.outcome(call, how), self.now)

    def outcome(self, call: Call, how: str) -> str:
        if how in ("other", "close", "cancel"):
            return "abandoned" if how == "cancel" else "ignored"
        failed = how == "raise" or (how == "bad" and self.plan.bad_result)
        slow = self.plan.slow_call and self.now - call.started >= SLOW
        if failed:
            return "slow_failure" if slow else "failure"
        return "slow" if slow else "success"

    # The rest of the world

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.75, 5.0, 29.5, 30.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.compare()

    @rule(command=st.sampled_from(["force_open", "shadow", "reset", "reset", "reset"]))
    def command_all(self, command: str) -> None:
        for model in [self.page.only] if self.page.only else self.page.all():
            getattr(model, command)()
        if self.plan.keyed:
            self.page.mode = {"force_open": "forced_open", "shadow": "shadow", "reset": None}[command]
            if command == "reset":
                self.page.own, self.page.shared = [], None
                self.page.totals.clear()
        getattr(self.breaker, command)()
        self.drop_commands()
        self.compare()

    @precondition(lambda self: self.plan.keyed)
    @rule(key=st.sampled_from(KEYS), command=st.sampled_from(["force_open", "shadow", "reset", "reset"]))
    def command_one(self, key: Any, command: str) -> None:
        model = self.page.at(key, self.now)
        if model is self.page.shared and command != "reset":
            with pytest.raises(RuntimeError, match="no circuit is left for this key"):
                getattr(self.breaker.at(key), command)()
            return
        getattr(model, command)()
        getattr(self.breaker.at(key), command)()
        self.drop_commands()
        self.compare()

    @precondition(lambda self: self.plan.keyed)
    @rule(key=st.sampled_from(KEYS))
    def look(self, key: Any) -> None:
        model = self.page.at(key, self.now)
        expected = {**model.snapshot(self.now), "shared": model is self.page.shared}
        self.compare_figures(self.breaker.at(key).snapshot(), expected)
        assert self.breaker.at(key).state == model.seen(self.now)

    # Comparing

    def drop_commands(self) -> None:
        """Forget what commands told: that is not the model's."""
        self.told[:] = [
            event for event in self.told if event.attributes.get("reason") not in ("forced", "reset")
        ]

    def compare(self) -> None:
        assert self.breaker.state == self.page.snapshot(self.now)["state"]
        self.compare_figures(self.breaker.snapshot(), self.page.snapshot(self.now))
        told = [
            (
                event.kind.partition(".")[2],
                event.attributes.get("reason") if event.kind.endswith("opened") else None,
                event.attributes.get("rate") if event.kind.endswith("half_opened") else None,
                event.attributes.get("shadow", False),
            )
            for event in self.told
        ]
        assert told == self.page.told

    def compare_figures(self, real: dict[str, Any], expected: dict[str, Any]) -> None:
        assert real.pop("name") == "api"
        if "probes" in expected:
            del real["probes"], expected["probes"]
        assert real == expected


test_it_behaves_like_the_model = as_test(BreakerMachine)
