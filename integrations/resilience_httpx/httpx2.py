"""`ResilientClient` over httpx2: the same client, for those who use that package.

    from resilience_httpx.httpx2 import ResilientClient

Credentials, errors, policies and everything else in `resilience_httpx` serve both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import httpx2
except ModuleNotFoundError as missing:
    if missing.name != "httpx2":
        raise
    raise ImportError(
        'resilience_httpx.httpx2 needs httpx2: pip install "async-resilience[httpx2]"'
    ) from missing

from resilience_httpx._mixin import ResilientMixin

__all__ = ["ResilientClient"]

if TYPE_CHECKING:

    class _Mixin: ...

else:
    _Mixin = ResilientMixin


class ResilientClient(_Mixin, httpx2.AsyncClient):
    """An ``httpx2.AsyncClient`` that retries, paces, breaks circuits and bounds every call."""

    if TYPE_CHECKING:

        def __init__(self, base_url: httpx2.URL | str = "", **options: Any) -> None: ...
