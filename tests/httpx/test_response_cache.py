"""The response cache: freshness in virtual time, what the server receives against a real one."""

import asyncio
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from time import time as wall_clock
from typing import Any

import httpx
import pytest

from resilience import (
    CacheEntry,
    CallTimeoutError,
    CircuitBreakerOpenError,
    Event,
    circuit_breaker,
    rate_limited,
    retry,
)
from resilience_httpx import (
    APIKeyAuth,
    AuthProvider,
    BasicAuth,
    BearerAuth,
    ResilientClient,
    ResilientTransport,
    ResponseCache,
    ServerError,
    add_request_id,
)
from tests.support.http_server import http_server, never, redirect, reply
from tests.support.virtual_time import advance, now, settle

Headers = dict[str, str]


class Site:
    """Answers requests from a function of their number, and keeps them."""

    def __init__(self, *answers: Any, **headers: str) -> None:
        self.answers = list(answers)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.requests: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.url.path}" for each in self.requests]

    async def __call__(self, request: Any) -> Any:
        self.requests.append(request)
        number = len(self.requests)
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        if isinstance(answer, dict):
            return httpx.Response(200, headers=answer, text=f"no {number}")
        if isinstance(answer, tuple):
            return httpx.Response(
                answer[0], headers=answer[1], text="" if answer[0] == 304 else f"no {number}"
            )
        return httpx.Response(answer, headers=self.headers, text=f"no {number}")


def client(site: Any, cache: ResponseCache | None = None, **options: Any) -> Any:
    defaults = {"retry": None, "circuit_breaker": None, "cache": cache or ResponseCache()}
    return ResilientClient("https://h", transport=httpx.MockTransport(site), **{**defaults, **options})


def origin(response: Any) -> str | None:
    return response.extensions.get("resilience.cache")


async def texts(calls: Any, *paths: str, **options: Any) -> list[str]:
    return [(await calls.get(path, **options)).text for path in paths]


# --- Freshness --------------------------------------------------------------------------------------


