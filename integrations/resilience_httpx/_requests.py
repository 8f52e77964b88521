"""Copies of a request, so that credentials, hooks and cookies of each attempt start afresh."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from resilience_httpx._added import add_header
from resilience_httpx._packages import classes, httpx

IN_MEMORY = classes(httpx.ByteStream)
"""The bodies that are all there, so that they can be sent any number of times."""


ATTEMPT = "resilience.attempt"
"""Key of ``request.extensions``: the number of the attempt; the first has none."""

CLIENT = "resilience.client"
"""Key of ``request.extensions``: the name of the client, if it was given one."""


class Original:
    """What a request was before it was sent: credentials, hooks and redirects may change it then."""

    __slots__ = ("_extensions", "_headers", "_kind", "_method", "_stream", "_url")

    def __init__(self, request: httpx.Request) -> None:
        self._kind = type(request)
        self._method = request.method
        self._url = request.url
        self._stream: Any = request.stream
        self._headers = request.headers.copy()
        self._extensions = request.extensions.copy()

    def copy(self) -> httpx.Request:
        """Make the request anew."""
        copy = self._kind(
            self._method,
            self._url,
            headers=self._headers,
            stream=self._stream,
            extensions=self._extensions.copy(),
        )
        if isinstance(self._stream, IN_MEMORY):
            copy.read()  # so that hooks and transports find the body as they are used to
        return copy


def fresh_copy(request: httpx.Request) -> httpx.Request:
    """Copy a request; the copy shares nothing that sending may change, its body apart."""
    return Original(request).copy()


def mark_attempt(request: httpx.Request, number: int, header: str | None) -> None:
    """Tell hooks the number of an attempt, unless it is the first, and the server if there is a header."""
    if number > 1:
        request.extensions = {**request.extensions, ATTEMPT: number}
    if header is not None:
        add_header(request, header, str(number))


def cookies_set_by(response: httpx.Response) -> set[tuple[str, str]]:
    """Return the cookies that a response, or a redirect to it, sets or deletes: their hosts and names."""
    return {
        (each.url.host, line.partition("=")[0].strip())
        for each in (*response.history, response)
        for line in each.headers.get_list("set-cookie")
    }


def renew_cookies(request: httpx.Request, told: Collection[tuple[str, str]], jar: httpx.Cookies) -> None:
    """Put cookies that servers have set or deleted into a request as the jar has them now; the others stay.

    Others may be the caller's own, given with this request: they are in no jar, and only the request's own
    host can delete them. One that is set for other hosts or paths replaces none of them.
    """
    probe = type(request)(request.method, request.url)
    jar.set_cookie_header(probe)
    names = {name for _, name in told}
    renewed = [pair for pair in _pairs(probe) if _name(pair) in names]
    held = {cookie.name for cookie in jar.jar}
    deleted = {name for host, name in told if host == request.url.host and name not in held}
    replaced = deleted.union(map(_name, renewed))
    cookies = [pair for pair in _pairs(request) if _name(pair) not in replaced] + renewed
    if cookies:
        request.headers["Cookie"] = "; ".join(cookies)
    else:
        request.headers.pop("Cookie", None)


def _pairs(request: httpx.Request) -> list[str]:
    pairs = request.headers.get("cookie", "").split(";")
    return [pair.strip() for pair in pairs if pair.strip()]


def _name(pair: str) -> str:
    return pair.partition("=")[0]
