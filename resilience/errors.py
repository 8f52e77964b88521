"""The exceptions of the core under a name of their own: ``from resilience import errors``."""

from resilience._errors import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreakerOpenError,
    RateLimitExceededError,
    RejectedError,
    ResilienceError,
    RetryExhaustedError,
    StackOrderWarning,
    ThrottledError,
)

__all__ = [
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitBreakerOpenError",
    "RateLimitExceededError",
    "RejectedError",
    "ResilienceError",
    "RetryExhaustedError",
    "StackOrderWarning",
    "ThrottledError",
]
