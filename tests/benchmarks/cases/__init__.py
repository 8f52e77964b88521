"""The cases of the benchmark, a module for each policy."""

from __future__ import annotations

from collections.abc import Iterable

from tests.benchmarks.case import Case
from tests.benchmarks.cases import (
    bulkhead,
    cache,
    circuit_breaker,
    errors,
    metrics,
    rate_limit,
    retry,
    stack,
    timeout,
)

MODULES = (retry, circuit_breaker, rate_limit, cache, timeout, bulkhead, metrics, errors, stack)


def all_cases() -> Iterable[Case]:
    """Return every case."""
    for module in MODULES:
        yield from module.cases()
