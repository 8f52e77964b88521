"""Every exception of the core.

::

    ResilienceError(message, *, code=..., details=...)   .message .code .details
    ├── RejectedError            .retry_after (seconds or None), .policy (its name)
    │   ├── CircuitBreakerOpenError
    │   ├── RateLimitExceededError
    │   ├── BulkheadFullError
    │   └── ThrottledError
    ├── CallTimeoutError         also a TimeoutError
    └── RetryExhaustedError      .attempts, .elapsed; the last error is its cause

These are raised only where a policy itself refuses, cuts off or (when asked to) wraps a call. When the
decorated function fails, its own exception leaves unchanged. Each raise is a new instance, so no
traceback grows and no policy keeps an exception alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ResilienceError(Exception):
    """Base of everything this library raises by itself.

    Args:
        message: What happened, for people.
        code: What happened, for programs; each class has its own default.
        details: Numbers and names that explain it, safe to log; copied.
    """

    default_code = "resilience_error"

    # For the errors that `rejection` makes: their `__init__` does not run.
    _message: str = ""
    _code: str | None = None
    _details: Mapping[str, Any] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        # Not `super()`: an error that is another library's as well has other arguments there.
        Exception.__init__(self, message)
        self._message = message
        self._code = code
        self._details = None if details is None else dict(details)

    @property
    def message(self) -> str:
        """What happened, for people."""
        return self._message or self._describe()

    @property
    def code(self) -> str:
        """What happened, for programs, such as ``"circuit_breaker_open"``."""
        return self._code or self.default_code

    @property
    def details(self) -> dict[str, Any]:
        """Numbers and names that explain the error; a new dict each time, safe to log."""
        return {**self._facts(), **(self._details or {})}

    def _describe(self) -> str:
        """Write the default message, when somebody reads it: most rejections are never read."""
        return self.code.replace("_", " ")

    def _facts(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with `args` alone and lose the keyword-only arguments.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[ResilienceError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class RejectedError(ResilienceError):
    """A policy refused the call: the function was not called.

    Args:
        message: Leave it out to have it written from the numbers when somebody reads it.
        retry_after: Seconds until a new try may succeed, or ``None`` when nobody can tell.
        policy: Name of the policy that refused.
        code: See `ResilienceError`.
        details: See `ResilienceError`.
    """

    default_code = "rejected"
    reason = "the call was refused"

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        policy: str = "",
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.args = (retry_after, policy)  # where `rejection` has them

    @property
    def retry_after(self) -> float | None:
        """Seconds until a new try may succeed, or ``None`` when nobody can tell."""
        seconds: float | None = self.args[0]
        return seconds

    @property
    def policy(self) -> str:
        """Name of the policy that refused."""
        name: str = self.args[1]
        return name

    def _describe(self) -> str:
        name = f"{self.policy}: " if self.policy else ""
        if self.retry_after is None:
            return f"{name}{self.reason}"
        return f"{name}{self.reason}; retry in {self.retry_after:.3g} s"

    def _facts(self) -> dict[str, Any]:
        return {"policy": self.policy, "retry_after": self.retry_after}


rejection = RejectedError.__new__
"""Makes a rejection without its ``__init__``, which is most of the price: policies may reject often::

    raise rejection(CircuitBreakerOpenError, retry_after, name)
"""


class CircuitBreakerOpenError(RejectedError):
    """The circuit is open, or half-open with all its probes taken.

    ``retry_after`` counts the seconds until the next probe may run; it is ``None`` when the circuit was
    forced open, as only a person knows when that ends.
    """

    default_code = "circuit_breaker_open"
    reason = "the circuit is open"


class RateLimitExceededError(RejectedError):
    """The caller's turn would come later than it may wait."""

    default_code = "rate_limit_exceeded"
    reason = "the rate limit is exceeded"


class BulkheadFullError(RejectedError):
    """All slots are taken and the queue is full, or the wait for a slot took too long."""

    default_code = "bulkhead_full"
    reason = "all slots are taken"


class ThrottledError(RejectedError):
    """The call was rejected by chance, as the other side accepts too few.

    ``retry_after`` is ``None``: the next call may be made, or not.
    """

    default_code = "throttled"
    reason = "too few calls are accepted"


class CallTimeoutError(ResilienceError, TimeoutError):
    """A time limit set by this library cut the call off.

    A ``TimeoutError`` that the function itself raises stays what it is.
    """

    default_code = "call_timeout"

    def _describe(self) -> str:
        return "the call took too long"


class RetryExhaustedError(ResilienceError):
    """The last attempt failed; raised only by ``retry(wrap=True)``, with the last error as its cause.

    Args:
        message: Leave it out to have it written from the numbers.
        attempts: How many attempts were made, the first call included.
        elapsed: Seconds from the start of the first attempt to the end.
        code: See `ResilienceError`.
        details: See `ResilienceError`.
    """

    default_code = "retry_exhausted"

    def __init__(
        self,
        message: str = "",
        *,
        attempts: int = 0,
        elapsed: float = 0.0,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details)
        self.attempts = attempts
        self.elapsed = elapsed

    def _describe(self) -> str:
        return f"gave up after {self.attempts} attempts in {self.elapsed:.3g} s"

    def _facts(self) -> dict[str, Any]:
        return {"attempts": self.attempts, "elapsed": self.elapsed}


class StackOrderWarning(UserWarning):
    """The order of the decorators on a function defeats the purpose of one of them."""
