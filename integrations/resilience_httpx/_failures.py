"""What the errors of an HTTP library mean: did anything reach the server, and whose fault is it?

The class alone is the wrong question in both directions: a bad URL is an ``httpx.TransportError`` too,
and some faults of the network leave the layers below httpx unmapped. All names of httpx's exceptions that
decide something are in this module.
"""

from __future__ import annotations

import ssl

from resilience import CallTimeoutError, RejectedError
from resilience_httpx._packages import classes, httpx

_HTTP_ERRORS = classes(httpx.HTTPError)
_STATUS_ERRORS = classes(httpx.HTTPStatusError)
_TRANSPORT_ERRORS = classes(httpx.TransportError)

# The caller's own mistakes. They are transport errors by class, but no request left the process.
_LOCAL = (*classes(httpx.UnsupportedProtocol, httpx.LocalProtocolError), RejectedError)

# Nothing was sent. `PoolTimeout` is back-pressure of the own pool and says nothing about the server.
_NOT_CONNECTED = classes(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

_NOT_THE_SERVERS = (*_LOCAL, *classes(httpx.PoolTimeout))

# Layers below httpx whose errors it does not map completely.
_LAYERS_BELOW = frozenset({"aiohttp", "anyio", "h11", "h2", "httpcore", "httpcore2"})

# httpx-aiohttp calls every connection error without a name of its own, a reset included, a
# `ConnectTimeout`; only these of aiohttp's errors mean that there was no connection.
_AIOHTTP_NOT_CONNECTED = frozenset({"ClientConnectorError", "ConnectionTimeoutError"})

AIOHTTP_CAUSE = "aiohttp_cause"
"""Attribute of an error that was told anew: the class of aiohttp's error behind it."""


def is_wire_fault(error: Exception) -> bool:
    """Whether the network or the server failed, so that the server's circuit should know.

    Local faults, an exhausted pool and rejections by other policies are none.
    """
    if isinstance(error, _TRANSPORT_ERRORS):
        return not isinstance(error, _NOT_THE_SERVERS)
    if isinstance(error, _STATUS_ERRORS):
        return bool(error.response.status_code >= 500)
    return isinstance(error, CallTimeoutError) or is_unmapped(error)


def is_unmapped(error: Exception) -> bool:
    """Whether this is a fault of the network that httpx let through as it was."""
    if isinstance(error, (*_HTTP_ERRORS, RejectedError)):
        return False
    if isinstance(error, (ConnectionError, ssl.SSLError)):
        return True
    return _top_package(type(error)) in _LAYERS_BELOW


def never_sent(error: Exception, request: httpx.Request | None) -> bool:
    """Whether nothing of a request reached a server, so that any method may be sent again.

    Args:
        error: What ended the attempt.
        request: The request as the attempt began; a connection that fails after a redirect proves
            nothing about the request before it.
    """
    if not isinstance(error, _NOT_CONNECTED) or isinstance(error, RejectedError):
        return False
    if request_of(error) not in (None, request):
        return False
    cause: type[object] = getattr(error, AIOHTTP_CAUSE, type(error.__cause__))
    if _top_package(cause) != "aiohttp":
        return True
    return any(kind.__name__ in _AIOHTTP_NOT_CONNECTED for kind in cause.__mro__)


def request_of(error: Exception) -> httpx.Request | None:
    """Return the request that failed, which a redirect or an auth flow may have made, if it is known."""
    try:
        return error.request if isinstance(error, _HTTP_ERRORS) else None
    except RuntimeError:  # never attached
        return None


def _top_package(kind: type[object]) -> str:
    return kind.__module__.partition(".")[0]