async def test_h6_3_a_response_is_kept_for_as_long_as_it_is_fresh() -> None:
    site = Site(cache_control="max-age=60", content_type="text/plain; charset=utf-8", x="y")
    async with client(site) as calls:
        first = await calls.get("/a")
        assert origin(first) is None
        advance(59)
        second = await calls.get("/a")
        assert (second.text, second.status_code, second.reason_phrase) == ("no 1", 200, "OK")
        assert second.headers["age"] == "59"
        assert second.headers["x"] == "y"
        assert origin(second) == "hit"
        assert second.request.url.path == "/a"
        assert second.elapsed.total_seconds() == 0
        assert second.is_closed
        assert second.http_version == "HTTP/1.1"
        advance(1)
        assert (await calls.get("/a")).text == "no 3"[:3] + "2"
        info = calls.cache.info()
        assert (info.hits, info.misses, info.size) == (1, 2, 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Cache-Control": "max-age=10"}, 10),
        ({"Cache-Control": "MAX-AGE = 10 , public"}, 10),
        ({"Cache-Control": 'max-age="10"'}, 10),
        ({"Cache-Control": 'x="no-store, max-age=1", max-age=10'}, 10),
        ({"Cache-Control": "max-age=10, max-age=20"}, 10),
        ({"Cache-Control": "max-age=10, s-maxage=5"}, 5),
        ({"Cache-Control": "s-maxage=0, max-age=10"}, 0),
        ({"Cache-Control": "max-age=10", "Age": "4"}, 6),
        ({"Cache-Control": "max-age=10", "Age": "4, 5"}, 6),
        ({"Cache-Control": "max-age=10", "Age": "x"}, 10),
        ({"Cache-Control": "max-age=10", "Age": "99999999999999999999"}, 0),
        ({"Cache-Control": "max-age=10", "Expires": "0"}, 10),
        ({"Cache-Control": "max-age=99999999999999999999"}, 2**31),
        ({"Cache-Control": "max-age=-1"}, 0),
        ({"Cache-Control": "max-age=1.5"}, 0),
        ({b"Cache-Control": "max-age=\u00b2".encode("latin-1")}, 0),
        ({"Cache-Control": "max-age"}, 0),
        ({"Cache-Control": "max-age=10, no-store"}, 0),
        ({"Cache-Control": "max-age=10, private"}, 0),
        ({"Cache-Control": 'max-age=10, private="x-user"'}, 0),
        ({"Cache-Control": "max-age=10, no-cache"}, 0),
        ({"Cache-Control": "max-age=10", "Set-Cookie": "a=b; Path=/elsewhere"}, 0),
        ({"Cache-Control": "max-age=10", "Vary": "*"}, 0),
        ({"Cache-Control": "max-age=10", "Vary": "Accept, *"}, 0),
        ({"Cache-Control": "public"}, 0),
        ({"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({}, 0),
        ({"Expires": "Sun, 06 Nov 1994 08:50:37 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({"Expires": "0"}, 0),
        ({"Expires": "Sun, 06 Nov 99999 08:50:37 GMT"}, 0),
    ],
)
async def test_h6_3_freshness(headers: Any, seconds: float) -> None:
    site = Site(headers)
    async with client(site) as calls:
        await calls.get("/a")
        if seconds:
            advance(seconds - 0.5)
            await calls.get("/a")
            assert len(site.requests) == 1
        advance(0.6)
        await calls.get("/a")
        assert len(site.requests) == 2


@pytest.mark.parametrize(
    ("date", "expires", "seconds"),
    [(0, 60, 60), (-20, 60, 60), (-20, -21, 0), (None, 60, 60), (100, 160, 60)],
)
async def test_h6_3_expires_and_the_age_by_date(date: int | None, expires: int, seconds: int) -> None:
    moment = wall_clock()
    headers = {"Expires": formatdate(moment + expires, usegmt=True)}
    if date is not None:
        headers["Date"] = formatdate(moment + date, usegmt=True)
    async with client(site := Site(headers)) as calls:
        await calls.get("/a")
        if seconds:
            advance(seconds - 3)  # whole seconds, and the clock of the wall goes on
            await calls.get("/a")
            assert len(site.requests) == 1
        advance(4)
        await calls.get("/a")
        assert len(site.requests) == 2


async def test_an_asctime_date_is_in_gmt() -> None:
    asctime = "Sun Nov  6 08:49:37 1994"
    headers = {"Date": asctime, "Cache-Control": f"max-age={int(wall_clock()) - 784111777 + 50}"}
    async with client(site := Site(headers)) as calls:
        await texts(calls, "/a", "/a")
        assert len(site.requests) == 1
        advance(60)
        await texts(calls, "/a")
        assert len(site.requests) == 2


@pytest.mark.parametrize(
    ("asked", "requests"),
    [
        ({}, 1),
        ({"Cache-Control": "max-age=20"}, 1),
        ({"Cache-Control": "max-age=10"}, 1),
        ({"Cache-Control": "max-age=9"}, 2),
        ({"Cache-Control": "max-age=x"}, 2),
        ({"Cache-Control": "min-fresh=49"}, 1),
        ({"Cache-Control": "min-fresh=50"}, 2),
        ({"Cache-Control": "min-fresh"}, 2),
        ({"Cache-Control": "no-cache"}, 2),
        ({"Cache-Control": "no-store"}, 2),
        ({"Pragma": "no-cache"}, 2),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=20"}, 1),
        ({"Range": "bytes=0-1"}, 2),
        ({"If-None-Match": '"a"'}, 2),
        ({"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 2),
    ],
)
async def test_h6_3_what_the_request_asks_for(asked: Headers, requests: int) -> None:
    async with client(site := Site(cache_control="max-age=60")) as calls:
        await calls.get("/a")
        advance(10)
        await calls.get("/a", headers=asked)
        assert len(site.requests) == requests
        if "no-store" in asked.get("Cache-Control", "") or "Range" in asked:
            assert (await calls.get("/a")).text == "no 1"  # what was kept stays as it is


# --- What is kept at all ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 206, 301, 304, 308, 400, 404, 410, 429, 500, 501, 503])
async def test_h6_3_other_statuses_are_not_kept(status: int) -> None:
    async with client(site := Site(status, cache_control="max-age=60", etag='"a"')) as calls:
        assert (await calls.get("/a")).status_code == status
        assert (await calls.get("/a")).status_code == 200
        assert len(site.requests) == 2
        assert "if-none-match" not in site.requests[1].headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
async def test_h6_3_only_get_and_head_are_kept(method: str) -> None:
    async with client(site := Site(cache_control="max-age=60")) as calls:
        await calls.request(method, "/a")
        await calls.request(method, "/a")
        assert len(site.requests) == 2


async def test_get_and_head_are_kept_apart() -> None:
    async with client(site := Site(cache_control="max-age=60", content_length="7")) as calls:
        for _ in range(2):
            assert (await calls.get("/a")).text == "no 1"
            head = await calls.head("/a")
            assert head.headers["content-length"] == "7"
        assert site.lines == ["GET /a", "HEAD /a"]


async def test_a_get_with_a_body_and_a_streamed_one_pass_by() -> None:
    async with client(site := Site(cache_control="max-age=60")) as calls:
        await calls.get("/a")
        await calls.request("GET", "/a", content=b"x")
        async with calls.stream("GET", "/a") as response:
            assert await response.aread() == b"no 3"
        assert len(site.requests) == 3
        assert (await calls.get("/a")).text == "no 1"


async def test_one_call_without_the_cache() -> None:
    async with client(site := Site(cache_control="max-age=60")) as calls:
        await calls.get("/a")
        await calls.get("/a", extensions={"cache": None})
        assert len(site.requests) == 2
        with pytest.raises(TypeError, match="cache must be a ResponseCache or None, got True"):
            await calls.get("/a", extensions={"cache": True})


async def test_without_a_cache_nothing_is_kept() -> None:
    site = Site(cache_control="max-age=60")
    async with ResilientClient("https://h", transport=httpx.MockTransport(site)) as calls:
        assert await texts(calls, "/a", "/a") == ["no 1", "no 2"]
        assert calls.cache is None


async def test_h6_3_size_caps() -> None:
    def answer(request: Any) -> Any:
        asked.append(request.url.path)
        size = int(request.url.path[1:])
        return httpx.Response(200, headers={"Cache-Control": "max-age=60"}, content=b"x" * size)

    asked: list[str] = []
    cache = ResponseCache(max_entry_size=5000, max_size=10_000)
    async with client(answer, cache) as calls:
        await texts(calls, "/6000", "/6000")  # larger than one may be
        assert asked == ["/6000"] * 2
        asked.clear()
        await texts(calls, "/4000", "/4001", "/4000", "/4002", "/4000", "/4001")
        assert asked == ["/4000", "/4001", "/4002", "/4001"]  # the least recently used goes first
        assert cache.info().evictions == 2
        assert cache.info().size == 2
        asked.clear()
        await texts(calls, *[f"/0?{number}" for number in range(100)])
        assert 2 <= (cache.info().size or 0) <= 20  # empty ones take room, too


async def test_h6_3_the_key_is_method_and_normalised_url() -> None:
    async with client(site := Site(cache_control="max-age=60")) as calls:
        same = ["/a%7eb?q=%c3%a9", "https://H:443/a~b?q=%C3%A9", "https://h/a~b?q=%C3%A9#part"]
        assert await texts(calls, *same) == ["no 1"] * 3
        others = ["/a~b", "/a~b?q=e", "/a~B?q=%C3%A9", "http://h/a~b?q=%C3%A9", "https://h:8/a~b?q=%C3%A9"]
        await texts(calls, *others)
        assert len(site.requests) == 6


async def test_h6_3_hosts_at_one_address_are_told_apart() -> None:
    async with client(site := Site(cache_control="max-age=60")) as calls:
        hosts = ["a.example", "b.example", "a.example"]
        answers = [(await calls.get("/", headers={"Host": host})).text for host in hosts]
        assert answers == ["no 1", "no 2", "no 1"]
        assert len(site.requests) == 2


async def test_the_response_is_each_callers_own() -> None:
    async with client(Site(cache_control="max-age=60", content_type="application/json")) as calls:
        await calls.get("/a")
        second, third = await calls.get("/a"), await calls.get("/a")
        second.headers["x"] = "changed"
        assert second is not third
        assert "x" not in third.headers
        assert [line async for line in third.aiter_lines()] == ["no 1"]


# --- Revalidation -----------------------------------------------------------------------------------

FRESH = {"Cache-Control": "max-age=10"}


async def test_h6_3_an_expired_response_is_confirmed_by_its_validators() -> None:
    first = {
        **FRESH,
        "ETag": '"v1"',
        "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
        "X": "old",
        "Y": "y",
    }
    fresh = {"Cache-Control": "max-age=100", "X": "new", "Content-Length": "0", "Content-Type": "a/b"}
    async with client(site := Site(first, (304, fresh))) as calls:
        await calls.get("/a")
        advance(11)
        response = await calls.get("/a")
        assert site.requests[1].headers["if-none-match"] == '"v1"'
        assert site.requests[1].headers["if-modified-since"] == first["Last-Modified"]
        assert (response.status_code, response.text, origin(response)) == (200, "no 1", "revalidated")
        assert response.headers["x"] == "new"
        assert response.headers["y"] == "y"
        assert response.headers["content-length"] == "4"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert response.headers.get_list("age") == ["0"]
        advance(99)
        assert origin(await calls.get("/a")) == "hit"
        advance(2)
        assert (await calls.get("/a")).text == "no 3"
        assert len(site.requests) == 3


async def test_h6_3_no_cache_and_zero_age_ask_each_time() -> None:
    told = {"Cache-Control": "no-cache", "ETag": 'W/"v1"'}
    async with client(site := Site(told, (304, {}), (304, {"ETag": '"v1"'}))) as calls:
        assert await texts(calls, "/a", "/a", "/a") == ["no 1"] * 3
        assert [each.headers.get("if-none-match") for each in site.requests] == [None, 'W/"v1"', 'W/"v1"']


async def test_a_new_response_replaces_the_old_one() -> None:
    async with client(site := Site({**FRESH, "ETag": '"v1"'}, {**FRESH, "ETag": '"v2"'})) as calls:
        await calls.get("/a")
        advance(11)
        assert await texts(calls, "/a", "/a") == ["no 2"] * 2
        advance(11)
        await calls.get("/a")
        assert site.requests[-1].headers["if-none-match"] == '"v2"'


async def test_a_304_about_another_response_is_not_believed() -> None:
    async with client(site := Site({**FRESH, "ETag": '"v1"'}, (304, {"ETag": '"v2"'}), FRESH)) as calls:
        await calls.get("/a")
        advance(11)
        assert (await calls.get("/a")).text == "no 3"
        assert "if-none-match" not in site.requests[2].headers


@pytest.mark.parametrize(
    "told", [{"Cache-Control": "no-store"}, {"Cache-Control": "private"}, {"Vary": "*"}], ids=str
)
async def test_a_304_may_forbid_to_keep_it_on(told: Headers) -> None:
    site = Site({**FRESH, "ETag": '"v1"'}, (304, told))
    async with client(site) as calls:
        await calls.get("/a")
        advance(11)
        assert (await calls.get("/a")).text == "no 1"
        assert (await calls.get("/a")).text == "no 3"
        assert "if-none-match" not in site.requests[2].headers


@pytest.mark.parametrize("answer", [404, 204, (200, {"Cache-Control": "no-store"})])
async def test_what_is_gone_is_not_confirmed_later(answer: Any) -> None:
    async with client(site := Site({**FRESH, "ETag": '"v1"'}, answer)) as calls:
        await calls.get("/a")
        advance(11)
        await calls.get("/a")
        await calls.get("/a")
        assert "if-none-match" not in site.requests[2].headers


async def test_the_callers_request_is_not_changed_by_a_confirmation() -> None:
    async with client(Site({**FRESH, "ETag": '"v1"'}, (304, {}))) as calls:
        await calls.get("/a")
        advance(11)
        response = await calls.get("/a")
        assert "if-none-match" not in response.request.headers


async def test_on_a_miss_the_callers_own_request_is_sent() -> None:
    async with client(site := Site(FRESH)) as calls:
        request = calls.build_request("GET", "/a")
        response = await calls.send(request)
        assert site.requests == [request]
        assert response.request is request


# --- Stale ------------------------------------------------------------------------------------------


async def test_h6_3_stale_while_revalidate(events: list[Event]) -> None:
    told = {"Cache-Control": "max-age=10, stale-while-revalidate=20"}
    async with client(site := Site(told, told)) as calls:
        await calls.get("/a")
        advance(29)
        site.gate.clear()
        stale = [await calls.get("/a") for _ in range(3)]
        assert [each.text for each in stale] == ["no 1"] * 3
        assert [origin(each) for each in stale] == ["stale"] * 3
        assert stale[0].headers["age"] == "29"
        await settle()
        assert len(site.requests) == 2  # one refresh for all
        assert site.requests[1] is not stale[0].request
        site.gate.set()
        await settle()
        assert (await calls.get("/a")).text == "no 2"
        advance(31)
        assert (await calls.get("/a")).text == "no 3"
    kinds = [each.kind for each in events if each.policy == "cache"]
    assert kinds == ["cache.miss", *["cache.stale"] * 3, "cache.hit", "cache.miss"]


@pytest.mark.parametrize("failure", [httpx.ConnectError("x"), 500, (503, {"Cache-Control": "no-store"})])
async def test_a_refresh_that_fails_is_told_and_keeps_what_is_there(
    failure: Any, events: list[Event]
) -> None:
    told = {"Cache-Control": "max-age=10, stale-while-revalidate=50"}
    async with client(site := Site(told, failure)) as calls:
        await calls.get("/a")
        advance(20)
        await calls.get("/a")
        await settle()
        assert "cache.refresh_failed" in [each.kind for each in events]
        assert (await calls.get("/a")).text == "no 1"
        await settle()
        assert len(site.requests) == 3


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), 500, 502, 503, 504, RuntimeError("bug")]
)
@pytest.mark.parametrize("raises", [True, False])
async def test_h6_3_stale_if_error(failure: Any, raises: bool, events: list[Event]) -> None:
    told = {"Cache-Control": "max-age=10, stale-if-error=20"}
    async with client(Site(told, failure, failure), raise_for_status=raises) as calls:
        await calls.get("/a")
        advance(29)
        response = await calls.get("/a")
        assert (response.text, origin(response)) == ("no 1", "stale")
        assert events[-1].attributes == {"reason": "error"}
        advance(2)
        if isinstance(failure, int) and not raises:
            assert (await calls.get("/a")).status_code == failure
        else:
            with pytest.raises((httpx.HTTPError, RuntimeError)):
                await calls.get("/a")


@pytest.mark.parametrize(
    ("told", "asked", "status"),
    [
        ("max-age=10", {}, 200),
        ("max-age=10", {"Cache-Control": "no-cache"}, 503),
        ("max-age=10", {"Cache-Control": "max-age=5"}, 503),
        ("max-age=10, stale-if-error=1", {}, 503),
        ("max-age=10, stale-if-error=x", {}, 503),
        ("max-age=10, must-revalidate", {}, 503),
        ("max-age=10, proxy-revalidate", {}, 503),
        ("s-maxage=10", {}, 503),
        ("no-cache", {}, 503),
    ],
)
async def test_h6_3_stale_if_error_of_the_cache(told: str, asked: Headers, status: int) -> None:
    cache = ResponseCache(stale_if_error=60)
    async with client(Site({"Cache-Control": told, "ETag": '"a"'}, 503), cache) as calls:
        await calls.get("/a")
        advance(20)
        assert (await calls.get("/a", headers=asked)).status_code == status


async def test_h6_3_in_a_partition_s_maxage_says_nothing() -> None:
    told = {"Cache-Control": "max-age=10, s-maxage=5, proxy-revalidate"}
    cache = ResponseCache(credentials=True, stale_if_error=60)
    async with client(Site(told, 503), cache, auth=BearerAuth("a")) as calls:
        await calls.get("/a")
        advance(9)
        assert origin(await calls.get("/a")) == "hit"
        advance(9)
        assert origin(await calls.get("/a")) == "stale"


async def test_what_was_invalidated_meanwhile_is_no_stand_in() -> None:
    async with client(site := Site(FRESH, 503), ResponseCache(stale_if_error=60)) as calls:
        await calls.get("/a")
        advance(20)
        site.gate.clear()
        reading = asyncio.create_task(calls.get("/a"))
        await settle()
        calls.cache.invalidate("https://h/a")
        site.gate.set()
        assert (await reading).status_code == 503


async def test_stale_if_the_server_never_answers() -> None:
    site = Site(FRESH)
    async with client(
        site, ResponseCache(stale_if_error=60), total_timeout=5, attempt_timeout=None
    ) as calls:
        await calls.get("/a")
        advance(20)
        site.gate.clear()
        before = now()
        response = await calls.get("/a")
        assert (response.text, now() - before) == ("no 1", 5)
        with pytest.raises(CallTimeoutError):
            await calls.get("/b")


async def test_what_errors_tell_of_the_exchange() -> None:
    site = Site(httpx.ConnectError("x"))
    options = {"retry": retry(attempts=3, wait=4), "total_timeout": 5, "raise_for_status": True}
    async with client(site, attempt_timeout=None, **options) as calls:
        waiting = asyncio.create_task(calls.get("/a"))
        await settle()
        site.gate.clear()
        with pytest.raises(CallTimeoutError) as timed_out:
            await waiting
        assert isinstance(timed_out.value.__cause__, httpx.ConnectError)
    async with client(Site(503, 503, 503), **{**options, "retry": retry(attempts=3, wait=0)}) as calls:
        with pytest.raises(ServerError) as caught:
            await calls.get("/a")
        assert caught.value.details["attempts"] == 3


async def test_each_caller_has_a_time_limit_of_his_own() -> None:
    site = Site()
    async with client(site, total_timeout=100, attempt_timeout=None) as calls:
        site.gate.clear()
        leader = asyncio.create_task(calls.get("/a"))
        await settle()
        before = now()
        with pytest.raises(CallTimeoutError):
            await calls.get("/a", extensions={"total_timeout": 2})
        assert now() - before == 2
        site.gate.set()
        assert (await leader).text == "no 1"


async def test_a_refresh_has_a_time_limit_too(events: list[Event]) -> None:
    told = {"Cache-Control": "max-age=10, stale-while-revalidate=500"}
    async with client(site := Site(told), total_timeout=5, attempt_timeout=None) as calls:
        await calls.get("/a")
        advance(20)
        site.gate.clear()
        assert origin(await calls.get("/a")) == "stale"
        await asyncio.sleep(6)
        assert events[-1].kind == "cache.refresh_failed"
        assert events[-1].attributes == {"error": "CallTimeoutError"}
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_h6_3_errors_of_policies_are_not_kept_and_a_hit_passes_none() -> None:
    breaker, limit = circuit_breaker(), rate_limited(1, per=1000, max_wait=0)
    site = Site(cache_control="max-age=60")
    async with client(site, rate_limit=limit, circuit_breaker=breaker, retry=retry(wait=0)) as calls:
        assert (await calls.get("/a")).text == "no 1"
        breaker.force_open()
        assert await texts(calls, "/a", "/a") == ["no 1"] * 2
        with pytest.raises(CircuitBreakerOpenError):
            await calls.get("/b")
        breaker.reset()
        advance(1000)
        assert (await calls.get("/b")).text == "no 2"


async def test_a_miss_passes_all_of_them() -> None:
    async with client(Site(503, 503, FRESH), retry=retry(attempts=3, wait=0)) as calls:
        assert await texts(calls, "/a", "/a") == ["no 3"] * 2


async def test_an_error_status_that_is_raised_is_raised() -> None:
    async with client(Site(500, 404), raise_for_status=True) as calls:
        with pytest.raises(ServerError):
            await calls.get("/a")
        with pytest.raises(httpx.HTTPStatusError):
            await calls.get("/a")


@pytest.mark.parametrize("encoding", ["latin-1", lambda _: "latin-1"], ids=["name", "function"])
async def test_each_client_reads_a_stored_text_in_its_own_default_encoding(encoding: Any) -> None:
    async def answer(request: Any) -> Any:
        await asyncio.sleep(1)
        headers = {**FRESH, "ETag": '"1"', "Content-Type": "text/plain"}
        return httpx.Response(
            304 if request.headers.get("if-none-match") else 200, headers=headers, content=b"\xe9"
        )

    cache = ResponseCache()
    async with client(answer, cache, default_encoding=encoding) as calls, client(answer, cache) as others:
        first, together = await asyncio.gather(calls.get("/a"), calls.get("/a"))
        hit = await calls.get("/a")
        advance(20)
        confirmed = await calls.get("/a")
        assert [origin(each) for each in (first, together, hit, confirmed)] == [
            None,
            "shared",
            "hit",
            "revalidated",
        ]
        assert [each.text for each in (first, together, hit, confirmed)] == ["\xe9"] * 4
        assert (await others.get("/a")).text == "\ufffd"


# --- Vary -------------------------------------------------------------------------------------------


async def test_h6_3_vary() -> None:
    def answer(request: Any) -> Any:
        asked.append(request.headers.get("accept-language"))
        headers = {"Cache-Control": "max-age=60", "Vary": "Accept-Language, ACCEPT"}
        return httpx.Response(200, headers=headers, text=str(asked[-1]))

    asked: list[str | None] = []
    async with client(answer) as calls:
        for _ in range(2):
            for language in ["de", "en", "de, en"]:
                response = await calls.get("/a", headers={"Accept-Language": language})
                assert response.text == language
            assert (await calls.get("/a")).text == "None"
        assert asked == ["de", "en", "de, en", None]
        spaced = {"Accept-Language": "de,en"}
        assert (await calls.get("/a", headers=spaced)).text == "de, en"  # white space does not count
        await calls.get("/a", headers={"Accept": "a/b", "Accept-Language": "de"})
        assert len(asked) == 5
        calls.cache.invalidate("https://h/a")
        await calls.get("/a", headers={"Accept-Language": "en"})
        assert len(asked) == 6


async def test_h6_3_concurrent_misses_that_vary_get_each_their_own() -> None:
    async def answer(request: Any) -> Any:
        asked.append(request.headers["accept"])
        await asyncio.sleep(1)
        return httpx.Response(200, headers={**FRESH, "Vary": "Accept"}, text=asked[-1])

    asked: list[str] = []
    async with client(answer) as calls:
        kinds = ["a/a", "b/b", "a/a", "b/b"]
        responses = await asyncio.gather(*[calls.get("/a", headers={"Accept": kind}) for kind in kinds])
    assert [each.request.headers["accept"] for each in responses] == kinds
    assert [each.text for each in responses] == kinds


# --- Credentials ------------------------------------------------------------------------------------


def whoami(request: Any) -> Any:
    names = ["authorization", "cookie", "x-api-key"]
    told = " ".join(filter(None, (request.headers.get(name) for name in names)))
    return httpx.Response(200, headers={"Cache-Control": "private, max-age=60"}, text=told)


SHOWN: list[dict[str, Any]] = [
    {"headers": {"Authorization": "Bearer alice"}},
    {"headers": {"Cookie": "session=alice"}},
    {"headers": {"X-API-Key": "alice"}},
    {"auth": ("alice", "secret")},
    {"auth": BearerAuth("alice")},
    {"auth": APIKeyAuth("alice")},
]


@pytest.mark.parametrize("options", SHOWN, ids=str)
async def test_h6_3_nothing_with_credentials_is_kept_unless_asked_for(options: Any) -> None:
    site = Site(cache_control="public, max-age=60")
    async with client(site) as calls:
        assert await texts(calls, "/a", "/a", **options) == ["no 1", "no 2"]
        assert (await calls.get("/a")).text == "no 3"
        assert calls.cache.info().size == 1


@pytest.mark.parametrize("options", SHOWN, ids=str)
async def test_h6_3_each_credential_has_its_own_partition(options: Any) -> None:
    cache = ResponseCache(credentials=True)
    site = Site(*[{"Cache-Control": "private, max-age=60, s-maxage=0"}] * 9)
    async with client(site, cache) as calls:
        assert await texts(calls, "/a", "/a", **options) == ["no 1"] * 2
        for other in [each for each in SHOWN if each is not options]:
            assert (await calls.get("/a", **other)).text != "no 1"
        assert (await calls.get("/a")).text == f"no {len(SHOWN) + 1}"
        assert (await calls.get("/a")).text == f"no {len(SHOWN) + 2}"  # private to nobody is not kept


async def test_t43_credentials_are_not_run_together() -> None:
    async with client(site := Site(FRESH, FRESH), ResponseCache(credentials=True)) as calls:
        await calls.get("/a", headers={"X-Token": "a", "X-Secret": "b"})
        await calls.get("/a", headers={"X-Token": "ax-secret:b"})
        assert len(site.requests) == 2


async def test_h6_3_alice_is_not_served_to_bob() -> None:
    cache = ResponseCache(credentials=True)
    async with client(whoami, cache, auth=BearerAuth("alice")) as alice:
        assert await texts(alice, "/me", "/me") == ["Bearer alice"] * 2
        assert await texts(alice, "/me", "/me", auth=None) == [""] * 2
        async with client(whoami, cache, auth=BearerAuth("bob")) as bob:
            assert await texts(bob, "/me", "/me") == ["Bearer bob"] * 2
    assert cache.info().hits == 2


async def test_the_url_can_hold_credentials() -> None:
    async with client(whoami) as calls:
        assert await texts(calls, "https://a:b@h/me", "https://h/me") == ["Basic YTpi", ""]
    async with client(whoami, ResponseCache(credentials=True)) as calls:
        urls = ["https://a:b@h/me", "https://a:c@h/me", "https://h/me"]
        assert await texts(calls, *urls, *urls) == ["Basic YTpi", "Basic YTpj", ""] * 2
        assert calls.cache.info().hits == 2


class SignAuth(AuthProvider):
    async def authenticate(self, request: Any) -> None:
        request.headers["Authorization"] = f"Bearer {USERS.pop(0)}"


def sign(request: Any) -> Any:
    request.headers["Authorization"] = f"Bearer {USERS.pop(0)}"
    return request


USERS: list[str] = []


@pytest.mark.parametrize("auth", [sign, BearerAuth(lambda: USERS.pop(0)), SignAuth()], ids=repr)
async def test_h6_3_credentials_that_may_be_of_several_users_pass_by(auth: Any) -> None:
    USERS[:] = ["alice", "bob"]
    async with client(whoami, ResponseCache(credentials=True), auth=auth) as calls:
        assert await texts(calls, "/me", "/me") == ["Bearer alice", "Bearer bob"]


@pytest.mark.parametrize("credentials", [True, False])
@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (None, "X-API-Key"),
        (None, "Cookie"),
        (None, "url"),
        (("a", "b"), "X-API-Key"),
        (BearerAuth("a"), "Cookie"),
        (APIKeyAuth("a", query="k"), "Cookie"),
    ],
    ids=repr,
)
async def test_h6_3_what_a_hook_adds_is_somebodys_own(credentials: bool, auth: Any, header: str) -> None:
    async def sign(request: Any) -> None:
        if header == "url":
            request.url = request.url.copy_merge_params({"user": users.pop(0)})
        else:
            request.headers[header] = users.pop(0)

    users = ["alice", "bob", "carol", "dave"]
    site = Site(*[FRESH] * 3, 503)
    hooks = {"request": [sign]}
    async with client(site, ResponseCache(credentials=credentials), auth=auth, event_hooks=hooks) as calls:
        assert await texts(calls, "/a", "/a") == ["no 1", "no 2"]
        together = await asyncio.gather(calls.get("/a"), calls.get("/a"))
        assert {each.text for each in together} == {"no 3", "no 4"}


