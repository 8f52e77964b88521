"""The tree of errors: texts written when read, details safe to log, all of them picklable."""

import copy
import pickle
import traceback

import pytest

from resilience import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitBreakerOpenError,
    RateLimitExceededError,
    RejectedError,
    ResilienceError,
    RetryExhaustedError,
    ThrottledError,
)

ALL = [
    ResilienceError("went wrong", code="mine", details={"n": 1}),
    RejectedError(retry_after=2.5, policy="github"),
    CircuitBreakerOpenError(retry_after=None, policy="github"),
    RateLimitExceededError("slow down", retry_after=0.0),
    BulkheadFullError(policy="pool", details={"waiting": 3}),
    ThrottledError(policy="stock"),
    CallTimeoutError("too slow", details={"timeout": 2.0}),
    RetryExhaustedError(attempts=3, elapsed=1.25),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_every_error_can_be_pickled_and_copied(error: ResilienceError) -> None:
    error.add_note("a note")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), twin.code, twin.details) == (str(error), error.code, error.details)
        assert (twin.args, twin.__dict__) == (error.args, error.__dict__)


@pytest.mark.parametrize(
    ("error", "text", "code", "details"),
    [
        (ResilienceError(), "resilience error", "resilience_error", {}),
        (ResilienceError("x", code="y", details={"a": 1}), "x", "y", {"a": 1}),
        (
            CircuitBreakerOpenError(retry_after=12.3456, policy="github"),
            "github: the circuit is open; retry in 12.3 s",
            "circuit_breaker_open",
            {"policy": "github", "retry_after": 12.3456},
        ),
        (
            CircuitBreakerOpenError(policy="github"),
            "github: the circuit is open",
            "circuit_breaker_open",
            {"policy": "github", "retry_after": None},
        ),
        (
            RateLimitExceededError(retry_after=0),
            "the rate limit is exceeded; retry in 0 s",
            "rate_limit_exceeded",
            {"policy": "", "retry_after": 0},
        ),
        (
            BulkheadFullError(details={"policy": "mine"}),
            "all slots are taken",
            "bulkhead_full",
            {"policy": "mine", "retry_after": None},
        ),
        (
            ThrottledError(policy="stock"),
            "stock: too few calls are accepted",
            "throttled",
            {"policy": "stock", "retry_after": None},
        ),
        (CallTimeoutError(), "the call took too long", "call_timeout", {}),
        (
            RetryExhaustedError(attempts=3, elapsed=1.2),
            "gave up after 3 attempts in 1.2 s",
            "retry_exhausted",
            {"attempts": 3, "elapsed": 1.2},
        ),
        (
            RetryExhaustedError(code="mine", details={"elapsed": 2}),
            "gave up after 0 attempts in 0 s",
            "mine",
            {"attempts": 0, "elapsed": 2},
        ),
    ],
)
def test_texts_codes_and_details(error: ResilienceError, text: str, code: str, details: object) -> None:
    assert (str(error), error.message, error.code, error.details) == (text, text, code, details)
    assert repr(error) == f"{type(error).__name__}({text!r})"


def test_all_arguments_may_be_left_out_and_all_are_kept() -> None:
    plain, rejected = ResilienceError(), RejectedError()
    assert (plain.args, str(plain), plain.code, plain.details) == (
        ("",),
        "resilience error",
        "resilience_error",
        {},
    )
    assert (str(rejected), rejected.retry_after, rejected.policy) == ("the call was refused", None, "")
    told = RejectedError("told", retry_after=2, policy="api", code="mine", details={"n": 1})
    assert (str(told), told.retry_after, told.policy, told.code) == ("told", 2, "api", "mine")
    assert told.details == {"policy": "api", "retry_after": 2, "n": 1}
    error = ResilienceError("told", code="mine", details={"n": 1})
    assert (error.args, str(error), error.code, error.details) == (("told",), "told", "mine", {"n": 1})
    exhausted = RetryExhaustedError("told", attempts=3, elapsed=1.5, code="mine", details={"n": 1})
    assert (str(exhausted), exhausted.attempts, exhausted.elapsed) == ("told", 3, 1.5)
    assert (exhausted.code, exhausted.details) == ("mine", {"attempts": 3, "elapsed": 1.5, "n": 1})
    assert str(RetryExhaustedError()) == "gave up after 0 attempts in 0 s"


def test_details_are_a_new_dict_each_time() -> None:
    given = {"a": 1}
    error = ResilienceError("x", details=given)
    given["a"] = error.details["a"] = 2
    assert error.details == {"a": 1}


def test_the_tree() -> None:
    assert issubclass(CallTimeoutError, TimeoutError)
    for kind in (CircuitBreakerOpenError, RateLimitExceededError, BulkheadFullError, ThrottledError):
        assert issubclass(kind, RejectedError)
    assert not issubclass(RetryExhaustedError, RejectedError)
    assert all(isinstance(error, ResilienceError) for error in ALL)


def test_a_traceback_shows_the_text() -> None:
    error = CircuitBreakerOpenError(retry_after=1, policy="github")
    assert "github: the circuit is open; retry in 1 s" in traceback.format_exception_only(error)[0]
