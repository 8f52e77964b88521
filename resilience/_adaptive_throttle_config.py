"""The arguments of `adaptive_throttle`: what they stand for, and the check that is its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from resilience import _arguments
from resilience._arguments import Errors
from resilience._errors import RejectedError


class AdaptiveThrottleConfig(NamedTuple):
    """The arguments of an adaptive throttle."""

    ratio: float = 2.0
    window: float = 120.0
    minimum_calls: int = 100
    max_rejection_rate: float = 0.9
    on: Errors = Exception
    key: Callable[..., Hashable] | None = None
    max_keys: int = 10_000
    random: Callable[[], float] | None = None

    def is_failure(self, error: Exception) -> bool:
        """Whether an exception means that the call was not accepted."""
        return not isinstance(error, RejectedError) and _arguments.matches(self.on, error)


def ratio_of(value: object) -> float:
    """Return a number of 1 or more."""
    allowed = "a number of 1 or more"
    if (ratio := _arguments.finite("ratio", value, allowed=allowed)) < 1:
        raise ValueError(f"ratio must be {allowed}, got {value!r}")
    return ratio
