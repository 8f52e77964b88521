"""The arguments that a client, a transport and `resilient` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from resilience import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, _arguments
from resilience_httpx._error_map import ErrorKey
from resilience_httpx._errors import StatusError
from resilience_httpx._idempotency import KeyOption
from resilience_httpx._middleware import Middleware
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._server_limits import ServerLimits


class DefaultPolicy:
    """Stands for a policy that was not given, where ``None`` means that there shall be none."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = DefaultPolicy()


class PolicyOptions(TypedDict, total=False):
    """The arguments that `ResilientClient`, `ResilientTransport` and `resilient` have in common."""

    retry: Retry | DefaultPolicy | None
    rate_limit: RateLimit | None
    circuit_breaker: CircuitBreaker | DefaultPolicy | None
    bulkhead: Bulkhead | None
    cache: ResponseCache | None
    server_limits: ServerLimits | DefaultPolicy | None
    attempt_timeout: _arguments.Seconds | None
    total_timeout: _arguments.Seconds | None
    endpoints: Mapping[str, Sequence[Policy]] | None
    raise_for_status: bool
    error_map: Mapping[ErrorKey, type[StatusError]] | None
    middleware: Sequence[Middleware] | None
    attempt_middleware: Sequence[Middleware] | None
    idempotency_key: KeyOption
    attempt_header: str | None
    name: str | None


def check_options(use: str, options: Mapping[str, Any]) -> None:
    """Raise a clear error for arguments that are none of the policies.

    Raises:
        TypeError: If there is one.
    """
    for name in options:
        if name not in PolicyOptions.__annotations__:
            allowed = ", ".join(PolicyOptions.__annotations__)
            raise TypeError(f"{name} is no argument of {use}; those are {allowed}")