def bearer(request: Any) -> Any:
    return httpx.Response(200, headers=FRESH, text=request.headers["Authorization"])


async def put_over(request: Any, call_next: Any) -> Any:
    request.headers["Authorization"] = f"Bearer {USERS.pop(0)}"
    return await call_next(request)


async def put_over_in_a_hook(request: Any) -> None:
    request.headers["Authorization"] = f"Bearer {USERS.pop(0)}"


WITH_CREDENTIALS: list[Any] = [
    BasicAuth("service", "secret"),
    ("service", "secret"),
    httpx.BasicAuth,
    APIKeyAuth("service"),
    APIKeyAuth("service", header="X-Service"),
    APIKeyAuth("service", query="k"),
    BearerAuth("service"),
]


@pytest.mark.parametrize("auth", WITH_CREDENTIALS, ids=repr)
async def test_h6_3_what_a_hook_puts_over_the_credentials_is_somebodys_own(auth: Any) -> None:
    USERS[:] = ["alice", "bob", "carol", "dave"]
    auth = auth("service", "secret") if isinstance(auth, type) else auth
    options = {"auth": auth, "event_hooks": {"request": [put_over_in_a_hook]}}
    async with client(bearer, ResponseCache(credentials=True), **options) as calls:
        assert await texts(calls, "/me", "/me") == ["Bearer alice", "Bearer bob"]
        together = await asyncio.gather(calls.get("/me"), calls.get("/me"))
        assert {each.text for each in together} == {"Bearer carol", "Bearer dave"}
        assert calls.cache.info().size == 0


