"""`ResilientClient`: an ``httpx.AsyncClient`` with policies."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, Unpack

from resilience import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry
from resilience._arguments import Seconds
from resilience_httpx._backends import Backend
from resilience_httpx._error_map import ErrorKey
from resilience_httpx._errors import StatusError
from resilience_httpx._idempotency import KeyOption
from resilience_httpx._middleware import Middleware
from resilience_httpx._mixin import Auth, ResilientMixin
from resilience_httpx._packages import httpx
from resilience_httpx._policy_options import DEFAULT, DefaultPolicy
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._server_limits import ServerLimits

Pairs: TypeAlias = httpx.Headers | Mapping[str, str] | Mapping[bytes, bytes] | Sequence[tuple[str, str]]


class HTTPXOptions(TypedDict, total=False):
    """The arguments of ``httpx.AsyncClient`` that `ResilientClient` passes on as they are."""

    params: httpx.QueryParams | Mapping[str, Any] | Sequence[tuple[str, Any]] | str | None
    headers: Pairs | None
    cookies: httpx.Cookies | Mapping[str, str] | Sequence[tuple[str, str]] | None
    verify: ssl.SSLContext | str | bool
    cert: str | tuple[str, str] | tuple[str, str, str] | None
    http1: bool
    http2: bool
    proxy: httpx.URL | str | httpx.Proxy | None
    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None
    timeout: httpx.Timeout | float | tuple[float | None, float | None, float | None, float | None] | None
    follow_redirects: bool
    limits: httpx.Limits
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Awaitable[Any]]]] | None
    transport: httpx.AsyncBaseTransport | None
    trust_env: bool
    default_encoding: str | Callable[[bytes], str]


class ResilientClient(ResilientMixin, httpx.AsyncClient):
    """An ``httpx.AsyncClient`` that retries, paces, breaks circuits and bounds every call.

    Code and SDKs written for httpx run on it unchanged, and its own arguments keep their meaning:
    ``timeout=`` is that of single operations, hooks run in each attempt. It needs asyncio. It has one pool
    of connections for its life; close it, or use it as ``async with``.

    A request is sent again after 408, 429, 500, 502, 503, 504, 520 to 524, 529 and failures of the network,
    if its method is idempotent or it has an ``Idempotency-Key``, and if its body comes out the same a
    second time; whatever the method, if nothing was sent, or once after 425 (too early). ``Retry-After`` is
    a lower bound of the wait. When no attempt is left, the last response is returned. The body is read
    within the attempt; with ``stream()`` the attempt ends with the headers.

    A task that is cancelled while its request begins can cost httpx 0.28 a connection for good
    (httpcore#1093); not here: the client's own transports give it back.

    Policies can be chosen for one call: ``client.get(url, extensions={"retry": None})``, likewise
    ``rate_limit``, ``circuit_breaker``, ``server_limits``, ``attempt_timeout`` and ``total_timeout``.

    Safe for concurrent tasks. The connections belong to one event loop, as those of every httpx client do.

    Args:
        base_url: What relative URLs are added to.
        retry: A `retry` policy; its ``on`` and ``on_result`` only narrow what is sent again. Default:
            ``retry()``. ``None``: nothing is sent again.
        rate_limit: A `rate_limited` policy; every attempt counts.
        circuit_breaker: A `circuit_breaker` policy; it counts statuses of 500 and above and failures of
            the network, per origin. Without ``key=`` it guards the client's own origin itself, and others
            by circuits of the same configuration. ``None``: no circuits.
        bulkhead: A `bulkhead` policy: so many attempts at once. Default: as many as come.
        cache: A `ResponseCache`: what it answers passes no other policy. Default: nothing is kept.
        server_limits: A `ServerLimits`: what the server says of its limits, by ``Retry-After`` and headers
            of rate limits, holds for all calls. Default: one of the client's own. ``None``: only the retry
            of the call that is told heeds it.
        attempt_timeout: Seconds or ``timedelta`` for one attempt, or ``None``.
        total_timeout: Seconds or ``timedelta`` for a call with all its attempts and waits, or ``None``.
        endpoints: Policies per endpoint, such as ``{"GET /search*": [rate_limited(30, per=60)]}``. One of
            a kind that the client has replaces the client's, a `timeout` that of the attempt; the others
            go where decorators of their kind belong. The path is the one below ``base_url``, without
            query; ``*`` is any text; the most specific pattern counts.
        auth: `BearerAuth`, `APIKeyAuth`, `BasicAuth`, or anything that httpx takes.
        raise_for_status: Whether error statuses are raised and errors of the network are typed; see
            `HTTPClientError`.
        error_map: The API's own classes of errors, subclasses of `StatusError`, by status, by type of
            problem (RFC 9457) or error code in the body, or by a pair of status and one of these; the most
            specific counts. Needs ``raise_for_status=True``.
        middleware: Async functions ``(request, call_next) -> response`` around each call, outside of all
            policies; the first is the outermost.
        attempt_middleware: The same around each attempt, inside of all policies.
        idempotency_key: Gives each POST and PATCH an idempotency key, the same in all its attempts, so that
            it may be sent again: ``True``, the name of the header, a function of the request that returns
            the key, or an `IdempotencyKey`. A key in the request's header is left as it is;
            ``extensions={"idempotency_key": "..."}`` gives one for a call, ``None`` there gives none.
        attempt_header: A header that tells the server the number of the attempt, the first being 1. Hooks
            find the number in ``request.extensions.get("resilience.attempt", 1)``.
        name: What events, metrics and lines of the log call this client, so that they can be told from
            those of others; hooks find it in ``request.extensions["resilience.client"]``. Policies with a
            name of their own keep it. Default: the name of the class.
        backend: What carries the requests: ``"httpx"``, or ``"aiohttp"`` (extra ``aiohttp``), which is
            several times faster with many connections and has no HTTP/2.
        **options: The other arguments of ``httpx.AsyncClient``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or an endpoint's pattern cannot match.

    Example:
        >>> import asyncio
        >>> replies = iter([503, 200])
        >>> def answer(request: httpx.Request) -> httpx.Response:
        ...     return httpx.Response(next(replies), json={"login": "ada"})
        >>> async def main() -> None:
        ...     transport = httpx.MockTransport(answer)
        ...     async with ResilientClient("https://api.example.com", transport=transport) as client:
        ...         print((await client.get("/users/ada")).json())
        >>> asyncio.run(main())
        {'login': 'ada'}
    """

    _package = httpx

    def __init__(
        self,
        base_url: httpx.URL | str = "",
        *,
        retry: Retry | DefaultPolicy | None = DEFAULT,
        rate_limit: RateLimit | None = None,
        circuit_breaker: CircuitBreaker | DefaultPolicy | None = DEFAULT,
        bulkhead: Bulkhead | None = None,
        cache: ResponseCache | None = None,
        server_limits: ServerLimits | DefaultPolicy | None = DEFAULT,
        attempt_timeout: Seconds | None = 30.0,
        total_timeout: Seconds | None = 120.0,
        endpoints: Mapping[str, Sequence[Policy]] | None = None,
        auth: Auth | None = None,
        raise_for_status: bool = False,
        error_map: Mapping[ErrorKey, type[StatusError]] | None = None,
        middleware: Sequence[Middleware] | None = None,
        attempt_middleware: Sequence[Middleware] | None = None,
        idempotency_key: KeyOption = None,
        attempt_header: str | None = None,
        name: str | None = None,
        backend: Backend = "httpx",
        **options: Unpack[HTTPXOptions],
    ) -> None:
        super().__init__(
            base_url,
            retry=retry,
            rate_limit=rate_limit,
            circuit_breaker=circuit_breaker,
            bulkhead=bulkhead,
            cache=cache,
            server_limits=server_limits,
            attempt_timeout=attempt_timeout,
            total_timeout=total_timeout,
            endpoints=endpoints,
            auth=auth,
            raise_for_status=raise_for_status,
            error_map=error_map,
            middleware=middleware,
            attempt_middleware=attempt_middleware,
            idempotency_key=idempotency_key,
            attempt_header=attempt_header,
            name=name,
            backend=backend,
            **options,
        )
