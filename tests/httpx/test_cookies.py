"""A jar that looks only into responses with cookies keeps every cookie."""

from http.cookiejar import CookieJar
from typing import Any

import httpx
import pytest

from resilience_httpx import ResilientClient, resilient
from resilience_httpx._cookies import sparing


def answering(*headers: tuple[str, str]) -> httpx.MockTransport:
    """Answer each request with the next of some headers, and then with none; note the cookies received."""
    left = list(headers)

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(request.headers.get("cookie"))
        return httpx.Response(200, headers=[left.pop(0)] if left else [])

    received: list[str | None] = []
    transport = httpx.MockTransport(answer)
    transport.received = received  # type: ignore[attr-defined]
    return transport


async def test_cookies_that_are_set_come_back() -> None:
    transport: Any = answering(("Set-Cookie", "a=1"), ("set-cookie", "b=2; Path=/"), ("X-Other", "c=3"))
    client = ResilientClient("https://a.example", transport=transport)
    for _ in range(4):
        await client.get("/")
    assert transport.received == [None, "a=1", "a=1; b=2", "a=1; b=2"]
    assert dict(client.cookies) == {"a": "1", "b": "2"}


async def test_responses_without_cookies_are_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    client = ResilientClient("https://a.example", transport=answering(("X-Other", "c=3")))
    monkeypatch.setattr(client.cookies.jar, "extract_cookies", lambda *_: looked.append(None))
    await client.get("/")
    assert looked == []


async def test_the_jar_of_a_client_that_exists_is_shared() -> None:
    jar = httpx.Cookies({"mine": "1"})
    plain = httpx.AsyncClient(transport=answering(("Set-Cookie", "a=1")), base_url="https://a.example")
    plain._cookies = jar
    client = resilient(plain)
    await client.get("/")
    assert dict(jar) == dict(client.cookies) == {"mine": "1", "a": "1"}
    assert isinstance(client.cookies, httpx.Cookies)


async def test_a_jar_of_another_class_is_left_alone() -> None:
    class Own(httpx.Cookies):
        pass

    own = Own()
    assert sparing(own) is own


async def test_a_cookie_jar_of_the_users_sees_the_same_responses() -> None:
    class Own(CookieJar):
        def extract_cookies(self, response: Any, request: Any) -> None:
            seen.append(request.get_full_url())

    counts: list[int] = []
    for kind in httpx.AsyncClient, ResilientClient:
        seen: list[str] = []
        transport = answering(("X-Other", "c=3"), ("Set-Cookie", "a=1"))
        client = kind(base_url="https://a.example", transport=transport, cookies=Own())
        await client.get("/b")
        await client.get("/b")
        counts.append(len(seen))
    assert counts[0] == counts[1] > 0


async def test_cookies_that_are_replaced_work() -> None:
    transport: Any = answering(("Set-Cookie", "a=1"))
    client = ResilientClient("https://a.example", transport=transport)
    client.cookies = {"b": "2"}  # type: ignore[assignment]
    await client.get("/")
    await client.get("/")
    assert transport.received == ["b=2", "b=2; a=1"]