async def test_h6_3_what_a_hook_puts_over_the_credentials_of_a_url_is_somebodys_own() -> None:
    USERS[:] = ["alice", "bob"]
    hooks = {"request": [put_over_in_a_hook]}
    async with client(whoami, ResponseCache(credentials=True), event_hooks=hooks) as calls:
        assert await texts(calls, *["https://a:b@h/me"] * 2) == ["Bearer alice", "Bearer bob"]


@pytest.mark.parametrize("auth", [APIKeyAuth("service"), APIKeyAuth("service", query="k")], ids=repr)
async def test_h6_3_what_a_middleware_adds_to_the_credentials_is_somebodys_own(auth: Any) -> None:
    USERS[:] = ["alice", "bob"]
    options = {"auth": auth, "attempt_middleware": [put_over]}
    async with client(bearer, ResponseCache(credentials=True), **options) as calls:
        assert await texts(calls, "/me", "/me") == ["Bearer alice", "Bearer bob"]


@pytest.mark.parametrize("auth", WITH_CREDENTIALS, ids=repr)
async def test_h6_3_a_url_that_a_hook_changes_is_somebodys_own(auth: Any) -> None:
    async def sign(request: Any) -> None:
        request.url = request.url.copy_merge_params({"user": users.pop(0)})

    auth = auth("service", "secret") if isinstance(auth, type) else auth
    users = ["alice", "bob"]
    hooks = {"request": [sign]}
    async with client(
        Site(FRESH, FRESH), ResponseCache(credentials=True), auth=auth, event_hooks=hooks
    ) as calls:
        assert await texts(calls, "/a", "/a") == ["no 1", "no 2"]


