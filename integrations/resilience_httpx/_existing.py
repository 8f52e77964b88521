"""`resilient`: policies for a client that exists already."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from resilience_httpx._mixin import ResilientMixin
from resilience_httpx._packages import PACKAGES, classes, httpx
from resilience_httpx._policy_options import PolicyOptions, check_options

if TYPE_CHECKING:
    import httpx
    import httpx2

    C = TypeVar("C", httpx.AsyncClient, httpx2.AsyncClient)
else:
    C = TypeVar("C")

_CLIENTS = classes(httpx.AsyncClient)


def resilient(client: C, **options: Unpack[PolicyOptions]) -> C:
    """Put a client that exists already under policies.

    It stays the same object with the same connections, cookies and hooks, so that all who have it, such as
    an SDK that made it, call it under the policies from now on. Requests under way are left alone.

    Args:
        client: An ``httpx.AsyncClient`` or ``httpx2.AsyncClient``, or of a class derived from one.
        **options: The policies: ``retry``, ``rate_limit`` and so on; see `ResilientClient`.

    Returns:
        The client.

    Raises:
        TypeError: If it is no such client, or has policies already, or an argument has the wrong type.
        ValueError: If an argument is out of range, or an endpoint's pattern cannot match.

    Example:
        >>> import httpx
        >>> from resilience import rate_limited
        >>> client = resilient(httpx.AsyncClient(), rate_limit=rate_limited(10))
        >>> isinstance(client, httpx.AsyncClient)
        True
    """
    if not isinstance(client, _CLIENTS):
        raise TypeError(f"client must be an httpx.AsyncClient, got {client!r}")
    if isinstance(client, ResilientMixin):
        raise TypeError("client must be one that has no policies yet; give a ResilientClient its own")
    check_options("resilient", options)
    changed: Any = client
    kind = changed.__class__
    changed.__class__ = _resilient_class(kind)
    try:
        changed._put_under(options)  # noqa: SLF001 - it is ours now
    except BaseException:
        changed.__class__ = kind
        raise
    changed._mend_inherited()  # noqa: SLF001
    return client


@functools.cache
def _resilient_class(kind: Any) -> type[Any]:
    package = next(each for each in PACKAGES if issubclass(kind, each.AsyncClient))
    namespace = {"__module__": kind.__module__, "__doc__": kind.__doc__, "_package": package}
    if kind._merge_url is not package.AsyncClient._merge_url:  # noqa: SLF001 - ours would go past it
        namespace["_merge_url"] = kind._merge_url  # noqa: SLF001
    return type(f"Resilient{kind.__name__}", (ResilientMixin, kind), namespace)
