"""What carries the requests: the transport of httpx itself, or aiohttp.

``backend="aiohttp"`` is several times faster with many connections at once; it speaks HTTP/1.1 only. Both
take the same settings: ``limits``, ``verify``, ``cert``, ``proxy``, ``trust_env``. What aiohttp does of its
own accord is turned off: it would send a request a second time, which no policy sees, keep cookies that the
client has dropped, add headers, and spell URLs in its own way, which a signature over the URL does not
survive.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, TypeAlias

from resilience_httpx._connections import keeping
from resilience_httpx._failures import AIOHTTP_CAUSE
from resilience_httpx._requests import IN_MEMORY

Backend: TypeAlias = Literal["httpx", "aiohttp"]

_BACKENDS = ("httpx", "aiohttp")
_AIOHTTP = {"httpx": "httpx_aiohttp", "httpx2": "httpx_aiohttp.httpx2"}

_AUTO_HEADERS = frozenset({"Accept", "Accept-Encoding", "Content-Type", "User-Agent"})
_LONGEST_HEADER = 100 * 1024  # what httpcore takes for all headers together


def check_backend(backend: object, options: Mapping[str, Any]) -> str:
    """Return the name of a backend that fits the other arguments of a client.

    Raises:
        ValueError: If there is no such backend, or it cannot do what is asked for.
    """
    if backend not in _BACKENDS:
        raise ValueError(f'backend must be "httpx" or "aiohttp", got {backend!r}')
    if backend == "aiohttp":
        if options.get("http2"):
            raise ValueError('http2 must be False with backend="aiohttp", which speaks HTTP/1.1 only')
        if options.get("transport") is not None:
            raise ValueError('backend="aiohttp" brings its own transport; leave one of the two out')
    return str(backend)


def new_transport(package: ModuleType, backend: str, **options: Any) -> Any:
    """Make a transport for a client of a package.

    Raises:
        ImportError: If the backend is not installed.
    """
    if backend == "httpx":
        http2 = bool(options.get("http2"))
        return keeping(package.AsyncHTTPTransport, http2=http2)(**options)
    try:
        module = importlib.import_module(_AIOHTTP[package.__name__])
    except ModuleNotFoundError as missing:
        raise ImportError(
            'backend="aiohttp" needs httpx-aiohttp: pip install "async-resilience[aiohttp]"'
        ) from missing
    return _plain(module.AiohttpTransport, package)(**options)


@functools.cache
def _plain(transport: Any, package: ModuleType) -> type[Any]:
    """Return a class of transports over aiohttp that does nothing but carry requests."""
    namespace = {
        "__module__": transport.__module__,
        "_package": package,
        "_aiohttp": importlib.import_module("aiohttp"),
        "_yarl": importlib.import_module("yarl"),
    }
    return type(transport.__name__, (_Plain, transport), namespace)


class _Plain:
    """Mixed into the ``AiohttpTransport`` of a package."""

    client: Any
    limits: Any
    _package: Any
    _aiohttp: Any
    _yarl: Any

    def get_client(self) -> Any:
        if self.limits.max_connections is None:  # aiohttp says 0; its default is 100
            expiry = self.limits.keepalive_expiry
            self.limits = self._package.Limits(max_connections=0, keepalive_expiry=expiry)
        transport: Any = super()
        session = transport.get_client()
        # Nothing of this can be chosen for a session that somebody else makes.
        session._retry_connection = False  # noqa: SLF001
        session._skip_auto_headers = _AUTO_HEADERS  # noqa: SLF001
        session._max_field_size = _LONGEST_HEADER  # noqa: SLF001
        session._cookie_jar = self._aiohttp.DummyCookieJar()  # noqa: SLF001
        vars(session)["_build_url"] = self._as_written  # set as usual, aiohttp would warn of it
        return session

    def _as_written(self, url: str) -> Any:
        return self._yarl.URL(url, encoded=True).with_user(None)  # httpx has made a header of the userinfo

    async def handle_async_request(self, request: Any) -> Any:
        transport: Any = super()
        if isinstance(request.stream, IN_MEMORY):
            request.read()  # else the request of a redirect, even a GET, would get an empty body in chunks
        try:
            return await transport.handle_async_request(request)
        except self._package.TransportError as error:
            if not isinstance(error.__cause__, self._aiohttp.ClientError):
                raise
            told = self._own_fault(error.__cause__) or self._retold(error, error.__cause__)
            try:
                raise told from told.__cause__
            finally:
                del told
        except self._aiohttp.ClientResponseError:  # whose text has the whole URL
            raise self._package.RemoteProtocolError("The server's answer is not HTTP.") from None

    def _own_fault(self, cause: Any) -> Exception | None:
        """Return what the caller's own body raised, which is no fault of the network."""
        if type(cause) is not self._aiohttp.ClientConnectionError:
            return None
        fault = cause.__cause__
        return fault if isinstance(fault, Exception) else None

    def _retold(self, error: Any, cause: Any) -> Exception:
        """Return an error anew, as the texts of aiohttp's may have the whole URL."""
        kind: type[Any] = cause.__class__
        retold: Exception
        if isinstance(cause, self._aiohttp.ConnectionTimeoutError) and self._is_full():
            # A connection that was being made has left its place by now: then others have taken all.
            retold = self._package.PoolTimeout("no connection became free in time")
        else:
            reason = getattr(cause.__cause__, "strerror", None)
            retold = self._kind_of(error, cause)(f"{kind.__name__}: {reason}" if reason else kind.__name__)
        setattr(retold, AIOHTTP_CAUSE, kind)
        return retold

    def _kind_of(self, error: Any, cause: Any) -> Any:
        """Return the class that httpx has for a failure: httpx-aiohttp calls most a timeout."""
        kind: Any = error.__class__
        if isinstance(cause, self._aiohttp.ClientConnectorError):
            return kind if kind is self._package.ProxyError else self._package.ConnectError
        if isinstance(cause, self._aiohttp.ServerDisconnectedError):
            return self._package.RemoteProtocolError
        return self._package.ReadError if isinstance(cause, self._aiohttp.ClientOSError) else kind

    def _is_full(self) -> bool:
        connector = self.client.connector
        return bool(0 < connector.limit <= len(connector._acquired))  # noqa: SLF001
