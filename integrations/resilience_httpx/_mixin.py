"""What makes an HTTP client resilient: `send`, as the stack of policies around the inherited one.

Everything goes through `send`: the verbs, ``stream()``, what an SDK does with the client. Whatever the
base class knows of redirects, cookies, authentication, hooks and proxies happens within each attempt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from resilience import CircuitBreaker, Policy, RateLimit, Retry, Timeout, _arguments, retry, timeout
from resilience_httpx._auth import CREDENTIAL_HEADERS
from resilience_httpx._bodies import hold, read
from resilience_httpx._call import Call, current
from resilience_httpx._circuits import circuit_per_origin
from resilience_httpx._endpoints import Endpoint, Endpoints
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx
from resilience_httpx._pipeline import Pipeline, Policies, build
from resilience_httpx._redaction import watch_log
from resilience_httpx._requests import cookies_set_by, fresh_copy, renew_cookies

if TYPE_CHECKING:
    from httpx._client import UseClientDefault

    _Client = httpx.AsyncClient
else:
    _Client = object

Auth: TypeAlias = httpx.Auth | tuple[str | bytes, str | bytes] | Callable[[httpx.Request], httpx.Request]

_KEPT_PIPELINES = 64

_KINDS: dict[str, tuple[type[Policy], str]] = {
    "retry": (Retry, "a retry(...) policy or None"),
    "rate_limit": (RateLimit, "a rate_limited(...) policy or None"),
    "circuit_breaker": (CircuitBreaker, "a circuit_breaker(...) policy or None"),
}
_LIMITS = ("attempt_timeout", "total_timeout")

# A timeout on an endpoint limits the attempt: the total is there to bound everything.
_ARGUMENT_OF = {
    "retry": "retry",
    "rate_limited": "rate_limit",
    "circuit_breaker": "circuit_breaker",
    "timeout": "attempt_timeout",
}


_OMITTED: Any = object()
"""Stands for what each package has a default of its own for."""


class DefaultPolicy:
    """Stands for a policy that was not given, where ``None`` means that there shall be none."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = DefaultPolicy()


