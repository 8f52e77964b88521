"""Counters, gauges, histograms and timers: what a `MetricsRegistry` hands out.

A *series* is one metric under one set of labels; the series of one metric are its *family*. One name with
one set of labels is always one object, which keeps counting when the registry is cleared: so clearing never
parts a decorated function from its counters.

Writes are straight-line code: with the GIL, CPython switches threads only at calls and at jumps
backwards, so nothing comes between the load and the store of ``value += amount`` as long as no call
stands between them. Builds without the GIL take the registry's lock for each write. That lock is
re-entrant, as a garbage collection can end an abandoned call, and count it, while it is held.
"""

from __future__ import annotations

import functools
import math
import sys
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from contextvars import ContextVar
from threading import RLock
from types import TracebackType
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from resilience import _arguments, _clock
from resilience._interpreter import HAS_GIL

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper, inclusive bounds of the buckets: calls over a network, in seconds."""

LabelSet: TypeAlias = tuple[tuple[str, str], ...]

_EXACT = 2.0**53  # whole numbers beyond it become floats, so that no sum can raise OverflowError

Method = TypeVar("Method", bound=Callable[..., Any])


def serialised(method: Method) -> Method:
    """Guard a write with the lock of its object, on builds without the GIL."""
    if HAS_GIL:
        return method

    @functools.wraps(method)
    def locked(self: Any, *args: object) -> object:
        with self.lock:
            return method(self, *args)

    return cast("Method", locked)


class Series(ABC):
    """One metric under one set of labels.

    Attributes:
        name: The name of the metric.
    """

    __slots__ = ("__weakref__", "key", "lock", "name")
    kind: ClassVar[str]

    def __init__(self, name: str, key: LabelSet, lock: RLock) -> None:
        self.name = name
        self.key = key
        self.lock = lock

    @property
    def labels(self) -> dict[str, str]:
        """The labels; a new dict each time."""
        return dict(self.key)

    @abstractmethod
    def reset(self) -> None:
        """Forget what has happened."""

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """Return the state as plain data."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.labels!r})"


class Number(Series):
    """A series that is one number.

    Attributes:
        value: The number now.
    """

    __slots__ = ("value",)

    def __init__(self, name: str, key: LabelSet, lock: RLock) -> None:
        super().__init__(name, key, lock)
        self.value: float = 0

    @serialised
    def put(self, amount: float) -> None:
        """Add an amount that was checked."""
        self.value += amount

    def data(self) -> dict[str, Any]:
        """Return the labels and the value."""
        return {"labels": self.labels, "value": _finite(self.value)}


class Counter(Number):
    """A number that only grows; safe for concurrent tasks and threads."""

    __slots__ = ()
    kind = "counter"

    def add(self, n: float = 1) -> None:
        """Add to the total.

        Args:
            n: How much, 0 or more.

        Raises:
            TypeError: If ``n`` is not a number.
            ValueError: If ``n`` is negative, infinite or not a number.
        """
        self.put(_bounded(_arguments.number("n", n)))

    def reset(self) -> None:
        """Start again from 0."""
        self.value = 0


class Gauge(Number):
    """A number that goes up and down; safe for concurrent tasks and threads."""

    __slots__ = ()
    kind = "gauge"

    def set(self, value: float) -> None:
        """Set the level.

        Raises:
            TypeError: If ``value`` is not a number.
            ValueError: If ``value`` is infinite or not a number.
        """
        self.value = _bounded(_arguments.finite("value", value))

    def add(self, n: float = 1) -> None:
        """Raise the level, or lower it by a negative ``n``.

        Raises:
            TypeError: If ``n`` is not a number.
            ValueError: If ``n`` is infinite or not a number.
        """
        self.put(_bounded(_arguments.finite("n", n)))

    def reset(self) -> None:
        """Keep the level: it tells how things are, and whoever raised it will lower it again."""


class Histogram(Series):
    """How often values fell between which bounds; safe for concurrent tasks and threads.

    It keeps a count for each bucket, never the values. The bounds suit durations from a millisecond to a
    minute, in seconds.
    """

    __slots__ = ("_buckets", "_highest", "_lowest", "_sum")
    kind = "histogram"
    _buckets: list[int]
    _sum: float
    _lowest: float
    _highest: float

    def __init__(self, name: str, key: LabelSet, lock: RLock) -> None:
        super().__init__(name, key, lock)
        self.reset()

    def record(self, value: float) -> None:
        """Count a value.

        Raises:
            TypeError: If ``value`` is not a number.
            ValueError: If ``value`` is infinite or not a number.
        """
        self.put(_bounded(_arguments.finite("value", value)))

    @serialised
    def put(self, value: float) -> None:
        """Count a value that was checked."""
        bucket = bisect_left(BOUNDS, value)
        if value < self._lowest:
            self._lowest = value
        if value > self._highest:
            self._highest = value
        self._sum += value
        self._buckets[bucket] += 1

    def reset(self) -> None:
        """Start again without values."""
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._lowest = math.inf
        self._highest = -math.inf

    def data(self) -> dict[str, Any]:
        """Return the counts, and the percentiles that follow from them."""
        # Copied first, in one step: all figures are of these counts, whatever other threads record.
        buckets = list(self._buckets)
        count = sum(buckets)
        lowest, highest = self._lowest, self._highest
        data: dict[str, Any] = {
            "labels": self.labels,
            "count": count,
            "sum": _finite(self._sum),
            "min": lowest if count else None,
            "max": highest if count else None,
        }
        for percent in (50, 95, 99):
            data[f"p{percent}"] = _percentile(percent, buckets, lowest, highest) if count else None
        data["bounds"] = list(BOUNDS)
        data["buckets"] = buckets
        return data


def _percentile(percent: int, buckets: list[int], lowest: float, highest: float) -> float:
    """Estimate a percentile: values are taken to lie evenly between the bounds of their bucket."""
    rank = sum(buckets) * percent / 100
    seen = bucket = 0
    while seen + buckets[bucket] < rank:
        seen += buckets[bucket]
        bucket += 1
    lower = max(BOUNDS[bucket - 1], lowest) if bucket > 0 else lowest
    upper = min(BOUNDS[bucket], highest) if bucket < len(BOUNDS) else highest
    share = (rank - seen) / buckets[bucket]
    return lower * (1 - share) + upper * share


_running: ContextVar[tuple[tuple[Timer, float], ...]] = ContextVar("resilience_timers", default=())


class Timer:
    """Records how long a block takes, in seconds, also when it fails.

    One timer may be used again and by several tasks and threads at once: when a block began is kept in
    the context of its task, not here. A block ends in the task in which it began.
    """

    __slots__ = ("_histogram",)

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        _running.set((*_running.get(), (self, _clock.monotonic())))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        blocks = _running.get()
        for index in reversed(range(len(blocks))):
            timer, started = blocks[index]
            if timer is self:
                _running.set(blocks[:index] + blocks[index + 1 :])
                self._histogram.put(_clock.monotonic() - started)
                return


def _bounded(value: float) -> float:
    return value if -_EXACT <= value <= _EXACT else float(value)


def _finite(value: float) -> float:
    """Return what JSON can hold: a sum of huge numbers may have become infinite."""
    return value if math.isfinite(value) else math.copysign(sys.float_info.max, value)
