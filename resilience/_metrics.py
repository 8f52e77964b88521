"""`track_metrics`: counts the calls of a function by outcome, times them, and gauges those in flight.

Three metrics, with the labels ``operation`` and those given: ``resilience.calls`` (counter, also labelled
``outcome``), ``resilience.call.duration`` (histogram of seconds, also labelled ``outcome``, so that fast
rejections do not pass for fast successes) and ``resilience.calls.in_flight`` (gauge). The outcomes are
``success``, ``failure`` (any exception), ``rejected`` (a policy further in refused the call: a
`RejectedError`) and ``abandoned`` (cancelled, or left by another exception that is no ``Exception``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import CoroutineType, MappingProxyType
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from resilience import _arguments, _clock, _events
from resilience._callables import full_name, is_decoratable
from resilience._errors import RejectedError
from resilience._instruments import Counter, Histogram
from resilience._interpreter import HAS_GIL
from resilience._metrics_registry import MetricsRegistry, label_set, metrics
from resilience._policy import Policy
from resilience._switch import switch

P = ParamSpec("P")
R = TypeVar("R")

_RESERVED = {"operation", "outcome"}


class TrackMetricsConfig(NamedTuple):
    """The arguments of ``track_metrics``."""

    operation: str | None = None
    labels: Mapping[str, str] | None = None
    registry: MetricsRegistry = metrics


class TrackMetrics(Policy):
    """Metrics of calls; made by `track_metrics`."""

    kind = "track_metrics"
    config: TrackMetricsConfig

    def __init__(
        self,
        operation: str | None,
        *,
        labels: Mapping[str, str] | None,
        registry: MetricsRegistry,
        name: str | None,
    ) -> None:
        super().__init__(name)
        if operation is not None:
            _arguments.text("operation", operation)
        _arguments.instance("registry", registry, MetricsRegistry, "a MetricsRegistry")
        self.config = TrackMetricsConfig(operation, _constant(labels), registry)

    def _wrap(self, function: Callable[P, Awaitable[R]], name: str) -> Callable[P, Awaitable[R]]:
        registry = self.config.registry
        operation = self.config.operation or full_name(function)
        labels = {**(self.config.labels or {}), "operation": operation}
        outcomes = _Outcomes(registry, labels)
        in_flight = registry.gauge("resilience.calls.in_flight", labels)
        successes, durations = outcomes["success"]

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not (self.enabled and switch.active):
                return await function(*args, **kwargs)
            started = _clock.monotonic()
            if HAS_GIL:  # straight-line code, which no other thread interrupts: cheaper than a call
                in_flight.value += 1
            else:
                in_flight.put(1)
            try:
                result = await function(*args, **kwargs)
                elapsed = _clock.monotonic() - started
            except BaseException as error:
                elapsed = _clock.monotonic() - started
                in_flight.put(-1)
                outcome = _outcome(error)
                outcomes.count(outcome, elapsed)
                if _events.listeners:
                    kind = "call.abandoned" if outcome == "abandoned" else "call.failed"
                    error_name = type(error).__name__
                    _events.emit(kind, name, operation=operation, duration=elapsed, error=error_name)
                raise
            if HAS_GIL:
                in_flight.value -= 1
                successes.value += 1
            else:
                in_flight.put(-1)
                successes.put(1)
            durations.put(elapsed)
            if _events.listeners:
                _events.emit("call.succeeded", name, operation=operation, duration=elapsed)
            return result

        return wrapper


@overload
def track_metrics(operation: Callable[P, Awaitable[R]], /) -> Callable[P, CoroutineType[Any, Any, R]]: ...


@overload
def track_metrics(
    operation: str | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    registry: MetricsRegistry = metrics,
    name: str | None = None,
) -> TrackMetrics: ...


def track_metrics(
    operation: Any = None,
    *,
    labels: Mapping[str, str] | None = None,
    registry: MetricsRegistry = metrics,
    name: str | None = None,
) -> Any:
    """Count calls by outcome, time them, and gauge those in flight; also works bare.

    Args:
        operation: What the metrics call the function; default: its module and qualified name.
        labels: More labels, names and values, the same for every call.
        registry: Where the metrics go.
        name: What events call it; default: the qualified name of the decorated function.

    Returns:
        The policy, to decorate functions with. Safe for concurrent tasks, threads and loops.

    Raises:
        TypeError: If ``labels`` are not strings, or ``registry`` is not a `MetricsRegistry`.
        ValueError: If ``operation`` is empty, or ``labels`` contain ``operation`` or ``outcome``.

    Example:
        >>> import asyncio
        >>> registry = MetricsRegistry()
        >>> @track_metrics("fetch", registry=registry)
        ... async def fetch() -> None: ...
        >>> asyncio.run(fetch())
        >>> registry.snapshot()["resilience.calls"]["series"]
        [{'labels': {'operation': 'fetch', 'outcome': 'success'}, 'value': 1}]
    """
    if is_decoratable(operation):
        return TrackMetrics(None, labels=labels, registry=registry, name=name)(operation)
    return TrackMetrics(operation, labels=labels, registry=registry, name=name)


class _Outcomes(dict[str, tuple[Counter, Histogram]]):
    """The counter and the histogram of each outcome of one operation, made when it is first seen."""

    def __init__(self, registry: MetricsRegistry, labels: Mapping[str, str]) -> None:
        super().__init__()
        self._registry = registry
        self._labels = labels

    def __missing__(self, outcome: str) -> tuple[Counter, Histogram]:
        labels = {**self._labels, "outcome": outcome}
        calls = self._registry.counter("resilience.calls", labels)
        self[outcome] = found = calls, self._registry.histogram("resilience.call.duration", labels)
        return found

    def count(self, outcome: str, elapsed: float) -> None:
        calls, durations = self[outcome]
        calls.put(1)
        durations.put(elapsed)


def _outcome(error: BaseException) -> str:
    if isinstance(error, RejectedError):
        return "rejected"
    return "failure" if isinstance(error, Exception) else "abandoned"


def _constant(labels: Mapping[str, str] | None) -> Mapping[str, str] | None:
    if labels is None:
        return None
    copy = dict(label_set(labels))
    for reserved in _RESERVED & copy.keys():
        raise ValueError(f"labels must not contain {reserved!r}, which it sets itself, got {copy!r}")
    return MappingProxyType(copy)
