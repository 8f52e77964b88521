"""What must not follow a redirect to another origin; httpx itself drops ``Authorization`` alone."""

from __future__ import annotations

from resilience_httpx._added import headers_added_to
from resilience_httpx._origins import origin_of
from resilience_httpx._packages import httpx, package_of
from resilience_httpx._redaction import sounds_secret


def drop_secrets(headers: httpx.Headers, request: httpx.Request, url: httpx.URL) -> None:
    """Take out of the headers of a redirected request what is not for where it leads.

    Args:
        headers: The headers.
        request: The request that was redirected.
        url: Where to.
    """
    if origin_of(url) == origin_of(request.url):
        return
    added, keeps_own = headers_added_to(request), _is_upgrade(request.url, url)
    for name in [*headers]:
        if name in added or (sounds_secret(name) and not keeps_own):
            del headers[name]


def drop_free_cookies(redirected: httpx.Request, response: httpx.Response, jar: httpx.Cookies) -> None:
    """Take out of a redirected request the cookies without a domain, which httpx sends to any host."""
    first = response.history[0] if response.history else response
    if "cookie" not in redirected.headers or origin_of(redirected.url) == origin_of(first.request.url):
        return
    bound = package_of(redirected).Cookies()
    for cookie in jar.jar:
        if cookie.domain:
            bound.jar.set_cookie(cookie)
    del redirected.headers["Cookie"]
    bound.set_cookie_header(redirected)


def refuse_downgrade(redirected: httpx.Request, response: httpx.Response) -> None:
    """Raise an error if a redirect leads out of https.

    Raises:
        httpx.UnsupportedProtocol: If it does; it is never retried and says nothing about a server.
    """
    if (response.request.url.scheme, redirected.url.scheme) == ("https", "http"):
        raise package_of(redirected).UnsupportedProtocol(
            "a redirect from https to http is not followed", request=response.request
        )


def _is_upgrade(start: httpx.URL, end: httpx.URL) -> bool:
    """Whether a redirect leads to https on the same host: httpx keeps the caller's credentials there."""
    is_same_host = start.host == end.host and start.port is end.port is None
    return is_same_host and (start.scheme, end.scheme) == ("http", "https")
