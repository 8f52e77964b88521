"""The arguments of one request, as ``client.request`` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from resilience_httpx._packages import httpx

if TYPE_CHECKING:
    AsyncClient = httpx.AsyncClient
else:
    AsyncClient = object
"""What a mixin inherits from for type checkers: at run time the client itself comes after it."""

_OF_SEND = ("auth", "follow_redirects")


class RequestOptions(TypedDict, total=False):
    """The arguments of ``httpx.AsyncClient.request`` besides method and URL, all passed on as they are."""

    content: Any
    data: Any
    files: Any
    json: Any
    params: Any
    headers: Any
    cookies: Any
    auth: Any
    follow_redirects: bool
    timeout: Any
    extensions: Any


def build_request(
    client: httpx.AsyncClient, method: str, url: httpx.URL | str, options: Mapping[str, Any]
) -> tuple[httpx.Request, dict[str, Any]]:
    """Make a request, and the arguments that `send` takes with it."""
    building = {name: value for name, value in options.items() if name not in _OF_SEND}
    sending = {name: options[name] for name in _OF_SEND if name in options}
    return client.build_request(method, url, **building), sending
