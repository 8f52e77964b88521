"""While nothing fails, the client is an ``httpx.AsyncClient`` to the last detail that a user can see."""

import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from resilience_httpx import ResilientClient
from tests.support.http_server import Server, garbage, http_server, redirect, reply, truncated

pytestmark = pytest.mark.real_time


async def chunks() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


# --- What a user does -------------------------------------------------------------------------------


async def get(calls: httpx.AsyncClient, server: Server) -> Any:
    return await calls.get(
        "/a?x=1", params={"y": "2"}, headers={"A": "b"}, cookies={"k": "v"}, extensions={"my": 1}
    )


async def send(calls: httpx.AsyncClient, server: Server) -> Any:
    request = calls.build_request("POST", "/a", json={"a": 1})
    response = await calls.send(request)
    return response, request, response.request is request


async def send_a_stream_of_ones_own(calls: httpx.AsyncClient, server: Server) -> Any:
    request = calls.build_request("PUT", "/a", content=chunks())
    return await calls.send(request), request


async def send_a_form(calls: httpx.AsyncClient, server: Server) -> Any:
    boundary = {"Content-Type": "multipart/form-data; boundary=xx"}
    return await calls.post("/a", files={"f": io.BytesIO(b"body")}, headers=boundary)


async def send_and_stream(calls: httpx.AsyncClient, server: Server) -> Any:
    request = calls.build_request("GET", "/a")
    response = await calls.send(request, stream=True)
    before = facts(response)
    await response.aread()
    await response.aclose()
    return before, response


async def leave_a_stream_early(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", reply(body=b"x" * 1_000_000))
    async with calls.stream("GET", "/a") as response:
        await anext(response.aiter_raw(1000))
    return response.is_closed, await calls.get("/b"), server.connections


async def follow_redirects(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", reply(302, {"Location": "/b", "Set-Cookie": "s=1"}, b"moved"))
    server.script("/b", redirect("/c"))
    response = await calls.get("/a", follow_redirects=True)
    return response, dict(calls.cookies)


async def follow_redirects_by_hand(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", redirect("/b"))
    response = await calls.get("/a")
    assert response.next_request is not None
    return response, response.next_request, await calls.send(response.next_request)


async def go_round_in_circles(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", *[redirect("/a")] * 30)
    return await calls.get("/a", follow_redirects=True)


async def ask_for_what_is_not_there(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", reply(404, body=b"gone"), reply(503, body=b"later"), reply(404, body=b"gone"))
    responses = [await calls.get("/a"), await calls.post("/a")]
    async with calls.stream("GET", "/a") as streamed:
        before = facts(streamed)
        await streamed.aread()
    responses[0].raise_for_status()
    return [*responses, before, streamed]


async def look_only(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", reply(headers={"Content-Length": "5"}, body=b""))
    return await calls.head("/a")


async def use_a_closed_client(calls: httpx.AsyncClient, server: Server) -> Any:
    await calls.aclose()
    await calls.get("/a")


async def make_a_mistake(calls: httpx.AsyncClient, server: Server) -> Any:
    return await calls.get("ftp://h/")


async def send_a_sync_file(calls: httpx.AsyncClient, server: Server) -> Any:
    return await calls.put("/a", content=io.BytesIO(b"body"))


async def be_cut_short(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", truncated())
    return await calls.post("/a")


async def be_told_nonsense(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", garbage)
    return await calls.post("/a")


async def be_given_a_broken_body(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", reply(headers={"Content-Encoding": "gzip"}, body=b"not gzip"))
    return await calls.get("/a")


async def be_challenged(calls: httpx.AsyncClient, server: Server) -> Any:
    server.script("/a", reply(401, {"WWW-Authenticate": 'Digest realm="r", nonce="n"'}, b"who?"))
    response = await calls.get("/a", auth=httpx.DigestAuth("u", "p"))
    return response.history[0], response.status_code, server.lines, server.connections


def signed(request: httpx.Request) -> httpx.Request:
    request.headers["Signature"] = "s"
    return request


USES = [
    get,
    send,
    send_a_stream_of_ones_own,
    send_a_form,
    send_and_stream,
    leave_a_stream_early,
    follow_redirects,
    follow_redirects_by_hand,
    go_round_in_circles,
    ask_for_what_is_not_there,
    look_only,
    use_a_closed_client,
    make_a_mistake,
    send_a_sync_file,
    be_cut_short,
    be_told_nonsense,
    be_given_a_broken_body,
    be_challenged,
]


# --- What a user sees -------------------------------------------------------------------------------


def facts(seen: Any) -> Any:
    """Everything that shows from outside, as plain data."""
    if isinstance(seen, (list, tuple)):
        return [facts(each) for each in seen]
    if isinstance(seen, httpx.Request):
        body = getattr(seen, "_content", None)
        return [seen.method, str(seen.url), seen.headers.raw, seen.extensions, type(seen.stream), body]
    if isinstance(seen, httpx.Response):
        return {
            "request": facts(seen.request),
            "status": (seen.status_code, seen.reason_phrase, seen.http_version),
            "headers": seen.headers.raw,
            "extensions": sorted(seen.extensions),
            "history": facts(seen.history),
            "next": facts(seen.next_request),
            "body": getattr(seen, "_content", None),
            "read": (seen.is_closed, seen.is_stream_consumed, seen.num_bytes_downloaded),
            "stream": type(seen.stream),
            "elapsed": hasattr(seen, "_elapsed"),
        }
    if isinstance(seen, BaseException):
        request = getattr(seen, "_request", None)
        chain = type(seen.__cause__), getattr(seen, "__notes__", None)
        return [type(seen), str(seen), facts(request), chain]
    return seen


async def seen_with(
    kind: Callable[..., httpx.AsyncClient], use: Callable[..., Awaitable[Any]], **more: Any
) -> str:
    trace: list[Any] = []

    async def note(message: httpx.Request | httpx.Response) -> None:
        trace.append(facts(message))

    async with http_server() as server:
        async with kind(
            base_url=server.url, event_hooks={"request": [note], "response": [note]}, **more
        ) as calls:
            try:
                trace.append(facts(await use(calls, server)))
            except Exception as error:
                trace.append(facts(error))
            trace.append(calls.is_closed)
        received = [(each.method, each.path, each.headers, each.body) for each in server.received]
    return re.sub(r"127\.0\.0\.1:\d+", "h", f"{trace} {received}")


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_what_is_seen_is_what_httpx_shows(use: Callable[..., Awaitable[Any]]) -> None:
    assert await seen_with(ResilientClient, use) == await seen_with(httpx.AsyncClient, use)


@pytest.mark.parametrize("auth", [("u", "p"), "httpx.BasicAuth", signed], ids=repr)
@pytest.mark.parametrize(
    "use", [send, follow_redirects, follow_redirects_by_hand], ids=lambda use: use.__name__
)
async def test_with_credentials_too(use: Callable[..., Awaitable[Any]], auth: Any) -> None:
    auth = httpx.BasicAuth("u", "p") if auth == "httpx.BasicAuth" else auth
    assert await seen_with(ResilientClient, use, auth=auth) == await seen_with(
        httpx.AsyncClient, use, auth=auth
    )
