"""`MetricsRegistry`: where counters, gauges and histograms live, and `metrics`, the default one.

A metric is asked for by name and labels, whenever it is needed: the same name and labels are the same
metric. Memory is bounded: a histogram keeps buckets instead of values, a metric has at most ``max_series``
label sets, and all further ones share a series labelled ``overflow="true"``. So a label that turns out to
have endless values costs detail, not memory, and never a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any, Generic, TypeVar, cast
from weakref import WeakValueDictionary

from resilience import _arguments, _events
from resilience._instruments import Counter, Gauge, Histogram, LabelSet, Series, Timer

S = TypeVar("S", bound=Series)

OVERFLOW: LabelSet = (("overflow", "true"),)
"""The labels of the series that all label sets above the limit of a metric share."""

MOST_METRICS = 1000
"""How many metrics a registry holds at most; the label sets of all further ones share one series too."""


class MetricsRegistry:
    """Counters, gauges and histograms by name and labels; safe for concurrent tasks, threads and loops.

    Args:
        max_series: How many label sets a metric may have; the event ``metrics.overflowed`` tells once when
            a metric would have more.

    Raises:
        TypeError: If ``max_series`` is not a whole number.
        ValueError: If ``max_series`` is below 1.

    Example:
        >>> registry = MetricsRegistry()
        >>> registry.counter("mails", {"kind": "welcome"}).add()
        >>> registry.snapshot()
        {'mails': {'kind': 'counter', 'series': [{'labels': {'kind': 'welcome'}, 'value': 1}]}}
    """

    def __init__(self, *, max_series: int = 1000) -> None:
        self.max_series = _arguments.whole("max_series", max_series)
        # Re-entrant: see the module of the instruments.
        self._lock = RLock()
        self._families: dict[str, _Family[Any]] = {}
        self._observers = 0
        self._unsubscribe: Callable[[], None] | None = None

    def counter(self, name: str, labels: Mapping[str, str] | None = None) -> Counter:
        """Return a counter: a number that only grows.

        Args:
            name: The name of the metric, such as ``"mails.sent"``.
            labels: Names and values, from small sets: never a key, an address or a text of a user.

        Raises:
            TypeError: If ``name`` is not a string, or ``labels`` not a mapping of strings to strings.
            ValueError: If ``name`` is empty, or the name of a gauge or histogram.
        """
        return self._series(Counter, name, labels)

    def gauge(self, name: str, labels: Mapping[str, str] | None = None) -> Gauge:
        """Return a gauge: a number that goes up and down; see `counter` for the arguments."""
        return self._series(Gauge, name, labels)

    def histogram(self, name: str, labels: Mapping[str, str] | None = None) -> Histogram:
        """Return a histogram: counts and percentiles of values; see `counter` for the arguments."""
        return self._series(Histogram, name, labels)

    def timer(self, name: str, labels: Mapping[str, str] | None = None) -> Timer:
        """Return a context manager that records the seconds that its block takes in a histogram.

        Example:
            >>> registry = MetricsRegistry()
            >>> with registry.timer("report"):
            ...     pass
            >>> registry.snapshot()["report"]["series"][0]["count"]
            1
        """
        return Timer(self.histogram(name, labels))

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return all metrics as plain data, ready for JSON, sorted by name and by labels.

        Returns:
            By name: ``kind`` ("counter", "gauge" or "histogram") and ``series``, a list of dicts with
            ``labels`` and either ``value``, or for a histogram ``count``, ``sum``, ``min``, ``max``,
            ``p50``, ``p95`` and ``p99`` (estimates from the buckets), ``bounds`` (upper, inclusive) and
            ``buckets``: the counts, not cumulative, the last of which is for values above all bounds.
        """
        with self._lock:
            found = {name: family for name, family in list(self._families.items()) if family.series}
            return {
                name: {
                    "kind": found[name].kind.kind,
                    "series": [series.data() for _, series in sorted(found[name].series.items())],
                }
                for name in sorted(found)
            }

    def clear(self) -> None:
        """Start again: drop the metrics that nobody holds, and set the others to zero.

        Whoever holds a metric, as a decorated function does, goes on writing to it. A gauge that is held
        keeps its level: calls that are in flight now are counted down when they end.
        """
        with self._lock:
            for family in list(self._families.values()):
                family.clear()
            self._families = {name: family for name, family in self._families.items() if family.series}

    def observe_events(self) -> Callable[[], None]:
        """Count the events of all policies, from now on.

        Each kind becomes a counter, such as ``resilience.retry.scheduled``, with the policy's name as the
        label ``name``, its ``reason`` if it has one, and ``shadow`` if a breaker only tells what it would
        have done. The calls that `track_metrics` counts are not counted again. However often it is asked
        for, an event counts once.

        Returns:
            A function that ends it, once all who asked for it have called theirs; calling it again does
            nothing.

        Example:
            >>> registry = MetricsRegistry()
            >>> stop = registry.observe_events()
            >>> stop()
        """
        with self._lock:
            self._observers += 1
            if self._unsubscribe is None:
                self._unsubscribe = _events.subscribe(self._count)
        stopped = False

        def stop() -> None:
            nonlocal stopped
            with self._lock:
                if stopped:
                    return
                stopped = True
                self._observers -= 1
                if self._observers == 0 and self._unsubscribe is not None:
                    self._unsubscribe()
                    self._unsubscribe = None

        return stop

    def _count(self, event: _events.Event) -> None:
        if event.policy == "call":
            return
        labels = {"name": event.name}
        reason = event.attributes.get("reason")
        if isinstance(reason, str):
            labels["reason"] = reason
        if event.attributes.get("shadow"):
            labels["shadow"] = "true"
        self.counter(f"resilience.{event.kind}", labels).add()

    def _series(self, kind: type[S], name: str, labels: Mapping[str, str] | None) -> S:
        key = label_set(labels)
        family = self._families.get(_arguments.text("name", name))
        if family is not None and family.kind is kind:
            known: S | None = family.series.get(key)
            if known is not None:  # the usual case needs no lock: reading a dict is atomic
                return known
        with self._lock:
            family = self._family(kind, name)
            had_overflowed = family.has_overflowed
            series: S = family.at(key)
        if family.has_overflowed and not had_overflowed and _events.listeners:
            _events.emit("metrics.overflowed", family.name, max_series=self.max_series)
        return series

    def _family(self, kind: type[Series], name: str) -> _Family[Any]:
        family = self._families.get(name)
        limit = self.max_series
        if family is None and len(self._families) >= MOST_METRICS:
            name, limit = f"resilience.overflow.{kind.kind}", 0
            family = self._families.get(name)
        if family is None:
            family = self._families[name] = _Family(kind, name, self._lock, limit)
        if family.kind is not kind:
            raise ValueError(
                f"name must not be that of another kind of metric: {name!r} is a {family.kind.kind}"
            )
        return family