@pytest.mark.parametrize("auth", WITH_CREDENTIALS, ids=repr)
async def test_h6_3_credentials_as_they_were_added_are_kept(auth: Any) -> None:
    options = {
        "auth": auth("service", "secret") if isinstance(auth, type) else auth,
        "attempt_middleware": [add_request_id("X-Attempt-ID")],
        "attempt_header": "X-Attempt",
    }
    site = Site({**FRESH, "Vary": "Authorization, X-API-Key, X-Service"})
    async with client(site, ResponseCache(credentials=True), **options) as calls:
        assert await texts(calls, "/a?b=c", "/a?b=c") == ["no 1", "no 1"]
        assert site.requests[0].headers["x-attempt"] == "1"


async def test_h6_3_digest_passes_by() -> None:
    async with client(Site(FRESH, FRESH), ResponseCache(credentials=True)) as calls:
        auth = httpx.DigestAuth("a", "b")
        assert await texts(calls, "/a", "/a", auth=auth) == ["no 1", "no 2"]


async def test_h6_3_a_kind_of_basic_auth_of_ones_own_passes_by() -> None:
    class UserAuth(httpx.BasicAuth):
        """May stand for several users."""

    async with client(Site(FRESH, FRESH), ResponseCache(credentials=True)) as calls:
        assert await texts(calls, "/a", "/a", auth=UserAuth("a", "b")) == ["no 1", "no 2"]


IDENTITIES = [
    "X-JWT-Assertion",
    "CF-Access-JWT-Assertion",
    "X-Goog-IAP-JWT-Assertion",
    "X-Amzn-OIDC-Data",
    "X-Remote-User",
    "X-Forwarded-User",
    "X-Forwarded-Client-Cert",
    "X-On-Behalf-Of",
    "X-MS-Client-Principal",
    "X-WSSE",
    "DPoP",
    "X-Tenant-ID",
]


@pytest.mark.parametrize("header", IDENTITIES)
async def test_h6_3_headers_that_may_tell_who_asks_have_their_own_responses(header: str) -> None:
    def answer(request: Any) -> Any:
        return httpx.Response(200, headers=FRESH, text=request.headers.get(header, "nobody"))

    for credentials in [False, True]:
        async with client(answer, ResponseCache(credentials=credentials)) as calls:
            for user in ["alice", "bob"] * 2:
                assert (await calls.get("/a", headers={header: user})).text == user
            assert await texts(calls, "/a", "/a") == ["nobody"] * 2


async def test_a_header_that_the_cache_does_not_know_has_responses_of_its_own() -> None:
    async with client(Site(FRESH, FRESH)) as calls:
        for tenant, expected in [("a", "no 1"), ("b", "no 2"), ("a", "no 1")]:
            assert (await calls.get("/a", headers={"X-Tenant-ID": tenant})).text == expected


@pytest.mark.parametrize("header", IDENTITIES)
async def test_h6_3_headers_of_a_hook_that_may_tell_who_asks_are_not_kept(header: str) -> None:
    async def sign(request: Any) -> None:
        request.headers[header] = users.pop(0)

    users = ["alice", "bob"]
    async with client(Site(FRESH, FRESH), event_hooks={"request": [sign]}) as calls:
        assert await texts(calls, "/a", "/a") == ["no 1", "no 2"]


