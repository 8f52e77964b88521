"""Whose limits a request falls under: what the limits that servers tell of are kept by."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from typing import cast

from resilience._by_identity import ByIdentity
from resilience_httpx._added import headers_added_to
from resilience_httpx._auth import OriginAuth
from resilience_httpx._call import current
from resilience_httpx._packages import httpx

# Not all that sounds like a secret: signatures and idempotency keys are others each time.
_CREDENTIALS = (
    "authorization",
    "api-key",
    "apikey",
    "x-api-key",
    "x-auth-token",
    "x-access-token",
    "private-token",
)


def route_of(request: httpx.Request) -> str:
    """Return what requests that have the same quotas have in common: their method and where they go."""
    call = current.get(None)
    below = request.url.path.removeprefix("" if call is None else call.base_path)
    return f"{request.method} {below.strip('/').partition('/')[0]}"


_identities: ByIdentity[str] = ByIdentity(lambda _: uuid.uuid4().hex)


def credentials_of(request: httpx.Request) -> str:
    """Return what tells the credentials of a request from others, without telling them."""
    call = current.get(None)
    auth = None if call is None else call.auth
    added = () if auth is None else _headers_added_by(auth, request)
    names = [name for name in _CREDENTIALS if name in request.headers and name not in added]
    shown = [f"{name}:{request.headers[name]}" for name in names]
    shown.append(request.url.userinfo.decode("ascii"))
    if isinstance(auth, tuple):
        shown.append(repr(cast("tuple[object, ...]", auth)))
    elif auth is not None:
        with suppress(TypeError):  # nothing tells such an object from others
            shown.append(_identities.of(auth))
    if shown == [""]:
        return ""
    return hashlib.sha256("\n".join(shown).encode("utf-8", "surrogatepass")).hexdigest()


def _headers_added_by(auth: object, request: httpx.Request) -> list[str]:
    """Return the headers that an earlier call with the same request has left in it."""
    ours = [*headers_added_to(request)]
    return ours if isinstance(auth, OriginAuth) else [*ours, "authorization"]
