"""`ResilientClient` over httpx2: the same client, for those who use that package.

    from resilience_httpx.httpx2 import ResilientClient

Credentials, errors, policies and everything else in `resilience_httpx` serve both.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

try:
    import httpx2
except ModuleNotFoundError as missing:
    if missing.name != "httpx2":
        raise
    raise ImportError(
        'resilience_httpx.httpx2 needs httpx2: pip install "async-resilience[httpx2]"'
    ) from missing

from resilience import Bulkhead, CircuitBreaker, RateLimit, Retry
from resilience_httpx._backends import Backend
from resilience_httpx._batch import Batch
from resilience_httpx._mixin import ResilientMixin
from resilience_httpx._pagination import Pagination
from resilience_httpx._policy_options import PolicyOptions

__all__ = ["ResilientClient"]

Pairs: TypeAlias = httpx2.Headers | Mapping[str, str] | Mapping[bytes, bytes] | Sequence[tuple[str, str]]


class ClientOptions(PolicyOptions, total=False):
    """The arguments of `ResilientClient`: the policies, and those of ``httpx2.AsyncClient``."""

    backend: Backend
    auth: Any  # ours are credentials for both packages
    params: httpx2.QueryParams | Mapping[str, Any] | Sequence[tuple[str, Any]] | str | None
    headers: Pairs | None
    cookies: httpx2.Cookies | Mapping[str, str] | Sequence[tuple[str, str]] | None
    verify: ssl.SSLContext | str | bool
    cert: str | tuple[str, str] | tuple[str, str, str] | None
    http1: bool
    http2: bool
    proxy: httpx2.URL | str | httpx2.Proxy | None
    mounts: Mapping[str, httpx2.AsyncBaseTransport | None] | None
    timeout: httpx2.Timeout | float | tuple[float | None, float | None, float | None, float | None] | None
    follow_redirects: bool
    limits: httpx2.Limits
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Awaitable[Any]]]] | None
    transport: httpx2.AsyncBaseTransport | None
    trust_env: bool
    default_encoding: str | Callable[[bytes], str | None]


if TYPE_CHECKING:
    # The mixin is one of httpx's client for type checkers: these are its names in terms of this package.
    class _Mixin:
        @property
        def retry(self) -> Retry | None: ...
        @property
        def rate_limit(self) -> RateLimit | None: ...
        @property
        def bulkhead(self) -> Bulkhead | None: ...
        @property
        def circuit_breaker(self) -> CircuitBreaker | None: ...
        def paginate(self, path: httpx2.URL | str, **options: Any) -> Pagination[Any]: ...
        def batch(self, requests: Iterable[Any], **options: Any) -> Batch: ...

else:
    _Mixin = ResilientMixin


class ResilientClient(_Mixin, httpx2.AsyncClient):
    """An ``httpx2.AsyncClient`` that retries, paces, breaks circuits and bounds every call.

    All arguments are those of `resilience_httpx.ResilientClient`.

    Example:
        >>> import asyncio
        >>> replies = iter([503, 200])
        >>> transport = httpx2.MockTransport(lambda request: httpx2.Response(next(replies)))
        >>> async def main() -> None:
        ...     async with ResilientClient("https://api.example.com", transport=transport) as client:
        ...         print(await client.get("/users/ada"))
        >>> asyncio.run(main())
        <Response [200 OK]>
    """

    _package = httpx2

    if TYPE_CHECKING:

        def __init__(self, base_url: httpx2.URL | str = "", **options: Unpack[ClientOptions]) -> None: ...