@pytest.mark.parametrize(
    "header",
    [
        "User-Agent",
        "Accept",
        "Accept-Language",
        "Accept-Encoding",
        "X-Request-ID",
        "traceparent",
        "X-B3-TraceId",
    ],
)
async def test_headers_that_tell_nobody_apart_share_a_response(header: str) -> None:
    async with client(Site(FRESH)) as calls:
        for value in ["a", "b"]:
            assert (await calls.get("/a", headers={header: value})).text == "no 1"


async def test_what_a_function_says_counts_and_not_the_headers() -> None:
    async with client(Site(FRESH), ResponseCache(credentials=lambda _: "all")) as calls:
        for value in ["a", "b"]:
            assert (await calls.get("/a", headers={"X-Tenant-ID": value})).text == "no 1"


@pytest.mark.parametrize("credentials", [False, True, lambda _: "all"], ids=["False", "True", "function"])
@pytest.mark.parametrize("header", ["X-Tenant", "Accept-Language"])
async def test_h6_3_what_a_hook_changed_is_no_variant_of_what_the_caller_asked(
    credentials: Any, header: str
) -> None:
    async def change(request: Any) -> None:
        request.headers[header] = values.pop(0)

    values = ["a", "b", "c", "d", "e"]
    site = Site(*[{**FRESH, "Vary": header, "ETag": '"1"'}] * 9)
    cache = ResponseCache(credentials=credentials)
    async with client(site, cache, event_hooks={"request": [change]}) as calls:
        assert await texts(calls, "/a", "/a") == ["no 1", "no 2"]
        together = await asyncio.gather(calls.get("/a"), calls.get("/a"))
        assert {each.text for each in together} == {"no 3", "no 4"}


async def test_h6_3_a_304_for_a_variant_of_a_hook_is_not_kept() -> None:
    async def change(request: Any) -> None:
        if site.requests:
            request.headers["Accept-Language"] = "de"

    site = Site(
        {**FRESH, "ETag": '"a"', "Vary": "Accept-Language"}, (304, {"Cache-Control": "max-age=60"}), FRESH
    )
    async with client(site, event_hooks={"request": [change]}) as calls:
        await calls.get("/a")
        advance(20)
        assert origin(await calls.get("/a")) == "revalidated"
        assert (await calls.get("/a")).text == "no 3"


async def test_h6_3_a_function_says_whose_a_response_is_that_varies_by_credentials() -> None:
    def sign(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {USERS.pop(0)}"
        return request

    USERS[:] = ["of today", "of tomorrow"]
    site = Site({**FRESH, "Vary": "Authorization"})
    async with client(site, ResponseCache(credentials=lambda _: "alice"), auth=sign) as calls:
        assert await texts(calls, "/a", "/a") == ["no 1", "no 1"]


async def test_h6_3_a_304_for_somebody_else_is_not_kept() -> None:
    async def sign(request: Any) -> None:
        if len(site.requests) == 1:
            request.headers["X-API-Key"] = "alice"

    site = Site({**FRESH, "ETag": '"a"'}, (304, FRESH), FRESH)
    async with client(site, event_hooks={"request": [sign]}) as calls:
        await calls.get("/a")
        advance(20)
        assert origin(await calls.get("/a")) == "revalidated"
        assert (await calls.get("/a")).text == "no 3"


async def test_the_auth_of_httpx_has_a_partition_too() -> None:
    async with client(site := Site(*[FRESH] * 3), ResponseCache(credentials=True)) as calls:
        for auth in [httpx.BasicAuth("a", "b"), httpx.BasicAuth("a", "b")]:
            await texts(calls, "/a", "/a", auth=auth)
        assert len(site.requests) == 2


async def test_h6_3_a_function_says_whose_a_response_is() -> None:
    def sign(request: Any) -> Any:
        request.headers["X-API-Key"] = request.extensions["user"]
        asked.append(request.extensions["user"])
        return request

    def user(request: Any) -> str:
        return request.extensions["user"]

    asked: list[str] = []
    async with client(whoami, ResponseCache(credentials=user), auth=sign) as calls:
        for _ in range(2):
            for name in ["alice", "bob"]:
                assert (await calls.get("/me", extensions={"user": name})).text == name
        assert asked == ["alice", "bob"]
        with pytest.raises(
            ValueError, match="the result of credentials= must be a string that is not empty"
        ):
            await calls.get("/me", extensions={"user": ""})


async def test_h6_3_keys_and_reprs_show_no_secret(events: list[Event]) -> None:
    store = DictStore()
    cache = ResponseCache(credentials=True, store=store)
    secrets = {"headers": {"Authorization": "Bearer s3cret", "Vary-By": "s3cret"}}
    async with client(Site({**FRESH, "Vary": "Vary-By"}), cache) as calls:
        await calls.get("https://u:s3cret@h/a?token=s3cret", **secrets)
        await calls.get("https://u:s3cret@h/a?token=s3cret", **secrets)
    assert cache.info().hits == 1
    assert len(store.entries) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in store.entries)
    assert "s3cret" not in repr(
        [*store.entries, *[entry.tags for _, entry in store.entries.values()], cache]
    )
    assert "s3cret" not in repr([each for each in events if each.policy == "cache"])


# --- Changes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
@pytest.mark.parametrize("outcome", [204, 404, 500, httpx.ReadTimeout("x")])
async def test_h6_3_an_unsafe_method_invalidates(method: str, outcome: Any) -> None:
    cache = ResponseCache(credentials=True)
    async with client(site := Site(FRESH, FRESH, FRESH, FRESH, outcome), cache) as calls:
        await texts(calls, "/a", "/a?b", "/b")
        await calls.get("/a", headers={"Authorization": "x"})
        try:
            await calls.request(method, "/a")
        except httpx.ReadTimeout:
            assert isinstance(outcome, Exception)
        await texts(calls, "/a", "/a?b", "/b")
        await calls.get("/a", headers={"Authorization": "x"})
        assert site.lines[5:] == ["GET /a", "GET /a"]


async def test_what_a_change_names_is_invalidated_too_on_the_same_origin() -> None:
    changed = {"Location": "/new", "Content-Location": "https://h/other"}
    foreign = {"Location": "https://elsewhere/x", "Content-Location": "https://h:port/new"}
    site = Site(*[FRESH] * 3, changed, *[FRESH] * 2, foreign)
    async with client(site) as calls:
        await texts(calls, "/new", "/other", "https://elsewhere/x")
        await calls.post("/things")
        await texts(calls, "/new", "/other", "https://elsewhere/x")
        assert site.lines[4:] == ["GET /new", "GET /other"]
        await calls.post("/things")
        await texts(calls, "/new", "https://elsewhere/x")
        assert len(site.requests) == 7


async def test_t38_a_change_during_an_exchange_wins() -> None:
    async def answer(request: Any) -> Any:
        asked.append(request.method)
        if len(asked) == 1:
            await gate.wait()
        return httpx.Response(200, headers=FRESH, text=f"no {len(asked)}")

    asked: list[str] = []
    gate = asyncio.Event()
    async with client(answer) as calls:
        reading = asyncio.create_task(calls.get("/a"))
        await settle()
        await calls.put("/a")
        later = asyncio.create_task(calls.get("/a"))  # must not join what began before the change
        await settle()
        assert asked == ["GET", "PUT", "GET"]
        gate.set()
        await reading
        assert (await later).text == "no 3"
        assert (await calls.get("/a")).text == "no 3"


