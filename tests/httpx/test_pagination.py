"""Lists that come in pages: every page once, every item once, and an end in any case."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from resilience import retry
from resilience_httpx import NotFoundError, PaginationError, ResilientClient, StatusError, resilient
from tests.support.http_server import http_server, redirect, reply, reset, truncated

Answer = Callable[[httpx.Request], httpx.Response]


class Api:
    """Answers with one page after the other, and remembers the requests."""

    def __init__(self, *pages: Any) -> None:
        self.pages = list(pages)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        page = self.pages.pop(0)
        if isinstance(page, tuple):
            status, headers, body = page
            return httpx.Response(status, headers=headers, json=body)
        return httpx.Response(200, json=page)

    @property
    def urls(self) -> list[str]:
        return [str(each.url) for each in self.requests]


def client(answer: Answer, base_url: str = "https://h/v1", **options: object) -> ResilientClient:
    return ResilientClient(base_url, transport=httpx.MockTransport(answer), **options)


def linked(body: Any, *links: str) -> tuple[int, list[tuple[str, str]], Any]:
    return 200, [("Link", f'<{link}>; rel="next"') for link in links], body


async def listed(pages: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in pages]


def body(response: httpx.Response) -> Any:
    return response.json()


# --- Ways to the next page ---


async def test_h6_5_the_link_header_leads_from_page_to_page() -> None:
    api = Api(linked([1, 2], "/v1/n?page=2&sig=a%2Fb"), linked([3], "?page=3"), [4])
    async with client(api) as calls:
        pages = calls.paginate("/n", params={"size": 2})
        assert [page.json() async for page in pages] == [[1, 2], [3], [4]]
    assert api.urls == ["https://h/v1/n?size=2", "https://h/v1/n?page=2&sig=a%2Fb", "https://h/v1/n?page=3"]
    assert pages.finished
    assert pages.next is None


async def test_parameters_of_the_client_do_not_replace_those_of_a_link() -> None:
    api = Api(linked([1], "/v1/n?page=2"), [2])
    async with client(api, params={"version": "7"}) as calls:
        assert await listed(calls.paginate("/n", items=body)) == [1, 2]
    assert api.urls == ["https://h/v1/n?version=7", "https://h/v1/n?page=2"]


async def test_a_link_in_the_body() -> None:
    for where in ("next", lambda page: page.json()["next"]):
        for end in (None, "", False):
            api = Api({"next": "https://h/v1/n?b", "data": [1]}, {"next": end, "data": [2]})
            async with client(api) as calls:
                assert await listed(calls.paginate("/n", link=where, items="data")) == [1, 2]
            assert api.urls == ["https://h/v1/n", "https://h/v1/n?b"]


async def test_a_key_may_have_dots_and_a_path_be_dotted() -> None:
    api = Api({"@odata.nextLink": "?b", "a": {"b": [1]}}, {"a": {"b": [2]}})
    async with client(api) as calls:
        assert await listed(calls.paginate("/n", link="@odata.nextLink", items="a.b")) == [1, 2]


async def test_a_cursor() -> None:
    api = Api(
        {"data": [1], "meta": {"next": "b/="}},
        {"data": [2], "meta": {"next": 0}},
        {"data": [3], "meta": {}},
    )
    async with client(api) as calls:
        pages = calls.paginate("/n", cursor="meta.next", items="data", params={"size": 1})
        assert await listed(pages) == [1, 2, 3]
    assert [dict(each.url.params) for each in api.requests] == [
        {"size": "1"},
        {"size": "1", "cursor": "b/="},
        {"size": "1", "cursor": "0"},
    ]


async def test_a_cursor_that_a_function_finds() -> None:
    api = Api({"data": [{"id": 7}], "more": True}, {"data": [{"id": 8}], "more": False})
    async with client(api) as calls:
        pages = calls.paginate(
            "/n",
            cursor=lambda page: page.json()["data"][-1]["id"] if page.json()["more"] else None,
            cursor_parameter="starting_after",
            items="data",
        )
        assert await listed(pages) == [{"id": 7}, {"id": 8}]
    assert api.urls == ["https://h/v1/n", "https://h/v1/n?starting_after=7"]


@pytest.mark.parametrize("end", ["", None, False, "missing"])
async def test_h6_5_an_empty_cursor_is_the_end(end: Any) -> None:
    last = {"data": [2]} if end == "missing" else {"data": [2], "next": end}
    api = Api({"data": [1], "next": "b"}, last)
    async with client(api) as calls:
        pages = calls.paginate("/n", cursor="next", items="data")
        assert await listed(pages) == [1, 2]
    assert pages.finished


async def test_a_page_number() -> None:
    api = Api({"data": [1, 2]}, {"data": [3]}, {"data": []})
    async with client(api) as calls:
        assert await listed(calls.paginate("/n", page="p", items="data")) == [1, 2, 3]
    assert api.urls == ["https://h/v1/n?p=1", "https://h/v1/n?p=2", "https://h/v1/n?p=3"]


async def test_an_offset_grows_by_what_came() -> None:
    api = Api([1, 2], [3], [])
    async with client(api) as calls:
        pages = calls.paginate("/n", offset="skip", params={"limit": 9})
        assert [page.json() async for page in pages] == [[1, 2], [3]]
        assert pages.finished
    assert [each.url.params["skip"] for each in api.requests] == ["0", "2", "3"]
    assert {each.url.params["limit"] for each in api.requests} == {"9"}


async def test_the_number_to_begin_with() -> None:
    for options, first in [
        ({"params": {"p": 0}}, "0"),
        ({"start": 0}, "0"),
        ({"params": {"p": 4}, "start": 5}, "5"),
    ]:
        api = Api([1], [])
        async with client(api) as calls:
            assert len(await listed(calls.paginate("/n", page="p", **options))) == 1
        assert [each.url.params["p"] for each in api.requests] == [first, str(int(first) + 1)]


async def test_null_in_place_of_items_is_an_empty_page() -> None:
    api = Api({"data": [1], "next": 1}, {"data": None, "next": 2}, {"data": [3]})
    async with client(api) as calls:
        assert await listed(calls.paginate("/n", cursor="next", items="data")) == [1, 3]


async def test_a_client_that_was_made_resilient_has_it_as_well() -> None:
    plain = httpx.AsyncClient(
        base_url="https://h", transport=httpx.MockTransport(Api(linked([1], "?b"), [2]))
    )
    async with resilient(plain) as calls:
        assert await listed(calls.paginate("/n", items=body)) == [1, 2]


async def test_arguments_of_the_request_go_with_each_page() -> None:
    api = Api(linked([1], "?b"), [2])
    async with client(api) as calls:
        await listed(
            calls.paginate("/n", headers={"X-Team": "a"}, auth=("u", "p"), extensions={"retry": None})
        )
    assert [each.headers["X-Team"] for each in api.requests] == ["a", "a"]
    assert all("Authorization" in each.headers for each in api.requests)
    assert all(each.extensions["retry"] is None for each in api.requests)


# --- Guards ---


@pytest.mark.parametrize(
    "target",
    [
        "https://evil/n",
        "http://h/v1/n?b",
        "https://h:8443/v1/n",
        "//evil/n",
        "https://h@evil/",
        "ftp://h/n",
    ],
)
async def test_h6_5_links_to_another_origin_are_refused(target: str) -> None:
    api = Api(linked([1], target), [2])
    async with client(api, headers={"X-API-Key": "k"}) as calls:
        pages = calls.paginate("/n", items=body)
        assert await anext(pages) == 1  # the page itself is good
        with pytest.raises(PaginationError, match="another origin") as caught:
            await anext(pages)
    assert len(api.requests) == 1
    assert "k" not in caught.value.details.values()


async def test_h6_5_other_origins_can_be_allowed() -> None:
    api = Api(linked([1], "https://other/n?b"), linked([2], "https://evil/"))
    async with client(api) as calls:
        calls.cookies.set("session", "secret", domain="h")
        with pytest.raises(PaginationError):
            await listed(calls.paginate("/n", origins="https://other"))
    assert api.urls == ["https://h/v1/n", "https://other/n?b"]
    assert [each.headers["Host"] for each in api.requests] == ["h", "other"]
    assert "Cookie" not in api.requests[1].headers


async def test_h6_5_credentials_in_a_link_are_not_sent() -> None:
    api = Api(linked([1], "https://u:p@h/v1/n?b#part"), [2])
    async with client(api) as calls:
        await listed(calls.paginate("/n"))
    assert api.urls[1] == "https://h/v1/n?b"
    assert "Authorization" not in api.requests[1].headers


async def test_credentials_in_the_base_url_go_with_each_page_and_into_no_position() -> None:
    api = Api(
        linked([1], "?b"), linked([2], "https://x:y@h/v1/n?c"), linked([3], "https://x:y@other/n"), [4]
    )
    async with client(api, "https://ada:secret@h/v1") as calls:
        pages = calls.paginate("/n", origins="https://other")
        positions = [pages.next]
        async for _ in pages:
            positions.append(pages.next)
    sent = [each.headers.get("Authorization") for each in api.requests]
    assert sent == ["Basic YWRhOnNlY3JldA=="] * 3 + [None]
    assert positions == ["https://h/v1/n", "https://h/v1/n?b", "https://h/v1/n?c", "https://other/n", None]


@pytest.mark.parametrize("second", ["?b", "#b", "/v1/n"])
async def test_h6_5_a_url_that_was_there_before_ends_in_an_error(second: str) -> None:
    api = Api(linked([1], "?b"), linked([2], second), linked([3], "?b"))
    async with client(api) as calls:
        pages = calls.paginate("/n", items=body)
        assert [await anext(pages), await anext(pages)] == [1, 2]
        with pytest.raises(PaginationError, match="circle"):
            await anext(pages)
        with pytest.raises(PaginationError, match="circle") as again:
            await anext(pages)
    assert len(api.requests) == 2
    assert not pages.finished
    assert pages.next == "https://h/v1/n?b"
    assert again.value.details["url"] == "https://h/v1/n"
    assert again.value.status_code == 200


async def test_h6_5_a_cursor_that_was_there_before_ends_in_an_error() -> None:
    api = Api(*[{"data": [number], "next": "same"} for number in range(3)])
    async with client(api) as calls:
        pages = calls.paginate("/n", cursor="next", items="data")
        assert [await anext(pages), await anext(pages)] == [0, 1]
        with pytest.raises(PaginationError, match="circle"):
            await anext(pages)
    assert len(api.requests) == 2


@pytest.mark.parametrize("way", ["page", "offset"])
async def test_h6_5_a_server_that_ignores_the_number_ends_in_an_error(way: str) -> None:
    api = Api(*[[1, 2]] * 3)
    async with client(api) as calls:
        with pytest.raises(PaginationError, match="ignore the parameter 'n'"):
            await listed(calls.paginate("/n", **{way: "n"}))
    assert len(api.requests) == 2


async def test_h6_5_max_pages() -> None:
    api = Api(*[{"data": [number], "next": number + 1} for number in range(9)])
    async with client(api) as calls:
        pages = calls.paginate("/n", cursor="next", items="data", max_pages=3)
        assert await listed(pages) == [0, 1, 2]
        assert await listed(pages) == []
    assert len(api.requests) == 3
    assert not pages.finished
    assert pages.next == 3


async def test_h6_5_endless_pages_end_by_themselves() -> None:
    api = Api(*[{"next": number + 1} for number in range(1001)])
    async with client(api) as calls:
        assert len(await listed(calls.paginate("/n", cursor="next"))) == 1000


@pytest.mark.parametrize(
    ("most", "expected", "requests", "following"),
    [(0, [], 0, 1), (1, [1], 1, 1), (2, [1, 2], 1, 2), (3, [1, 2, 3], 2, 3), (9, [1, 2, 3], 3, None)],
)
async def test_h6_5_max_items(most: int, expected: list[int], requests: int, following: int | None) -> None:
    api = Api([1, 2], [3], [])
    async with client(api) as calls:
        pages = calls.paginate("/n", page="p", items=body, max_items=most)
        assert await listed(pages) == expected
    assert len(api.requests) == requests
    assert pages.next == following
    assert pages.finished == (following is None)


# --- Going on ---


async def test_it_goes_on_where_an_earlier_one_stopped() -> None:
    for options, pages in [
        ({}, [linked([1], "?b"), linked([2], "?c"), [3]]),
        (
            {"cursor": lambda page: page.headers.get("X-Next")},
            [(200, {"X-Next": "b"}, [1]), (200, {"X-Next": "c"}, [2]), [3]],
        ),
        ({"page": "p"}, [[1], [2], [3], []]),
        ({"offset": "o"}, [[1], [2], [3], []]),
    ]:
        api = Api(*pages)
        found: list[int] = []
        position: Any = None
        async with client(api) as calls:
            while True:
                some = calls.paginate("/n", items=body, max_pages=1, start=position, **options)
                found += await listed(some)
                if some.finished:
                    break
                position = json.loads(json.dumps(some.next))
        assert found == [1, 2, 3]
        assert len(set(api.urls)) == len(pages)


async def test_next_names_the_page_until_all_of_it_is_taken() -> None:
    api = Api({"data": [1, 2], "next": "b"}, {"data": [3]})
    async with client(api) as calls:
        pages = calls.paginate("/n", cursor="next", items="data")
        seen = [(pages.next, pages.finished)]
        async for _ in pages:
            seen.append((pages.next, pages.finished))
    assert seen == [(None, False), (None, False), ("b", False), (None, True)]
    api = Api(linked([1], "?b"), [2])
    async with client(api) as calls:
        assert calls.paginate("/n").next == "https://h/v1/n"


async def test_t30_a_retry_repeats_a_page_and_no_item() -> None:
    api = Api(linked([1, 2], "?b"), (503, {}, None), (503, {}, None), [3, 4])
    async with client(api, retry=retry(wait=0)) as calls:
        assert await listed(calls.paginate("/n", items=body)) == [1, 2, 3, 4]
    assert api.urls == ["https://h/v1/n", *["https://h/v1/n?b"] * 3]


@pytest.mark.real_time
async def test_h6_5_each_page_is_retried_by_itself_over_the_wire() -> None:
    async with http_server() as server:
        link = {"Link": "</n?page=2>; rel=next"}
        server.script(
            "/n", reset(), reply(200, link, b"[1]"), truncated(), reply(503), reply(200, {}, b"[2]")
        )
        async with ResilientClient(server.url, retry=retry(attempts=3, wait=0)) as calls:
            assert await listed(calls.paginate("/n", items=body)) == [1, 2]
        assert server.lines == ["GET /n", "GET /n", *["GET /n?page=2"] * 3]


@pytest.mark.real_time
async def test_h6_5_a_redirect_does_not_make_another_origin_the_own_one() -> None:
    async with http_server() as server, http_server() as other:
        server.script("/n", redirect(f"{other.url}/n"))
        other.script("/n", reply(200, {"Link": "</n?page=2>; rel=next"}, b"[1]"))
        async with ResilientClient(server.url, follow_redirects=True) as calls:
            with pytest.raises(PaginationError):
                await listed(calls.paginate("/n"))
        assert other.lines == ["GET /n"]


async def test_after_a_failure_the_same_object_goes_on() -> None:
    api = Api(linked([1], "?b"), (404, {}, None), {"no": "list"}, linked([2], "?c"), [3])
    async with client(api) as calls:
        pages = calls.paginate("/n", items=body)
        assert await anext(pages) == 1
        with pytest.raises(NotFoundError):
            await anext(pages)
        assert pages.next == "https://h/v1/n?b"
        with pytest.raises(PaginationError, match="no list of items where items= looks"):
            await anext(pages)
        assert await listed(pages) == [2, 3]


@pytest.mark.parametrize("status", [302, 304, 400, 404, 500])
async def test_a_page_that_is_no_success_is_an_error(status: int) -> None:
    for raises in (True, False):
        api = Api((status, {}, [1]))
        async with client(api, retry=None, raise_for_status=raises) as calls:
            with pytest.raises(StatusError) as caught:
                await listed(calls.paginate("/n"))
            assert caught.value.status_code == status


async def test_cancelled_anywhere_it_loses_nothing() -> None:
    for turns in range(40):
        release = asyncio.Event()
        api = Api(linked([1], "?b"), [2])

        async def answer(request: httpx.Request, api: Api = api, release: asyncio.Event = release) -> Any:
            await release.wait()
            await asyncio.sleep(0)
            return api(request)

        async with client(answer) as calls:
            pages = calls.paginate("/n", items=body)
            task = asyncio.ensure_future(anext(pages))
            for turn in range(turns):
                if turn == 3:
                    release.set()
                await asyncio.sleep(0)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            release.set()
            if outcome == 1:
                assert await listed(pages) == [2]
                break
            api.pages = [linked([1], "?b"), [2]]
            assert await listed(pages) == [1, 2]
    else:
        raise AssertionError("it never came to its end")


async def test_one_task_at_a_time() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1)
        return httpx.Response(200, json=[1])

    async with client(answer) as calls:
        pages = calls.paginate("/n")
        first = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0.5)
        with pytest.raises(RuntimeError, match="one task"):
            await anext(pages)
        assert (await first).json() == [1]


# --- Malformed pages ---


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"<html>", {"items": "data"}, "not JSON"),
        (b"\xff\xfe\xfd", {"items": "data"}, "not JSON"),
        (b"[" * 200_000, {"items": "data"}, "not JSON"),
        (b"9" * 5000, {"cursor": "next"}, "not JSON"),
        (b"[]", {"items": "data"}, "no list of items at 'data'"),
        (b"{}", {"items": "data"}, "no list of items at 'data'"),
        (b'{"data": "abc"}', {"items": "data"}, "no list"),
        (b'{"data": {"a": 1}}', {"items": "data"}, "no list"),
        (b'{"data": {"a": 1}}', {"items": "data.a.b"}, "no list"),
        (b'{"data": 7}', {"items": lambda page: page.json()["data"]}, "no list"),
        (b'{"data": "abc"}', {"items": lambda page: page.json()["data"]}, "no list"),
        (b"{}", {"page": "p"}, "items="),
        (b'{"next": {"a": 1}}', {"cursor": "next"}, "not dict"),
        (b'{"next": true}', {"cursor": "next"}, "not bool"),
        (b'{"next": 1.5}', {"cursor": "next"}, "not float"),
        (b'{"next": ["/a"]}', {"link": "next"}, "not list"),
        (b'{"next": "https://h:port/"}', {"link": "next"}, "no URL"),
    ],
)
async def test_malformed_pages(content: bytes, options: Any, message: str) -> None:
    async with client(lambda request: httpx.Response(200, content=content)) as calls:
        with pytest.raises(PaginationError, match=message) as caught:
            await listed(calls.paginate("/n?token=secret", **options))
    assert "secret" not in f"{caught.value}{caught.value.details}{caught.value!r}"
    assert caught.value.code == "pagination_error"


async def test_what_a_function_raises_passes() -> None:
    api = Api({"data": []}, {"data": [1]})
    async with client(api) as calls:
        pages = calls.paginate("/n", items=lambda page: [page.json()["data"][0]])
        with pytest.raises(IndexError):
            await anext(pages)
        assert await listed(pages) == [1]


# --- Arguments ---


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cursor": 7}, TypeError, "cursor must be a key"),
        ({"cursor": ""}, ValueError, "cursor must be a string that is not empty"),
        ({"link": ""}, ValueError, "link"),
        ({"link": b"next"}, TypeError, "link"),
        ({"page": 1}, TypeError, "page"),
        ({"page": ""}, ValueError, "page"),
        ({"offset": True}, TypeError, "offset"),
        ({"items": ["data"]}, TypeError, "items"),
        ({"items": ""}, ValueError, "items"),
        ({"cursor": "next", "cursor_parameter": ""}, ValueError, "cursor_parameter"),
        ({"max_pages": 0}, ValueError, "max_pages"),
        ({"max_pages": None}, TypeError, "max_pages"),
        ({"max_items": 3}, ValueError, "max_items needs items="),
        ({"max_items": -1, "items": "data"}, ValueError, "max_items"),
        ({"cursor": "next", "page": "p"}, ValueError, "cursor and page are different ways"),
        ({"offset": "next", "link": "p"}, ValueError, "offset and link"),
        ({"start": 7}, TypeError, "start"),
        ({"start": ""}, ValueError, "start"),
        ({"start": "https://evil/n?token=x"}, ValueError, "start must be a URL of https://h;"),
        ({"start": "7", "page": "p"}, TypeError, "start"),
        ({"start": -1, "page": "p"}, ValueError, "start"),
        ({"start": 1.5, "cursor": "next"}, TypeError, "start must be a cursor"),
        ({"start": "", "cursor": "next"}, TypeError, "start must be a cursor"),
        ({"start": True, "cursor": "next"}, TypeError, "start must be a cursor"),
        ({"params": {"p": "-1"}, "page": "p"}, ValueError, "parameter 'p' must be a whole number"),
        ({"origins": [7]}, TypeError, "origins"),
        ({"origins": "other"}, ValueError, "origins"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
async def test_arguments_are_checked_at_once(options: Any, error: type[Exception], message: str) -> None:
    async with client(Api()) as calls:
        with pytest.raises(error, match=message):
            calls.paginate("/n", **options)


async def test_async_functions_are_refused() -> None:
    async def later(page: Any) -> None: ...

    async with client(Api()) as calls:
        for name in ("items", "cursor", "link"):
            with pytest.raises(TypeError, match=f"{name} must be a function that is not async"):
                calls.paginate("/n", **{name: later})


async def test_an_error_leaves_no_cycle() -> None:
    api = Api(linked([1], "https://evil/"))
    async with client(api) as calls:
        gc.collect()
        pages = calls.paginate("/n")
        with pytest.raises(PaginationError):
            await listed(pages)
        del pages
        assert not [each for each in gc.get_objects() if isinstance(each, PaginationError)]
