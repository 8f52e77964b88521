"""`ResilientTransport`: the policies for those who can choose a transport and nothing else.

Some SDKs make their client themselves and accept only ``transport=``. A transport sees less than a client:
each hop of a redirect and each request of an auth flow is a call of its own; a call ends with the headers,
so a body that breaks is not sent again; ``proxy=`` and ``mounts=`` of the client go past it. Where a client
can be given, give a `ResilientClient`.
"""

from __future__ import annotations

from typing import Any, Unpack

from resilience_httpx._added import drop_strange_headers
from resilience_httpx._connections import keep
from resilience_httpx._packages import AsyncBaseTransport, httpx, package_of
from resilience_httpx._policy_options import PolicyOptions, check_options
from resilience_httpx._sender import Sender
from resilience_httpx._sending import check_body, note_body


class ResilientTransport(AsyncBaseTransport):
    """A transport that puts each request under policies; for clients of httpx and of httpx2.

    Safe for concurrent tasks. The connections belong to one event loop.

    Args:
        transport: What sends the requests; default: the own transport of the package whose client uses it.
        **options: The policies: ``retry``, ``rate_limit`` and so on; see `ResilientClient`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or an endpoint's pattern cannot match.

    Example:
        >>> import asyncio
        >>> replies = iter([503, 200])
        >>> flaky = httpx.MockTransport(lambda request: httpx.Response(next(replies)))
        >>> async def main() -> None:
        ...     async with httpx.AsyncClient(transport=ResilientTransport(flaky)) as client:
        ...         print(await client.get("https://api.example.com"))
        >>> asyncio.run(main())
        <Response [200 OK]>
    """

    def __init__(self, transport: Any = None, **options: Unpack[PolicyOptions]) -> None:
        if transport is not None and not hasattr(transport, "handle_async_request"):
            raise TypeError(f"transport must be an asynchronous transport, got {transport!r}")
        check_options("ResilientTransport", options)
        if options.get("cache") is not None:
            raise ValueError("cache must be None: a transport leaves bodies unread; give it to the client")
        self._transport = keep(transport)
        self._sender = Sender(self._exchange, use=type(self).__name__, **options)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request under the policies; the body of its response has not been read."""
        check_body(request)
        drop_strange_headers(request)  # the client's redirects only drop `Authorization`
        return await self._sender.send(request, stream=True, options={})

    async def aclose(self) -> None:
        """Close the transport that sends the requests."""
        if self._transport is not None:
            await self._transport.aclose()

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        if self._transport is None:
            self._transport = keep(package_of(request).AsyncHTTPTransport())
        response: httpx.Response = await self._transport.handle_async_request(request)
        note_body(request)
        response.request = request
        return response