@pytest.mark.parametrize("forget", ["clear", "invalidate"])
async def test_clear_and_invalidate_act_at_once(forget: str) -> None:
    async with client(site := Site(*[FRESH] * 4)) as calls:
        forgetting: Callable[[], object] = (
            calls.cache.clear
            if forget == "clear"
            else lambda: calls.cache.invalidate(httpx.URL("https://h/a"))
        )
        await calls.get("/a")
        forgetting()
        assert (await calls.get("/a")).text == "no 2"
        forgetting()
        site.gate.clear()
        reading = asyncio.create_task(calls.get("/a"))
        await settle()
        forgetting()
        site.gate.set()
        await reading
        assert (await calls.get("/a")).text == "no 4"


# --- Single flight ----------------------------------------------------------------------------------


async def test_h6_3_concurrent_misses_make_one_exchange() -> None:
    async with client(site := Site(FRESH)) as calls:
        site.gate.clear()
        waiting = [asyncio.create_task(calls.get("/a")) for _ in range(20)]
        await settle()
        site.gate.set()
        responses = await asyncio.gather(*waiting)
        assert len(site.requests) == 1
        assert [each.text for each in responses] == ["no 1"] * 20
        assert [origin(each) for each in responses] == [None, *["shared"] * 19]
        assert len({id(each.request) for each in responses}) == 20
        assert calls.cache.info().coalesced == 19


@pytest.mark.parametrize("told", ["no-store", "private, max-age=10"])
async def test_what_must_not_be_shared_is_asked_for_by_each(told: str) -> None:
    async with client(site := Site(*[{"Cache-Control": told}] * 5)) as calls:
        responses = await asyncio.gather(*[calls.get("/a") for _ in range(5)])
        assert len({each.text for each in responses}) == 5
        assert len(site.requests) == 5


@pytest.mark.parametrize("failure", [503, httpx.ConnectError("x")])
@pytest.mark.parametrize("raises", [True, False])
async def test_a_failure_is_shared_and_not_kept(failure: Any, raises: bool) -> None:
    async with client(site := Site(failure), raise_for_status=raises) as calls:
        outcomes = await asyncio.gather(*[calls.get("/a") for _ in range(5)], return_exceptions=True)
        assert len(site.requests) == 1
        assert len({id(each) for each in outcomes}) == 5
        if isinstance(failure, int) and not raises:
            assert [each.text for each in outcomes] == ["no 1"] * 5
        else:
            assert all(isinstance(each, httpx.HTTPError) for each in outcomes)
        assert (await calls.get("/a")).text == "no 2"


@pytest.mark.parametrize("told", ["no-store", "private"])
async def test_an_error_that_must_not_be_shared_is_not(told: str) -> None:
    async with client(site := Site(*[(503, {"Cache-Control": told})] * 3)) as calls:
        responses = await asyncio.gather(*[calls.get("/a") for _ in range(3)])
        assert len({each.text for each in responses}) == len(site.requests) == 3


