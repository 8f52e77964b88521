"""What carries the requests: the transport of httpx itself, or aiohttp.

``backend="aiohttp"`` is several times faster with many connections at once; it speaks HTTP/1.1 only. Both
take the same settings: ``limits``, ``verify``, ``cert``, ``proxy``, ``trust_env``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, TypeAlias

from resilience_httpx._connections import keeping

Backend: TypeAlias = Literal["httpx", "aiohttp"]

_BACKENDS = ("httpx", "aiohttp")
_AIOHTTP = {"httpx": "httpx_aiohttp", "httpx2": "httpx_aiohttp.httpx2"}


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
        return keeping(package.AsyncHTTPTransport)(**options)
    try:
        module = importlib.import_module(_AIOHTTP[package.__name__])
    except ModuleNotFoundError as missing:
        raise ImportError(
            'backend="aiohttp" needs httpx-aiohttp: pip install "async-resilience[aiohttp]"'
        ) from missing
    return module.AiohttpTransport(**options)
