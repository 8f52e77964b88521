"""`track_metrics` and its rival: calls counted by outcome and timed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from resilience import MetricsRegistry, track_metrics
from tests.benchmarks.case import Call, Case, Decorate, Entry, Group, Outcome, fails, returns, suspends


def ours(call: Call) -> Call:
    return track_metrics("operation", registry=MetricsRegistry())(call)


def prometheus_client(call: Call) -> Call:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    calls = Counter("calls", "Calls by outcome", ["operation", "outcome"], registry=registry)
    seconds = Histogram("seconds", "Duration of the calls", ["operation"], registry=registry)
    succeeded, failed = calls.labels("operation", "ok"), calls.labels("operation", "error")
    duration = seconds.labels("operation")

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            result = await call(*args, **kwargs)
        except BaseException:
            failed.inc()
            duration.observe(time.perf_counter() - began)
            raise
        succeeded.inc()
        duration.observe(time.perf_counter() - began)
        return result

    return wrapper


def prometheus_client_labels(call: Call) -> Call:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    calls = Counter("calls", "Calls by outcome", ["operation", "outcome"], registry=registry)
    seconds = Histogram("seconds", "Duration of the calls", ["operation"], registry=registry)

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        outcome = "error"
        try:
            result = await call(*args, **kwargs)
            outcome = "ok"
            return result
        finally:
            calls.labels("operation", outcome).inc()
            seconds.labels("operation").observe(time.perf_counter() - began)

    return wrapper


OURS: dict[str, Decorate] = {"track_metrics": ours}
RIVALS: dict[str, Decorate | Entry] = {
    "prometheus_client": Entry(prometheus_client, note="a labelled child, kept: its fastest way"),
    "prometheus_client, labels() each call": prometheus_client_labels,
}

COUNTED = Group("metrics: the call succeeds", returns)
COUNTED_SUSPENDING = Group("metrics: the call suspends once", suspends)
FAILED = Group("metrics: the call fails", fails, Outcome.FAILS)


def cases() -> Iterable[Case]:
    """Return the cases of `track_metrics`."""
    for group in COUNTED, COUNTED_SUSPENDING, FAILED:
        yield from group.cases(OURS, RIVALS)