async def test_t7_cancelling_the_first_caller_leaves_the_others_alone() -> None:
    async with client(site := Site(FRESH)) as calls:
        site.gate.clear()
        first, second = (asyncio.create_task(calls.get("/a")) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        site.gate.set()
        assert (await second).text == "no 1"
        assert first.cancelled()
        assert len(site.requests) == 1


async def test_t7_the_last_to_leave_ends_the_exchange() -> None:
    async with client(site := Site(FRESH, FRESH)) as calls:
        site.gate.clear()
        waiting = [asyncio.create_task(calls.get("/a")) for _ in range(2)]
        await settle()
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        site.gate.set()
        assert (await calls.get("/a")).text == "no 2"


async def test_an_exchange_that_is_cancelled_in_a_backoff_closes_the_last_answer() -> None:
    class Endless(httpx.AsyncByteStream):
        is_open = True

        async def __aiter__(self) -> Any:
            while True:
                yield b"x" * 10_000

        async def aclose(self) -> None:
            self.is_open = False

    body = Endless()
    site = Site(httpx.Response(503, stream=body))
    async with client(site, retry=retry(attempts=2, wait=60), total_timeout=None) as calls:
        waiting = asyncio.create_task(calls.get("/a"))
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not body.is_open


async def test_a_hook_that_asks_for_the_same_does_not_wait_for_itself() -> None:
    async def ask(request: Any) -> None:
        if "inner" not in request.headers:
            assert (await calls.get("/a", headers={"inner": "1"})).text == "no 1"

    async with client(site := Site(FRESH, FRESH), event_hooks={"request": [ask]}) as calls:
        assert await texts(calls, "/a", "/a") == ["no 2"] * 2
        assert len(site.requests) == 2


async def test_t52_refreshes_in_the_background_are_bounded_and_ended() -> None:
    told = {"Cache-Control": "max-age=10, stale-while-revalidate=50"}
    async with client(site := Site(*[told] * 400)) as calls:
        paths = [f"/{number}" for number in range(150)]
        await texts(calls, *paths)
        advance(20)
        site.gate.clear()
        assert await texts(calls, *paths) == [f"no {number + 1}" for number in range(150)]
        await settle()
        assert len(site.requests) == 250
        await calls.cache.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("path", ["/miss", "/revalidated", "/hit", "/changed", "/stale"])
async def test_cancellation_at_every_await_leaves_nothing_behind(path: str) -> None:
    told = {"/miss": FRESH, "/hit": {"Cache-Control": "max-age=9999"}}.get(path, {**FRESH, "ETag": '"a"'})
    if path == "/stale":
        told = {**told, "Cache-Control": "max-age=10, stale-while-revalidate=9999"}

    async def answer(request: Any) -> Any:
        await asyncio.sleep(0)
        return httpx.Response(304 if "if-none-match" in request.headers else 200, headers=told, text="x")

    async with client(answer, ResponseCache(store=DictStore())) as calls:
        for turns in range(200):
            await calls.get(path)
            advance(20)
            task = asyncio.create_task(calls.request("PUT" if path == "/changed" else "GET", path))
            await settle(turns)
            done = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await calls.cache.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            if done:
                break
        assert done
        assert turns >= 2


# --- Stores -----------------------------------------------------------------------------------------


class DictStore:
    """A shared store that pickles what it is given, and may be told to fail."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[float, CacheEntry]] = {}
        self.failing: set[str] = set()

    async def _turn(self, operation: str) -> None:
        await asyncio.sleep(0)
        if operation in self.failing:
            raise OSError(operation)

    async def get(self, key: str) -> CacheEntry | None:
        await self._turn("get")
        if key not in self.entries:
            return None
        stored_at, entry = self.entries[key]
        return replace(entry, expires_in=stored_at + entry.expires_in - now())

    async def set(self, key: str, entry: CacheEntry) -> None:
        await self._turn("set")
        self.entries[key] = (now(), pickle.loads(pickle.dumps(entry)))

    async def delete(self, key: str) -> None:
        await self._turn("delete")
        self.entries.pop(key, None)

    async def clear(self) -> None:
        await self._turn("clear")
        self.entries.clear()


async def test_processes_can_share_a_store() -> None:
    store = DictStore()
    site = Site({**FRESH, "Vary": "Accept", "ETag": '"a"'}, (304, FRESH))
    async with (
        client(site, ResponseCache(store=store)) as one,
        client(site, ResponseCache(store=store)) as two,
    ):
        assert (await one.get("/a")).text == "no 1"
        advance(5)
        second = await two.get("/a")
        assert (second.text, second.headers["age"]) == ("no 1", "5")
        assert all(entry.keep_for >= 86_400 for _, entry in store.entries.values())
        advance(6)
        assert (await two.get("/a")).text == "no 1"
        advance(6)
        assert origin(await one.get("/a")) == "hit"
        assert two.cache.info().size is None
        await two.put("/a")
        await one.get("/a")
        assert len(site.requests) == 4
        await one.cache.clear()
        assert store.entries == {}


@pytest.mark.parametrize("operation", ["get", "set", "delete"])
async def test_t67_a_store_that_fails_does_not_fail_the_call(operation: str, events: list[Event]) -> None:
    store = DictStore()
    store.failing.add(operation)
    site = Site({**FRESH, "ETag": '"a"'}, (304, {"Cache-Control": "no-store"}))
    async with client(site, ResponseCache(store=store)) as calls:
        await calls.get("/a")
        advance(11)
        assert (await calls.get("/a")).status_code in (200, 304)
        await calls.put("/a")
    failed = [each.attributes for each in events if each.kind == "cache.store_failed"]
    assert failed
    assert all(each == {"operation": operation, "error": "OSError"} for each in failed)


async def test_t67_a_change_survives_a_store_that_cannot_delete(events: list[Event]) -> None:
    store = DictStore()
    async with client(Site(FRESH, 204), ResponseCache(store=store)) as calls:
        await calls.get("/a")
        store.failing.add("delete")
        assert (await calls.put("/a")).status_code == 204
    assert events[-1].attributes == {"operation": "delete", "error": "OSError"}


async def test_what_else_is_in_a_store_is_not_believed() -> None:
    store = DictStore()
    async with client(site := Site(FRESH, FRESH), ResponseCache(store=store)) as calls:
        await calls.get("/a")
        (key,) = store.entries
        store.entries[key] = (now(), CacheEntry("something else", 60, 60))
        assert (await calls.get("/a")).text == "no 2"
        assert len(site.requests) == 2


def test_t64_it_serves_several_event_loops_one_after_the_other_and_at_once() -> None:
    async def text() -> str:
        async with client(Site(FRESH), cache) as calls:
            return (await calls.get("/a")).text

    cache = ResponseCache()
    assert [asyncio.run(text()) for _ in range(2)] == ["no 1"] * 2
    assert cache.info().misses == 1
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: asyncio.run(text()), range(8))) == {"no 1"}


# --- Arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"credentials": "yes"}, TypeError, "credentials must be True, False or a function, got 'yes'"),
        ({"credentials": None}, TypeError, "credentials must be"),
        ({"stale_if_error": -1}, ValueError, "stale_if_error must be seconds"),
        ({"max_size": 0}, ValueError, "max_size must be a whole number of 1 or more, got 0"),
        ({"max_size": 1.5}, TypeError, "max_size must be"),
        ({"max_entry_size": True}, TypeError, "max_entry_size must be"),
        ({"store": {}}, TypeError, "store must be an async CacheStore"),
        ({"name": ""}, ValueError, "name must be"),
    ],
)
def test_a_mistake_shows_at_once(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ResponseCache(**arguments)


def test_an_async_function_cannot_tell_credentials() -> None:
    async def user(request: Any) -> str:
        return "x"

    with pytest.raises(TypeError, match="credentials must be a function that is not async"):
        ResponseCache(credentials=user)  # type: ignore[arg-type]


def test_invalidate_needs_an_absolute_url() -> None:
    with pytest.raises(ValueError, match="url must be an absolute URL") as caught:
        ResponseCache().invalidate("/a?token=s3cret")
    assert "s3cret" not in str(caught.value)


def test_a_transport_takes_no_cache() -> None:
    with pytest.raises(ValueError, match="cache must be None: a transport leaves bodies unread"):
        ResilientTransport(cache=ResponseCache())


def test_cache_must_be_one() -> None:
    with pytest.raises(TypeError, match="cache must be a ResponseCache or None"):
        ResilientClient(cache=True)


# --- On the wire ------------------------------------------------------------------------------------


@pytest.mark.real_time
async def test_h6_3_on_the_wire_a_hit_sends_nothing_and_a_304_keeps_the_body() -> None:
    async with http_server() as server:
        told = {"Cache-Control": "max-age=60", "ETag": '"v1"'}
        server.script(
            "/a", reply(200, told, b"hello"), reply(304, {"ETag": '"v1"'}, b""), reply(304, {}, b"")
        )
        async with ResilientClient(server.url, cache=ResponseCache()) as calls:
            assert [(await calls.get("/a")).text for _ in range(5)] == ["hello"] * 5
            assert server.lines == ["GET /a"]
            response = await calls.get("/a", headers={"Cache-Control": "no-cache"})
            assert (response.text, origin(response)) == ("hello", "revalidated")
            assert server.received[1].headers["if-none-match"] == '"v1"'
            await calls.put("/a", content=b"new")
            assert (await calls.get("/a")).text == "ok"
        assert server.connections == 1


@pytest.mark.real_time
async def test_h6_3_on_the_wire_concurrent_misses_cost_one_request_and_one_connection() -> None:
    async with http_server() as server:
        server.script("/a", reply(200, {"Cache-Control": "max-age=60"}, b"hello"))
        async with ResilientClient(server.url, cache=ResponseCache()) as calls:
            responses = await asyncio.gather(*[calls.get("/a") for _ in range(20)])
        assert [each.text for each in responses] == ["hello"] * 20
        assert server.lines == ["GET /a"]
        assert server.connections == 1


@pytest.mark.real_time
async def test_h6_3_on_the_wire_a_compressed_body_is_kept_decoded() -> None:
    import gzip

    packed = gzip.compress(b"hello" * 100)
    told = {"Cache-Control": "max-age=60", "Content-Encoding": "gzip", "Content-Type": "text/plain"}
    async with http_server() as server:
        server.script("/a", reply(200, told, packed))
        async with ResilientClient(server.url, cache=ResponseCache()) as calls:
            first, second = await calls.get("/a"), await calls.get("/a")
        assert first.text == second.text == "hello" * 100
        assert "content-encoding" not in second.headers
        assert second.headers["content-length"] == "500"
        assert len(server.received) == 1


@pytest.mark.real_time
async def test_h6_3_on_the_wire_hop_by_hop_headers_are_not_kept() -> None:
    told = {"Cache-Control": "max-age=60", "Connection": "X-Hop", "X-Hop": "1", "X-End": "2"}
    async with http_server() as server:
        server.script("/a", reply(200, told))
        async with ResilientClient(server.url, cache=ResponseCache()) as calls:
            await calls.get("/a")
            second = await calls.get("/a")
        assert "x-hop" not in second.headers
        assert "connection" not in second.headers
        assert second.headers["x-end"] == "2"


@pytest.mark.real_time
async def test_what_a_redirect_leads_to_is_not_kept() -> None:
    async with http_server() as server:
        server.script("/a", redirect("/b"), redirect("/b"))
        server.script("/b", *[reply(200, {"Cache-Control": "max-age=60"})] * 2)
        async with ResilientClient(server.url, cache=ResponseCache(), follow_redirects=True) as calls:
            await calls.get("/a")
            await calls.get("/a")
        assert server.lines == ["GET /a", "GET /b"] * 2


@pytest.mark.real_time
async def test_h6_3_on_the_wire_a_server_that_hangs_is_replaced_by_what_is_stale() -> None:
    async with http_server() as server:
        server.script("/a", reply(200, {"Cache-Control": "max-age=0", "ETag": '"a"'}, b"old"), never)
        cache = ResponseCache(stale_if_error=60)
        async with ResilientClient(server.url, cache=cache, total_timeout=0.2) as calls:
            assert (await calls.get("/a")).text == "old"
            assert (await calls.get("/a")).text == "old"
        assert server.lines == ["GET /a"] * 2


@pytest.mark.real_time
async def test_a_truncated_body_is_not_kept() -> None:
    from tests.support.http_server import truncated

    async with http_server() as server:
        server.script("/a", truncated(), reply(200, {"Cache-Control": "max-age=60"}, b"whole"))
        async with ResilientClient(server.url, cache=ResponseCache(), retry=retry(wait=0)) as calls:
            assert (await calls.get("/a")).text == "whole"
