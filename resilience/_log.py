"""`setup_logging`: tells what the policies do in the log, through loguru; silent until asked.

The log is one listener of the event stream. Each event becomes one line: DEBUG for what belongs to every
call, INFO for a state that is normal again, WARNING for a retry, a rejection or a fallback, ERROR for a
circuit that opens or a call that is given up. Only numbers, names and the names of types are written,
never the text of an error or an argument. In an outage some events come with every call: those of one
kind and one policy are written once a second, with the number of those left out in between.
"""

from __future__ import annotations

import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Any

from resilience import _arguments, _events

if TYPE_CHECKING:
    from loguru import Message, Record

_PACKAGES = ("resilience", "resilience_httpx")

_SEVERITY = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
_LEVELS = {
    "adaptive_throttle.rejected": "WARNING",
    "retry.scheduled": "WARNING",
    "retry.gave_up": "ERROR",
    "rate_limit.waited": "DEBUG",
    "rate_limit.rejected": "WARNING",
    "circuit_breaker.opened": "ERROR",
    "circuit_breaker.rejected": "WARNING",
    "circuit_breaker.late": "DEBUG",
    "cache.hit": "DEBUG",
    "cache.miss": "DEBUG",
    "cache.stale": "DEBUG",
    "cache.coalesced": "DEBUG",
    "cache.evicted": "DEBUG",
    "cache.refresh_failed": "WARNING",
    "cache.store_failed": "WARNING",
    "timeout.expired": "WARNING",
    "bulkhead.queued": "DEBUG",
    "bulkhead.rejected": "WARNING",
    "fallback.used": "WARNING",
    "hedge.started": "DEBUG",
    "hedge.won": "DEBUG",
    "call.succeeded": "DEBUG",
    "call.failed": "DEBUG",
    "call.abandoned": "DEBUG",
    "chaos.error": "WARNING",
    "chaos.latency": "WARNING",
    "chaos.result": "WARNING",
    "metrics.overflowed": "WARNING",
}
"""The levels that differ from INFO."""

_STORMY = {
    "chaos.error",
    "chaos.latency",
    "chaos.result",
    "adaptive_throttle.rejected",
    "rate_limit.rejected",
    "circuit_breaker.rejected",
    "cache.refresh_failed",
    "cache.store_failed",
    "bulkhead.rejected",
    "fallback.used",
}
_PAUSE = 1.0
_MOST_NAMES = 1000

_TEXT = "<green>{time:YYYY-MM-DD HH:mm:ss.SSS}</green> | <level>{level: <8}</level> | {message}"

_lock = RLock()
_sink: int | None = None
_unsubscribe: Callable[[], None] | None = None


def setup_logging(level: str | int = "INFO", *, json: bool = False) -> None:
    """Write the events of all policies to the standard error stream, and to every other sink of loguru.

    loguru's default sink is replaced by one that goes on writing the records of others as before. The
    sinks of the application stay. Calling it again replaces the level and the form.

    Args:
        level: The lowest level that is written: a level of loguru, by name or number.
        json: Whether to write each event as a JSON object on a line of its own: ``time`` (ISO 8601, UTC),
            ``level``, ``event``, ``policy``, ``name``, then what belongs to the event.

    Raises:
        TypeError: If ``level`` is not a string or a whole number, or ``json`` not a bool.
        ValueError: If there is no such level.

    Example:
        >>> setup_logging("WARNING")  # doctest: +SKIP
    """
    global _sink, _unsubscribe
    from loguru import logger

    severity = _severity(level)
    _arguments.flag("json", json)
    with _lock:
        if _unsubscribe is not None:
            _unsubscribe()
        if _sink is not None:
            _remove(_sink)
        elif _has_default_sink() and _remove(0):
            logger.add(_StandardError(), filter=_is_foreign)
        sink = _write_json if json else _StandardError()
        _sink = logger.add(sink, level=severity, format=_TEXT, filter=_is_ours)
        _unsubscribe = _events.subscribe(_Log(severity))


class _Log:
    """The listener: makes a record of loguru of each event."""

    def __init__(self, severity: int) -> None:
        from loguru import logger

        self._logger = logger
        self._severity = severity
        self._storms = _Storms()

    def __call__(self, event: _events.Event) -> None:
        level = _LEVELS.get(event.kind, "INFO")
        if _SEVERITY[level] < self._severity:
            return
        left_out = self._storms.left_out(event) if event.kind in _STORMY else 0
        if left_out is None:
            return
        facts = {key: _plain(value) for key, value in event.attributes.items()}
        if left_out:
            facts["left_out"] = left_out
        text = " ".join((event.kind, _shown(event.name), *(f"{key}={_shown(facts[key])}" for key in facts)))
        named = {"event": event.kind, "policy": event.policy, "name": event.name}
        self._logger.bind(resilience=named | facts | named).log(level, text)


class _Storms:
    """Remembers when what comes in storms was last written; safe for several threads."""

    def __init__(self) -> None:
        # Re-entrant: a garbage collection can end a call, and so send an event, while it is held.
        self._lock = RLock()
        self._written: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def left_out(self, event: _events.Event) -> int | None:
        """Return how many were left out before this one, or ``None`` to leave it out too."""
        key = (event.kind, event.name)
        with self._lock:
            at, count = self._written.pop(key, (-math.inf, 0))
            if 0 <= event.at - at < _PAUSE:
                self._written[key] = (at, count + 1)
                return None
            self._written[key] = (event.at, 0)
            if len(self._written) > _MOST_NAMES:
                self._written.popitem(last=False)
        return count


class _StandardError:
    """The standard error stream of the moment, as programs and tests replace it."""

    def write(self, message: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(message)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr is not None and sys.stderr.isatty()


def _write_json(message: Message) -> None:
    from datetime import UTC
    from json import dumps

    record = message.record
    line: dict[str, Any] = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="microseconds"),
        "level": record["level"].name,
    }
    for key, value in record["extra"]["resilience"].items():
        line.setdefault(key, value)
    _StandardError().write(dumps(line) + "\n")


def _plain(value: object) -> object:
    """Return a number, a name, or the name of a type: nothing else may carry a secret into the log."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text.isprintable() else repr(text)


def _severity(level: object) -> int:
    from loguru import logger

    allowed = "a level of loguru, by name or as a number of 0 or more"
    if isinstance(level, bool) or not isinstance(level, (str, int)):
        raise TypeError(f"level must be {allowed}, got {level!r}")
    try:
        severity = logger.level(level).no if isinstance(level, str) else level
    except ValueError:
        severity = -1
    if severity < 0:
        raise ValueError(f"level must be {allowed}, got {level!r}")
    return severity


def _has_default_sink() -> bool:
    """Whether loguru made sink 0 by itself; else number 0 is one of the application's."""
    return os.environ.get("LOGURU_AUTOINIT", "1").lower() not in {"0", "false", "no", "n", "nok", "off"}


def _remove(sink: int) -> bool:
    """Remove a sink of loguru; the application may have done so before."""
    from loguru import logger

    try:
        logger.remove(sink)
    except ValueError:
        return False
    return True


def _is_ours(record: Record) -> bool:
    return (record["name"] or "").partition(".")[0] in _PACKAGES


def _is_foreign(record: Record) -> bool:
    return not _is_ours(record)
