"""httpx and httpx2: one interface, two sets of classes.

Which of them are installed is known here and nowhere else. All other modules use the name ``httpx`` for the
first that is there. Their objects behave alike, but ``isinstance`` and ``except`` do not cross from one to
the other: hence the names below that are classes of both at once, to inherit from, and `classes`, to ask.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar


def _installed() -> tuple[ModuleType, ...]:
    found: list[ModuleType] = []
    for name in ("httpx", "httpx2"):
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError as missing:
            if missing.name != name:
                raise
    if not found:
        raise ImportError('resilience_httpx needs httpx or httpx2: pip install "async-resilience[httpx]"')
    return tuple(found)


PACKAGES = _installed()

T = TypeVar("T")


def classes(*kinds: type[T]) -> tuple[type[T], ...]:
    """Return some classes of ``httpx`` as every package that is installed has them."""
    return tuple(getattr(package, kind.__name__) for package in PACKAGES for kind in kinds)


def package_of(request: httpx.Request) -> ModuleType:
    """Return the package that a request is of."""
    return next(each for each in PACKAGES if isinstance(request, each.Request))


USE_CLIENT_DEFAULT: Any = PACKAGES[0].USE_CLIENT_DEFAULT


def response_class(request: httpx.Request) -> type[httpx.Response]:
    """Return the class of responses in the package that a request is of."""
    found: type[httpx.Response] = package_of(request).Response
    return found


def is_default(value: object) -> bool:
    """Whether a value stands for the client's own setting."""
    return any(value is package.USE_CLIENT_DEFAULT for package in PACKAGES)


def _union(name: str) -> type[Any]:
    """Make a class that is a subclass of the one of that name in every package."""
    each = tuple(getattr(package, name) for package in PACKAGES)
    return each[0] if len(each) == 1 else type(name, each, {"__module__": __name__})


if TYPE_CHECKING:
    import httpx as httpx
    from httpx import AsyncBaseTransport as AsyncBaseTransport
    from httpx import AsyncByteStream as AsyncByteStream
    from httpx import Auth as Auth
    from httpx import HTTPStatusError as HTTPStatusError
    from httpx import NetworkError as NetworkError
    from httpx import RequestError as RequestError
    from httpx import TimeoutException as TimeoutException
    from httpx import TransportError as TransportError
    from httpx import UnsupportedProtocol as UnsupportedProtocol
else:
    httpx = PACKAGES[0]
    AsyncBaseTransport = _union("AsyncBaseTransport")
    AsyncByteStream = _union("AsyncByteStream")
    Auth = _union("Auth")
    HTTPStatusError = _union("HTTPStatusError")
    NetworkError = _union("NetworkError")
    RequestError = _union("RequestError")
    TimeoutException = _union("TimeoutException")
    TransportError = _union("TransportError")
    UnsupportedProtocol = _union("UnsupportedProtocol")
