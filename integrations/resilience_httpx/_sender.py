"""`Sender`: sends requests under policies, whatever sends them in the end.

A client and a transport differ in what one attempt is and in what they know of the request; which policies
it passes, and how an attempt is repeated, is the same for both and is here.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from resilience import (
    Bulkhead,
    CircuitBreaker,
    Policy,
    RateLimit,
    Retry,
    Timeout,
    _arguments,
    retry,
    timeout,
)
from resilience._live import hidden
from resilience_httpx._bodies import hold, read
from resilience_httpx._call import Call, Encoding, current
from resilience_httpx._circuits import circuit_per_origin
from resilience_httpx._endpoints import Endpoint, Endpoints
from resilience_httpx._error_map import ErrorKey, ErrorMap
from resilience_httpx._errors import StatusError
from resilience_httpx._idempotency import KeyOption, idempotency_of, with_key
from resilience_httpx._middleware import Middleware, check_middleware, through
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx
from resilience_httpx._pipeline import Pipeline, Policies, build
from resilience_httpx._policy_options import DEFAULT, DefaultPolicy
from resilience_httpx._redaction import watch_log
from resilience_httpx._requests import CLIENT, cookies_set_by, fresh_copy, mark_attempt, renew_cookies
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._server_limits import ServerLimits

Exchange: TypeAlias = Callable[..., Awaitable[httpx.Response]]
"""Sends a request once; the body of the response has not been read."""

_KEPT_PIPELINES = 64

_KINDS: dict[str, tuple[type[Any], str]] = {
    "retry": (Retry, "a retry(...) policy or None"),
    "rate_limit": (RateLimit, "a rate_limited(...) policy or None"),
    "circuit_breaker": (CircuitBreaker, "a circuit_breaker(...) policy or None"),
    "cache": (ResponseCache, "a ResponseCache or None"),
    "bulkhead": (Bulkhead, "a bulkhead(...) policy or None"),
    "server_limits": (ServerLimits, "a ServerLimits or None"),
}
_LIMITS = ("attempt_timeout", "total_timeout")

# A timeout on an endpoint limits the attempt: the total is there to bound everything.
_ARGUMENT_OF = {
    "retry": "retry",
    "rate_limited": "rate_limit",
    "circuit_breaker": "circuit_breaker",
    "bulkhead": "bulkhead",
    "timeout": "attempt_timeout",
}


class Sender:
    """Sends requests under policies.

    Args:
        exchange: Sends a request once.
        use: What events call policies without a name, unless ``name`` is given.
        base_url: Tells what the paths of endpoints are below.
        cookies: Tells the jar that responses put their cookies into, if that is known.
        auth: Tells what adds credentials to requests, unless an option does.
        transport_for: Tells what requests to a URL are sent with; credentials ask for theirs with it.
        default_encoding: Tells how text is read whose encoding is not told.
        retry: See `ResilientClient`, as for the others.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        use: str,
        name: str | None = None,
        base_url: Callable[[], httpx.URL] = httpx.URL,
        cookies: Callable[[], httpx.Cookies] | None = None,
        auth: Callable[[], object] = lambda: None,
        transport_for: Callable[[httpx.URL], httpx.AsyncBaseTransport] | None = None,
        default_encoding: Callable[[], Encoding] = lambda: "utf-8",
        retry: Retry | DefaultPolicy | None = DEFAULT,
        rate_limit: RateLimit | None = None,
        circuit_breaker: CircuitBreaker | DefaultPolicy | None = DEFAULT,
        bulkhead: Bulkhead | None = None,
        cache: ResponseCache | None = None,
        server_limits: ServerLimits | DefaultPolicy | None = DEFAULT,
        attempt_timeout: _arguments.Seconds | None = 30.0,
        total_timeout: _arguments.Seconds | None = 120.0,
        endpoints: Mapping[str, Sequence[Policy]] | None = None,
        raise_for_status: bool = False,
        error_map: Mapping[ErrorKey, type[StatusError]] | None = None,
        middleware: Sequence[Middleware] | None = None,
        attempt_middleware: Sequence[Middleware] | None = None,
        idempotency_key: KeyOption = None,
        attempt_header: str | None = None,
    ) -> None:
        self._given_name = _arguments.optional(_arguments.text, "name", name)
        self._prefix = "" if name is None else f"{name} "
        given: dict[str, Any] = {
            "retry": _default_retry() if isinstance(retry, DefaultPolicy) else retry,
            "rate_limit": rate_limit,
            "circuit_breaker": circuit_per_origin()
            if isinstance(circuit_breaker, DefaultPolicy)
            else circuit_breaker,
            "bulkhead": bulkhead,
            "cache": cache,
            "server_limits": ServerLimits(name=f"{self._prefix}server_limits")
            if isinstance(server_limits, DefaultPolicy)
            else server_limits,
            "attempt_timeout": attempt_timeout,
            "total_timeout": total_timeout,
        }
        self.policies = Policies(**self._checked(given))
        self._endpoints = Endpoints({} if endpoints is None else endpoints)
        self._raises = _arguments.flag("raise_for_status", raise_for_status)
        self._errors = ErrorMap(error_map)
        if error_map and not raise_for_status:
            raise ValueError("error_map needs raise_for_status=True: without it no status is raised")
        self._middleware = check_middleware("middleware", middleware)
        self._attempt_middleware = check_middleware("attempt_middleware", attempt_middleware)
        self._idempotency = idempotency_of(idempotency_key)
        self._attempt_header = _arguments.optional(_arguments.text, "attempt_header", attempt_header)
        self._exchange = exchange
        self._use = name or use
        self._base_url = base_url
        self._cookies = cookies
        self._auth = auth
        self._transport_for = transport_for
        self._default_encoding = default_encoding
        self._first_origin: str | None = None
        self._pipelines: dict[tuple[str | None, Policies], Pipeline] = {}
        self._pipeline = self._pipeline_of(None, self.policies)
        self._of_endpoint = {
            each.pattern: self._pipeline_of(each, _with_endpoint(self.policies, each.policies))
            for each in self._endpoints.all
        }
        watch_log()

    async def send(
        self, request: httpx.Request, *, stream: bool, options: Mapping[str, Any]
    ) -> httpx.Response:
        """Send a request under the policies.

        Args:
            request: The request. Later attempts send copies of what it was before the first.
            stream: Whether the caller reads the body. Then the attempt ends with the headers.
            options: Further arguments for each exchange.
        """
        request = with_key(request, self._idempotency)
        if self._given_name is not None:
            request.extensions = {**request.extensions, CLIENT: self._given_name}
        if not self._middleware:
            return await self._call(request, stream=stream, options=options)
        call = functools.partial(self._call, stream=stream, options=options)
        return await through(self._middleware, call, request)

    async def _call(
        self, request: httpx.Request, *, stream: bool, options: Mapping[str, Any]
    ) -> httpx.Response:
        pipeline = self._pipeline_for(request)
        call = Call(
            request,
            home=self._home(request),
            stream=stream,
            options=options,
            retries=pipeline.retries,
            transport_for=self._transport_for,
            client_auth=self._auth,
            base_url=self._base_url(),
            default_encoding=self._default_encoding,
        )
        token = current.set(call)
        try:
            return await pipeline.send(call.request if pipeline.shows_requests else request)
        finally:
            current.reset(token)
            await call.end()

    def _home(self, request: httpx.Request) -> str:
        """Return the sender's own origin: that of its base URL, else of its first request."""
        base_url = self._base_url()
        if base_url.host:
            return origin_of(base_url)
        if self._first_origin is None:
            self._first_origin = origin_of(request.url)
        return self._first_origin

    async def _attempt(self, request: httpx.Request) -> httpx.Response:
        """Send a request once, and read the body unless the caller does."""
        call = current.get()
        call.sent = call.given if call.sent is None else await self._another(request, call)
        call.attempts += 1
        call.is_answered = False
        mark_attempt(call.sent, call.attempts, self._attempt_header)
        if not self._attempt_middleware:
            return await self._send_once(call.sent)
        return await through(self._attempt_middleware, self._send_once, call.sent)

    async def _send_once(self, request: httpx.Request) -> httpx.Response:
        call = current.get()
        call.sent = request
        response = await self._exchange(request, **call.options)
        call.is_answered = True
        try:
            if call.may_drop(response):
                await hold(response)
            elif not call.stream:
                await read(response)
        except BaseException:
            call.new_cookies |= cookies_set_by(response)
            raise
        return response

    async def _another(self, request: httpx.Request, call: Call) -> httpx.Request:
        """Make the request of another attempt, after one that failed."""
        copy = fresh_copy(request)
        if call.answer is not None:
            call.new_cookies |= cookies_set_by(call.answer.response)
            await call.drop_answer()
        if call.new_cookies and self._cookies is not None:
            renew_cookies(copy, call.new_cookies, self._cookies())
        return copy

    # --- Choosing the pipeline ---

    def _pipeline_for(self, request: httpx.Request) -> Pipeline:
        endpoint = self._endpoints.match(request, self._base_url()) if self._endpoints.all else None
        extensions = request.extensions
        added = () if endpoint is None else endpoint.enabled_policies
        if extensions.keys().isdisjoint(_KINDS) and extensions.keys().isdisjoint(_LIMITS):
            if endpoint is None:
                return self._pipeline
            if added == endpoint.policies:
                return self._of_endpoint[endpoint.pattern]
        policies = self.policies if endpoint is None else _with_endpoint(self.policies, added)
        chosen = {name: extensions[name] for name in (*_KINDS, *_LIMITS) if name in extensions}
        return self._pipeline_of(endpoint, replace(policies, **self._checked(chosen)))

    def _pipeline_of(self, endpoint: Endpoint | None, policies: Policies) -> Pipeline:
        key = (None if endpoint is None else endpoint.pattern, policies)
        pipeline = self._pipelines.get(key)
        if pipeline is None:
            if len(self._pipelines) >= _KEPT_PIPELINES:  # policies made anew for each call
                self._pipelines.clear()
            base_url = self._base_url()
            pipeline = self._pipelines[key] = build(
                policies,
                self._attempt,
                use=self._use if endpoint is None else f"{self._prefix}{endpoint.pattern}",
                home=origin_of(base_url) if base_url.host else None,
                raises=self._raises,
                errors=self._errors,
            )
        return pipeline

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check policies by the names of their arguments, and make time limits of seconds."""
        checked: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                checked[name] = None
            elif name in _KINDS:
                checked[name] = _arguments.instance(name, value, *_KINDS[name])
            else:
                seconds = _arguments.seconds(name, value)
                checked[name] = _time_limit(f"{self._prefix}{name}", seconds)
        return checked


def _default_retry() -> Retry:
    return retry()


def _with_endpoint(policies: Policies, added: Sequence[Policy]) -> Policies:
    """Add the policies of an endpoint; each replaces the client's of its kind."""
    replaced: dict[str, Any] = {
        _ARGUMENT_OF[each.kind]: each for each in added if each.kind in _ARGUMENT_OF
    }
    others = tuple(each for each in added if each.kind not in _ARGUMENT_OF)
    return replace(policies, **replaced, others=others)


@functools.lru_cache(maxsize=256)
def _time_limit(name: str, seconds: float) -> Timeout:
    return hidden(timeout(seconds, name=name))
