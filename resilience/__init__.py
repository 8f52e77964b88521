"""Independent, composable decorators that make async calls survive failure."""

from resilience._deadline import deadline
from resilience._errors import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreakerOpenError,
    RateLimitExceededError,
    RejectedError,
    ResilienceError,
    RetryExhaustedError,
    StackOrderWarning,
)
from resilience._events import Event, subscribe
from resilience._policy import Policy, inactive, policies, set_active
from resilience._stack import Stack, stack
from resilience._timeout import Timeout, timeout

__all__ = [
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitBreakerOpenError",
    "Event",
    "Policy",
    "RateLimitExceededError",
    "RejectedError",
    "ResilienceError",
    "RetryExhaustedError",
    "Stack",
    "StackOrderWarning",
    "Timeout",
    "deadline",
    "inactive",
    "policies",
    "set_active",
    "stack",
    "subscribe",
    "timeout",
]
