"""httpx and httpx2: one interface, two sets of classes.

Which of them are installed is known here and nowhere else. All other modules use the name ``httpx`` for the
first that is there. Their objects behave alike, but ``isinstance`` and ``except`` do not cross from one to
the other: hence the names below that are classes of both at once, to inherit from, and `classes`, to ask.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


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


def classes(*names: str) -> tuple[type[Any], ...]:
    """Return the classes of some names in every package that is installed."""
    return tuple(getattr(package, name) for package in PACKAGES for name in names)


def _union(name: str) -> type[Any]:
    """Make a class that is a subclass of the one of that name in every package."""
    each = classes(name)
    return each[0] if len(each) == 1 else type(name, each, {"__module__": __name__})


if TYPE_CHECKING:
    import httpx as httpx
    from httpx import AsyncByteStream as AsyncByteStream
    from httpx import Auth as Auth
    from httpx import HTTPStatusError as HTTPStatusError
    from httpx import NetworkError as NetworkError
    from httpx import TimeoutException as TimeoutException
    from httpx import TransportError as TransportError
else:
    httpx = PACKAGES[0]
    AsyncByteStream = _union("AsyncByteStream")
    Auth = _union("Auth")
    HTTPStatusError = _union("HTTPStatusError")
    NetworkError = _union("NetworkError")
    TimeoutException = _union("TimeoutException")
    TransportError = _union("TransportError")
