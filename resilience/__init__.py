"""Independent, composable decorators that make async calls survive failure."""

from resilience import errors as errors
from resilience._adaptive_limit import AdaptiveLimit
from resilience._adaptive_throttle import AdaptiveThrottle, ThrottleOfKey, adaptive_throttle
from resilience._backoff import DecorrelatedJitter, FullJitter
from resilience._breaker_phases import CircuitState
from resilience._bulkhead import Bulkhead, BulkheadOfKey, bulkhead
from resilience._cache import Cached, cached
from resilience._cache_info import CacheInfo
from resilience._cache_shared import CacheEntry, CacheStore
from resilience._circuit_breaker import CircuitBreaker, CircuitOfKey, circuit_breaker
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
    ThrottledError,
)
from resilience._events import Event, subscribe
from resilience._fallback import Fallback, fallback
from resilience._hedge import Hedge, hedge
from resilience._instruments import Counter, Gauge, Histogram, Timer
from resilience._latency import Percentile
from resilience._log import setup_logging
from resilience._map_errors import MapErrors, map_errors
from resilience._metrics import TrackMetrics, track_metrics
from resilience._metrics_registry import MetricsRegistry, metrics
from resilience._policy import Policy, policies
from resilience._priority_queue import Priority
from resilience._rate_limit import RateLimit, rate_limited
from resilience._rate_limit_door import LimitOfKey
from resilience._retry import Retry, retry
from resilience._retry_budget import RetryBudget
from resilience._sliding_window import SlidingWindow
from resilience._snapshot import snapshot
from resilience._stack import Stack, stack
from resilience._switch import inactive, set_active
from resilience._timeout import Timeout, timeout
from resilience._token_bucket import LeakyBucket, TokenBucket

__all__ = [
    "AdaptiveLimit",
    "AdaptiveThrottle",
    "Bulkhead",
    "BulkheadFullError",
    "BulkheadOfKey",
    "CacheEntry",
    "CacheInfo",
    "CacheStore",
    "Cached",
    "CallTimeoutError",
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitOfKey",
    "CircuitState",
    "Counter",
    "DecorrelatedJitter",
    "Event",
    "Fallback",
    "FullJitter",
    "Gauge",
    "Hedge",
    "Histogram",
    "LeakyBucket",
    "LimitOfKey",
    "MapErrors",
    "MetricsRegistry",
    "Percentile",
    "Policy",
    "Priority",
    "RateLimit",
    "RateLimitExceededError",
    "RejectedError",
    "ResilienceError",
    "Retry",
    "RetryBudget",
    "RetryExhaustedError",
    "SlidingWindow",
    "Stack",
    "StackOrderWarning",
    "ThrottleOfKey",
    "ThrottledError",
    "Timeout",
    "Timer",
    "TokenBucket",
    "TrackMetrics",
    "adaptive_throttle",
    "bulkhead",
    "cached",
    "circuit_breaker",
    "deadline",
    "fallback",
    "hedge",
    "inactive",
    "map_errors",
    "metrics",
    "policies",
    "rate_limited",
    "retry",
    "set_active",
    "setup_logging",
    "snapshot",
    "stack",
    "subscribe",
    "timeout",
    "track_metrics",
]