class ResilientMixin(_Client):
    """Adds policies to an asynchronous client of httpx's kind; comes before it among the bases."""

    def __init__(
        self,
        base_url: httpx.URL | str = "",
        *,
        retry: Retry | DefaultPolicy | None = DEFAULT,
        rate_limit: RateLimit | None = None,
        circuit_breaker: CircuitBreaker | DefaultPolicy | None = DEFAULT,
        attempt_timeout: _arguments.Seconds | None = 30.0,
        total_timeout: _arguments.Seconds | None = 120.0,
        endpoints: Mapping[str, Sequence[Policy]] | None = None,
        raise_for_status: bool = False,
        **options: Any,
    ) -> None:
        given: dict[str, Any] = {
            "retry": _default_retry() if isinstance(retry, DefaultPolicy) else retry,
            "rate_limit": rate_limit,
            "circuit_breaker": circuit_per_origin()
            if isinstance(circuit_breaker, DefaultPolicy)
            else circuit_breaker,
            "attempt_timeout": attempt_timeout,
            "total_timeout": total_timeout,
        }
        self._policies = Policies(**_checked(given))
        self._endpoints = Endpoints({} if endpoints is None else endpoints)
        self._raises = _arguments.flag("raise_for_status", raise_for_status)
        super().__init__(base_url=base_url, **options)
        self._first_origin: str | None = None
        self._pipelines: dict[tuple[str | None, Policies], Pipeline] = {}
        self._pipeline = self._pipeline_of(None, self._policies)
        self._of_endpoint = {
            each.pattern: self._pipeline_of(each, _with_endpoint(self._policies, each))
            for each in self._endpoints.all
        }
        watch_log()

    @property
    def retry(self) -> Retry | None:
        """The policy that decides about sending again, if any."""
        return self._policies.retry

    @property
    def rate_limit(self) -> RateLimit | None:
        """The policy that paces the attempts, if any."""
        return self._policies.rate_limit

    @property
    def circuit_breaker(self) -> CircuitBreaker | None:
        """The policy that stops calling what keeps failing, if any.

        The default one has a circuit per origin: ``client.circuit_breaker.at("https://api.example.com")``.
        """
        return self._policies.circuit_breaker

    async def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,
        auth: Auth | UseClientDefault | None = _OMITTED,
        follow_redirects: bool | UseClientDefault = _OMITTED,
    ) -> httpx.Response:
        """Send a request under the policies of the client; see ``httpx.AsyncClient.send``.

        Args:
            request: The request. Later attempts send copies of what it was before the first.
            stream: Whether the caller reads the body. Then the attempt ends with the headers.
            auth: Credentials in place of the client's.
            follow_redirects: Whether to follow redirects, in place of the client's setting.

        Raises:
            httpx.HTTPError: If the request failed; see `resilience_httpx` for the classes.
        """
        pipeline = self._pipeline_for(request)
        call = Call(
            request,
            home=self._home(request),
            stream=stream,
            options=_given(auth=auth, follow_redirects=follow_redirects),
            retries=pipeline.retries,
        )
        token = current.set(call)
        try:
            return await pipeline.send(call.request)
        finally:
            current.reset(token)
            await call.end()

    async def _attempt(self, request: httpx.Request) -> httpx.Response:
        """Send a request once, and read the body unless the caller does."""
        call = current.get()
        call.sent = call.given if call.sent is None else await self._another(request, call)
        response = await super().send(call.sent, stream=True, **call.options)
        if call.may_drop(response):
            await hold(response)
        elif not call.stream:
            await read(response)
        return response

    async def _another(self, request: httpx.Request, call: Call) -> httpx.Request:
        """Make the request of another attempt, after one that failed."""
        copy = fresh_copy(request)
        if call.answer is not None:
            call.new_cookies |= cookies_set_by(call.answer.response)
            await call.drop_answer()
        if call.new_cookies:
            renew_cookies(copy, call.new_cookies, self.cookies)
        return copy

    def _redirect_headers(self, request: httpx.Request, url: httpx.URL, method: str) -> httpx.Headers:
        """Drop the credentials on the way to another origin; httpx itself drops ``Authorization`` only."""
        headers = super()._redirect_headers(request, url, method)
        if origin_of(url) != origin_of(request.url):
            for name in request.extensions.get(CREDENTIAL_HEADERS, ()):
                headers.pop(name, None)
        return headers

    def _home(self, request: httpx.Request) -> str:
        """Return the client's own origin: that of its base URL, else of its first request."""
        if self.base_url.host:
            return origin_of(self.base_url)
        if self._first_origin is None:
            self._first_origin = origin_of(request.url)
        return self._first_origin

    # --- Choosing the pipeline ---

    def _pipeline_for(self, request: httpx.Request) -> Pipeline:
        endpoint = self._endpoints.match(request, self.base_url) if self._endpoints.all else None
        extensions = request.extensions
        if extensions.keys().isdisjoint(_KINDS) and extensions.keys().isdisjoint(_LIMITS):
            return self._pipeline if endpoint is None else self._of_endpoint[endpoint.pattern]
        policies = self._policies if endpoint is None else _with_endpoint(self._policies, endpoint)
        chosen = {name: extensions[name] for name in (*_KINDS, *_LIMITS) if name in extensions}
        return self._pipeline_of(endpoint, replace(policies, **_checked(chosen)))

    def _pipeline_of(self, endpoint: Endpoint | None, policies: Policies) -> Pipeline:
        key = (None if endpoint is None else endpoint.pattern, policies)
        pipeline = self._pipelines.get(key)
        if pipeline is None:
            if len(self._pipelines) >= _KEPT_PIPELINES:  # policies made anew for each call
                self._pipelines.clear()
            pipeline = self._pipelines[key] = build(
                policies,
                self._attempt,
                use=type(self).__name__ if endpoint is None else endpoint.pattern,
                home=origin_of(self.base_url) if self.base_url.host else None,
                raises=self._raises,
            )
        return pipeline


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not _OMITTED}


def _default_retry() -> Retry:
    return retry()


def _with_endpoint(policies: Policies, endpoint: Endpoint) -> Policies:
    """Add an endpoint's policies; each replaces the client's of its kind."""
    replaced: dict[str, Any] = {
        _ARGUMENT_OF[each.kind]: each for each in endpoint.policies if each.kind in _ARGUMENT_OF
    }
    others = tuple(each for each in endpoint.policies if each.kind not in _ARGUMENT_OF)
    return replace(policies, **replaced, others=others)


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check policies by the names of their arguments, and make time limits of seconds."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            checked[name] = None
        elif name in _KINDS:
            checked[name] = _arguments.instance(name, value, *_KINDS[name])
        else:
            checked[name] = _time_limit(name, _arguments.seconds(name, value))
    return checked


@functools.lru_cache(maxsize=256)
def _time_limit(name: str, seconds: float) -> Timeout:
    return timeout(seconds, name=name)
