"""The arguments of a `bulkhead`, and what follows from them for one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeAlias

from resilience import _arguments
from resilience._adaptive_limit import AdaptiveLimit
from resilience._bulkhead_slots import FixedLimit, Limit
from resilience._interpreter import HAS_GIL
from resilience._priority_queue import Priority

Key: TypeAlias = Callable[..., Hashable]


class BulkheadConfig(NamedTuple):
    """The arguments of a bulkhead."""

    max_concurrent: int | AdaptiveLimit
    max_queue: int | None = 0
    max_wait: float | None = None
    priority: Priority | Callable[..., Priority] = Priority.NORMAL
    key: Key | None = None
    max_keys: int = 10_000

    @property
    def is_straight(self) -> bool:
        """Whether a call may pass without the lock: on builds with the GIL, if nobody has to be asked."""
        return (
            HAS_GIL
            and self.key is None
            and isinstance(self.priority, Priority)
            and not isinstance(self.max_concurrent, AdaptiveLimit)
        )

    def new_limit(self) -> Limit:
        """Return the limit for the slots of all calls, or of one key."""
        given = self.max_concurrent
        return given.new_state() if isinstance(given, AdaptiveLimit) else FixedLimit(given)

    def priority_of(self, /, *args: object, **kwargs: object) -> Priority:
        """Return the priority of a call with these arguments."""
        if isinstance(self.priority, Priority):
            return self.priority
        allowed = "a function that returns a Priority"
        return _arguments.instance("priority", self.priority(*args, **kwargs), Priority, allowed)

    def is_overload(self, error: BaseException | None) -> bool | None:
        """Return whether a call ended in overload; ``None`` if its end tells an adaptive limit nothing."""
        adaptive = self.max_concurrent
        if not isinstance(adaptive, AdaptiveLimit):
            return None
        if error is None:
            return False
        return True if isinstance(error, Exception) and adaptive.is_overload(error) else None


def limit_of(value: int | AdaptiveLimit) -> int | AdaptiveLimit:
    """Return a limit on the calls that run at once."""
    return value if isinstance(value, AdaptiveLimit) else _arguments.whole("max_concurrent", value)


def priority_or_function(value: Priority | Callable[..., Priority]) -> Priority | Callable[..., Priority]:
    """Return what says how urgent a call is."""
    if isinstance(value, Priority):
        return value
    if not callable(value):
        raise TypeError(f"priority must be a Priority or a function that returns one, got {value!r}")
    return _arguments.plain_function("priority", value)
