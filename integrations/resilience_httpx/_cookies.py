"""A jar of cookies that costs nothing while no server sets any."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

from resilience_httpx._packages import PACKAGES, httpx


def sparing(jar: Any) -> Any:
    """Return a view of the same cookies that looks into those responses alone that set some.

    httpx 0.28 makes the standard library's kind of request and response of each, which takes as long as all
    policies together; httpx2 does not. A jar of any other class is returned as it is: it may
    want to see all of them.
    """
    is_plain = type(jar) in _SPARING and type(jar.jar) is CookieJar
    return _SPARING[type(jar)](jar.jar) if is_plain else jar


class _Sparing:
    """Mixed into the ``Cookies`` of httpx."""

    def extract_cookies(self, response: httpx.Response) -> None:
        if "set-cookie" in response.headers or "set-cookie2" in response.headers:
            jar: Any = super()
            jar.extract_cookies(response)


_SPARING: dict[type[Any], Any] = {
    each.Cookies: type("Cookies", (_Sparing, each.Cookies), {"__module__": __name__})
    for each in PACKAGES
    if each.__name__ == "httpx"
}
