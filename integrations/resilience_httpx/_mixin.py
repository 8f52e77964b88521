"""What makes an HTTP client resilient: `send`, as the stack of policies around the inherited one.

Everything goes through `send`: the verbs, ``stream()``, what an SDK does with the client. Whatever the
base class knows of redirects, cookies, authentication, hooks and proxies happens within each attempt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from resilience import Bulkhead, CircuitBreaker, RateLimit, Retry
from resilience_httpx._backends import Backend, check_backend, new_transport
from resilience_httpx._batch import Batching
from resilience_httpx._call import Send, current
from resilience_httpx._connections import keep
from resilience_httpx._cookies import sparing
from resilience_httpx._packages import USE_CLIENT_DEFAULT, httpx, is_default
from resilience_httpx._pagination import Paginating
from resilience_httpx._plain_urls import plain_url
from resilience_httpx._policy_options import PolicyOptions
from resilience_httpx._redirects import drop_free_cookies, drop_secrets, refuse_downgrade
from resilience_httpx._requests import IN_MEMORY
from resilience_httpx._response_cache import ResponseCache
from resilience_httpx._sender import Sender
from resilience_httpx._sending import check_body, note_body

if TYPE_CHECKING:
    from httpx._client import UseClientDefault

    _Client = httpx.AsyncClient
else:
    _Client = object

Auth: TypeAlias = httpx.Auth | tuple[str | bytes, str | bytes] | Callable[[httpx.Request], httpx.Request]

_OMITTED: Any = object()
"""Stands for what each package has a default of its own for."""


class ResilientMixin(Paginating, Batching, _Client):
    """Adds policies to an asynchronous client of httpx's kind; comes before it among the bases."""

    _package: ModuleType  # httpx or httpx2
    _backend: str
    _sender: Sender

    def __init__(
        self, base_url: httpx.URL | str = "", *, backend: Backend = "httpx", **options: Any
    ) -> None:
        policies = {name: options.pop(name) for name in PolicyOptions.__annotations__ if name in options}
        self._backend = check_backend(backend, options)
        super().__init__(base_url=base_url, **options)
        self._put_under(policies)
        self._mend_inherited()

    def _put_under(self, policies: Any) -> None:
        self._sender = Sender(
            functools.partial(super().send, stream=True),
            use=type(self).__name__,
            base_url=lambda: self.base_url,
            cookies=lambda: self.cookies,
            auth=lambda: self.auth,
            transport_for=lambda url: self._transport_for_url(url),
            default_encoding=lambda: self._default_encoding,
            **policies,
        )

    @property
    def retry(self) -> Retry | None:
        """The policy that decides about sending again, if any."""
        return self._sender.policies.retry

    @property
    def rate_limit(self) -> RateLimit | None:
        """The policy that paces the attempts, if any."""
        return self._sender.policies.rate_limit

    @property
    def bulkhead(self) -> Bulkhead | None:
        """The policy that bounds how many attempts there are at once, if any."""
        return self._sender.policies.bulkhead

    @property
    def circuit_breaker(self) -> CircuitBreaker | None:
        """The policy that stops calling what keeps failing, if any.

        The default one has a circuit per origin: ``client.circuit_breaker.at("https://api.example.com")``.
        """
        return self._sender.policies.circuit_breaker

    @property
    def cache(self) -> ResponseCache | None:
        """The cache of responses, if any."""
        return self._sender.policies.cache

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
        options = {"auth": auth, "follow_redirects": follow_redirects}
        given = {name: value for name, value in options.items() if value is not _OMITTED}
        return await self._sender.send(request, stream=stream, options=given)

    def _redirect_headers(self, request: httpx.Request, url: httpx.URL, method: str) -> httpx.Headers:
        headers = super()._redirect_headers(request, url, method)
        drop_secrets(headers, request, url)
        return headers

    def _build_redirect_request(self, request: httpx.Request, response: httpx.Response) -> httpx.Request:
        redirected = super()._build_redirect_request(request, response)
        drop_free_cookies(redirected, response, self.cookies)
        if self._follows_redirects():
            refuse_downgrade(redirected, response)
        return redirected

    def _follows_redirects(self) -> bool:
        given = current.get().options.get("follow_redirects", USE_CLIENT_DEFAULT)
        return self.follow_redirects if is_default(given) else bool(given)

    def _merge_url(self, url: httpx.URL | str) -> httpx.URL:
        return plain_url(self.base_url, url) or super()._merge_url(url)

    def _mend_inherited(self) -> None:
        self._cookies = sparing(self.cookies)
        for transport in (self._transport, *self._mounts.values()):
            keep(transport)

    if not TYPE_CHECKING:  # httpx has no public way to watch requests, or to choose all transports

        def _send_single_request(self, request: Any) -> Any:
            if type(request.stream) in IN_MEMORY and not self._event_hooks["response"]:
                return super()._send_single_request(request)  # watched, it would take 2 % longer
            return _watched(super()._send_single_request, request)

        def _init_transport(self, transport: Any = None, **options: Any) -> Any:
            return transport or new_transport(self._package, self._backend, **options)

        def _init_proxy_transport(self, proxy: Any, **options: Any) -> Any:
            return new_transport(self._package, self._backend, proxy=proxy, **options)


async def _watched(send: Send, request: httpx.Request) -> httpx.Response:
    """Send one of the requests of an attempt, with a body that can be sent once or hooks that may fail."""
    check_body(request)
    response = await send(request)
    note_body(request)
    current.get().is_answered = True
    return response