class _Family(Generic[S]):
    """All series of one metric. Guarded by the lock of the registry.

    Args:
        kind: The class of its series.
        name: The name of the metric.
        lock: The lock of the registry.
        max_series: How many label sets have a series of their own at most.
    """

    def __init__(self, kind: type[S], name: str, lock: RLock, max_series: int) -> None:
        self.kind = kind
        self.name = name
        self._lock = lock
        self.series: dict[LabelSet, S] = {}
        self._max_series = max_series

    @property
    def has_overflowed(self) -> bool:
        """Whether a label set had to share the series of all those above the limit."""
        return OVERFLOW in self.series

    def at(self, key: LabelSet) -> S:
        """Return the series of a label set; above the limit, the one for all the others."""
        series = self.series.get(key)
        if series is not None:
            return series
        if len(self.series) >= self._max_series:
            key = OVERFLOW
        return self.series.setdefault(key, self.kind(self.name, key, self._lock))

    def clear(self) -> None:
        """Drop the series that nobody holds, and reset the others."""
        held = WeakValueDictionary(self.series)
        self.series.clear()  # what only this dict held is gone now
        self.series.update(held.items())
        for series in list(self.series.values()):
            series.reset()


def label_set(labels: Mapping[str, str] | None) -> LabelSet:
    """Return labels in the form in which they are compared.

    Raises:
        TypeError: If it is not a mapping of strings to strings.
    """
    if labels is None:
        return ()
    _arguments.instance("labels", cast("object", labels), Mapping, "a mapping of strings to strings")
    for name, value in labels.items():
        _arguments.text("labels", name)
        _arguments.instance(f"labels[{name!r}]", cast("object", value), str, "a string")
    return tuple(sorted(labels.items()))


metrics = MetricsRegistry()
"""The registry that `track_metrics` uses unless it is given another."""
