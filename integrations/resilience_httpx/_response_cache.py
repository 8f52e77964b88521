"""The cache of responses: opt-in, for GET and HEAD, by what the server allows (RFC 9111).

It stands on the parts of the core's `cached`: stores, single flight, counts and events. What differs is who
decides: each response brings its own times, an expired one is shown to the server again (``ETag``,
``Last-Modified``), and there may be several of one URL (``Vary``). The rules are in `_cache_rules`.

A hit passes no limit, no circuit, no retry and no event hook. All who miss the same response at the same
time share one exchange with the server, a call of its own that is bound to nobody's task or deadline.

Responses to requests with credentials are kept only if that is asked for, and then for those credentials
alone. Keys are hashes: of the method, the URL, what ``Vary`` names, and the credentials.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec, TypeVar

from resilience import CacheInfo, CacheStore, Timeout, _arguments, _live
from resilience._cache_memory import ContainerStore
from resilience._cache_shared import SharedStore
from resilience._cache_store import Store
from resilience_httpx._cache_exchange import KEEP, Exchanges, exchange_by
from resilience_httpx._cache_keys import Credentials, Variation, key_of, owner, tag_of
from resilience_httpx._cache_rules import SAFE_METHODS, StoredResponse, is_left_alone
from resilience_httpx._cache_visit import Visit
from resilience_httpx._call import Send, current
from resilience_httpx._packages import httpx

MOST_TAGGED: Final = 10_000
MEBIBYTE: Final = 1024 * 1024
OVERHEAD: Final = 512

P = ParamSpec("P")
R = TypeVar("R")


class ResponseCache:
    """Keeps responses to GET and HEAD for as long as the server allows; the ``cache=`` of a client.

    It does what ``Cache-Control``, ``Age``, ``Expires``, ``ETag``, ``Last-Modified`` and ``Vary`` say, of
    RFC 5861 too (``stale-while-revalidate``, ``stale-if-error``); a response that says nothing is not
    kept. Only 200, 203 and 204 are kept, without cookies, and not what a redirect led to. Anything but a
    safe method makes it forget what it has of that URL. ``response.extensions["resilience.cache"]`` tells
    where a response comes from: ``"hit"``, ``"stale"``, ``"revalidated"``, or ``"shared"`` if it came with
    the answer to another call.

    Requests that are streamed, have a body, conditions or a range of their own pass it by. One call does,
    too, with ``extensions={"cache": None}``; ``Cache-Control: no-cache`` asks the server in any case.

    Safe for concurrent tasks, threads and event loops; several clients may share one.

    Args:
        credentials: Whether responses to requests with credentials are kept (``auth``, ``Authorization``,
            cookies, headers whose name sounds like a secret), each for its own credentials alone.
            ``True`` tells them apart by those headers and by the ``auth`` object. One that may stand for
            several users (a function, a `BearerAuth` with one, a class of your own) passes the cache by.
            For those give a function of the request that returns whose the response is, such as the id
            of the user; it is asked for every request. Without one, all headers by which a server may
            tell users apart are part of the key, and nothing is kept if a hook or middleware changed one.
        stale_if_error: For how many seconds after its expiry a response is used if the server fails, or
            cannot be asked, unless the response says otherwise; seconds or ``timedelta``, 0 or more.
        max_size: Bytes to keep at most, 1 or more; the least recently used goes first. Not for a ``store``.
        max_entry_size: Bytes of one response at most, 1 or more; larger ones are not kept.
        store: A `CacheStore` in place of memory. It gets plain data that can be pickled.
        name: What events call it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range.

    Example:
        >>> import asyncio, httpx
        >>> from resilience_httpx import ResilientClient, ResponseCache
        >>> def answer(request: httpx.Request) -> httpx.Response:
        ...     print("asked", request.url.path)
        ...     return httpx.Response(200, headers={"Cache-Control": "max-age=60"}, text="hello")
        >>> async def main() -> None:
        ...     transport = httpx.MockTransport(answer)
        ...     async with ResilientClient(transport=transport, cache=ResponseCache()) as client:
        ...         await client.get("https://api.example.com/greeting")
        ...         print((await client.get("https://api.example.com/greeting")).text)
        >>> asyncio.run(main())
        asked /greeting
        hello
    """

    def __init__(
        self,
        *,
        credentials: bool | Callable[[httpx.Request], str] = False,
        stale_if_error: _arguments.Seconds = 0,
        max_size: int = 16 * MEBIBYTE,
        max_entry_size: int = MEBIBYTE,
        store: CacheStore | None = None,
        name: str = "response_cache",
    ) -> None:
        self._credentials: Credentials = (
            _arguments.plain_function("credentials", credentials)
            if callable(credentials)
            else _arguments.instance("credentials", credentials, bool, "True, False or a function")
        )
        self._name = _arguments.text("name", name)
        self._store = _make_store(store, _arguments.whole("max_size", max_size))
        self._exchanges = Exchanges(
            self._store,
            self._name,
            _arguments.seconds("stale_if_error", stale_if_error),
            _arguments.whole("max_entry_size", max_entry_size),
        )
        _live.add(self)

    def invalidate(self, url: httpx.URL | str) -> Awaitable[None]:
        """Forget all responses of a URL, also those under way.

        Args:
            url: An absolute URL with its query.

        Returns:
            An awaitable that must be awaited only with a ``store``; there it reaches the responses that
            this process stored or read.
        """
        tag = tag_of(_absolute(url))
        self._exchanges.flights.detach(lambda flight: tag in flight.tags)
        return self._store.drop_tag(tag)

    def clear(self) -> Awaitable[None]:
        """Forget all responses, also those under way.

        Returns:
            An awaitable that must be awaited only with a ``store``, all of whose entries it drops.
        """
        self._exchanges.flights.detach(lambda _: True)
        return self._store.clear()

    async def aclose(self) -> None:
        """End the exchanges in the background; the cache can be used again afterwards."""
        await self._exchanges.flights.close_background()

    def info(self) -> CacheInfo:
        """Return what the cache has done, and how many responses it keeps."""
        counts = self._exchanges.counts
        return CacheInfo(
            hits=counts.hit,
            misses=counts.miss,
            stale=counts.stale,
            coalesced=counts.coalesced,
            evictions=counts.evicted,
            size=self._store.size(),
        )

    def on_page(self) -> dict[str, Any]:
        """Return the entry of this cache on the page of `resilience.snapshot`."""
        return {
            **self.info()._asdict(),
            "name": self._name,
            "kind": "response_cache",
            "policy": repr(self),
            "enabled": True,
        }

    def __repr__(self) -> str:
        return f"ResponseCache(name={self._name!r})"

    def over(self, send: Send, total_timeout: Timeout | None, use: str) -> Send:
        """Put this cache over the layers of a client.

        Args:
            send: The layers. Each exchange is one call of them.
            total_timeout: Limits each call that is not answered at once, and each exchange.
            use: What events call a ``total_timeout`` without a name.
        """
        answers = self._exchanges

        def limited(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
            return function if total_timeout is None else total_timeout.wrap(function, use)

        direct, fetch = limited(send), limited(answers.fetch)
        exchange = exchange_by(direct)

        async def answered(request: httpx.Request) -> httpx.Response:
            call = current.get()
            if request.method not in SAFE_METHODS:
                return await self._change(request, direct)
            passes = call.stream or is_left_alone(request)
            whose = None if passes else owner(self._credentials, request, call.auth)
            if whose is None:
                return await direct(request)
            key = key_of(request, whose)
            visit = Visit(call, key, key, whose, send, exchange)
            return await answers.answer(visit, fetch)

        return answered

    async def _change(self, request: httpx.Request, send: Send) -> httpx.Response:
        try:
            response = await send(request)
        finally:
            # Also after a failure, which does not tell that nothing was done.
            await self._exchanges.forget(request.url)
        await self._exchanges.forget_changed(request, response)
        return response


def _make_store(store: CacheStore | None, max_size: int) -> Store:
    if store is not None:
        _arguments.instance("store", store, CacheStore, "an async CacheStore")
        return SharedStore(store, MOST_TAGGED, KEEP, 0.0)
    from cachetools import LRUCache  # not needed by who has a store

    return ContainerStore(LRUCache(max_size, getsizeof=_size))


def _absolute(url: httpx.URL | str) -> httpx.URL:
    parsed = httpx.URL(str(url))
    if not (parsed.is_absolute_url and parsed.host):
        raise ValueError("url must be an absolute URL")  # not shown: it may hold a secret
    return parsed


def _size(value: StoredResponse | Variation) -> int:
    # What the objects around the bytes take is a guess; without it, empty responses would cost nothing.
    return OVERHEAD + (value.size if isinstance(value, StoredResponse) else 0)
