"""What is sent again: judged by what the server received."""

import asyncio
import gzip
import io
import ssl
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest

from resilience import CallTimeoutError, CircuitBreakerOpenError, CircuitState, circuit_breaker, retry
from resilience_httpx import CallNext, ResilientClient, ResilientTransport
from resilience_httpx._errors import client_error, status_error
from resilience_httpx._sending import is_replayable, may_be_sent_again
from tests.support.http_server import (
    Server,
    Step,
    drip,
    garbage,
    hang_up,
    http_server,
    never,
    redirect,
    reply,
    reset,
    truncated,
)

TWICE = retry(attempts=2, wait=0)


def client(server: Server, **options: object) -> ResilientClient:
    return ResilientClient(
        server.url, **{"retry": retry(attempts=3, wait=0), "circuit_breaker": None, **options}
    )


# --- Methods and failures ---------------------------------------------------------------------------

IDEMPOTENT = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"]
OTHERS = ["POST", "PATCH", "LINK"]
AMBIGUOUS = {
    "503": reply(503),
    "reset": reset(),
    "reset after headers": reset(after_headers=True),
    "truncated": truncated(),
    "hang up": hang_up,
    "garbage": garbage,
}


@pytest.mark.real_time
@pytest.mark.parametrize("failure", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_t30_after_an_ambiguous_failure_only_idempotent_methods_are_sent_again(failure: Step) -> None:
    for method in ["GET", "PUT", "POST"]:
        async with http_server() as server, client(server) as calls:
            server.script("/", failure)
            try:
                response = await calls.request(method, "/", content=b"body")
            except httpx.TransportError:
                response = None
            again = method != "POST"
            assert [each.method for each in server.received] == [method] * (2 if again else 1)
            assert {each.body for each in server.received} == {b"body"}
            assert (response is not None and response.status_code == 200) is again


@pytest.mark.parametrize("method", [*IDEMPOTENT, *OTHERS])
def test_t30_methods(method: str) -> None:
    request = httpx.Request(method, "https://h/")
    again = method in IDEMPOTENT
    assert may_be_sent_again(httpx.ReadError("x"), request, request) is again
    assert may_be_sent_again(httpx.ConnectError("x"), request, request) is True


@pytest.mark.parametrize("method", OTHERS)
def test_t30_an_idempotency_key_makes_a_method_idempotent(method: str) -> None:
    for key, again in (("abc", True), ("", False)):
        request = httpx.Request(method, "https://h/", headers={"idempotency-key": key})
        assert may_be_sent_again(httpx.ReadError("x"), request, request) is again


@pytest.mark.real_time
async def test_t30_the_idempotency_key_is_the_same_in_every_attempt() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", reply(503), reset())
        response = await calls.post("/", headers={"Idempotency-Key": "abc"}, json=[1])
        assert response.status_code == 200
        assert [(each.headers["idempotency-key"], each.body) for each in server.received] == [
            ("abc", b"[1]")
        ] * 3


@pytest.mark.real_time
async def test_t30_an_idempotency_key_that_a_hook_makes_each_time_protects_from_nothing() -> None:
    numbers = iter("abc")

    async def add_key(request: httpx.Request) -> None:
        request.headers["Idempotency-Key"] = next(numbers)

    async with http_server() as server, client(server, event_hooks={"request": [add_key]}) as calls:
        server.script("/", reply(503))
        assert (await calls.post("/")).status_code == 503
        assert [each.headers["idempotency-key"] for each in server.received] == ["a"]


@pytest.mark.parametrize(
    ("status", "again"),
    [
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504, *range(520, 525), 529)),
        *((status, False) for status in (200, 304, 400, 404, 409, 413, 421, 501, 505, 525, 530, 599)),
    ],
)
async def test_statuses(status: int, again: bool) -> None:
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(status, text=str(len(calls)))

    async with ResilientClient("https://h", retry=TWICE, transport=httpx.MockTransport(answer)) as http:
        response = await http.get("/")
    assert len(calls) == (2 if again else 1)
    assert (response.status_code, response.text) == (status, str(len(calls)))


@pytest.mark.real_time
@pytest.mark.parametrize("backend", ["httpx", "aiohttp"])
async def test_what_came_too_early_was_not_processed_so_any_method_is_sent_again(backend: str) -> None:
    async with http_server() as server, client(server, backend=backend) as calls:
        server.script("/", reply(425))
        assert (await calls.post("/", content=b"body")).status_code == 200
        assert [(each.method, each.body) for each in server.received] == [("POST", b"body")] * 2


@pytest.mark.real_time
async def test_only_the_first_attempt_can_have_come_too_early() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/post", reply(425), reply(425))
        assert (await calls.post("/post")).status_code == 425
        server.script("/get", reply(503), reply(425))
        assert (await calls.get("/get")).status_code == 425
        assert server.lines == ["POST /post"] * 2 + ["GET /get"] * 2


@pytest.mark.real_time
async def test_too_early_after_a_redirect_says_nothing_of_the_request_before_it() -> None:
    async with http_server() as server, client(server, follow_redirects=True) as calls:
        server.script("/", redirect("/done", 303))
        server.script("/done", reply(425))
        assert (await calls.post("/")).status_code == 425
        assert server.lines == ["POST /", "GET /done"]


@pytest.mark.real_time
async def test_h1_3_what_came_too_early_is_sent_once_if_its_body_cannot_be_replayed() -> None:
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", reply(425))
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await calls.post("/", content=generator())
        assert any("sent only once" in note for note in caught.value.__notes__)
        assert len(server.received) == 1


@pytest.mark.real_time
async def test_statuses_of_proxies_prove_nothing_so_a_post_is_not_sent_again() -> None:
    async with http_server() as server, client(server) as calls:
        for status in (*range(520, 525), 529):
            server.script("/", reply(status))
            assert (await calls.post("/")).status_code == status
        assert server.lines == ["POST /"] * 6


# Not sent again, whatever the method: the class alone is the wrong question.
LOCAL = [
    httpx.UnsupportedProtocol("x"),
    httpx.LocalProtocolError("x"),
    httpx.InvalidURL("x"),
    httpx.TooManyRedirects("x"),
    httpx.StreamConsumed(),
    httpx.DecodingError("x"),
    UnicodeEncodeError("ascii", "é", 0, 1, "x"),
    RuntimeError("x"),
    FileNotFoundError("x"),
    client_error(CircuitBreakerOpenError(), httpx.Request("GET", "https://h"), typed=False),
]
AMBIGUOUS_ERRORS = [
    httpx.ReadTimeout("x"),
    httpx.WriteTimeout("x"),
    httpx.ReadError("x"),
    httpx.WriteError("x"),
    httpx.RemoteProtocolError("x"),
    httpx.ProxyError("x"),
    httpx.TransportError("x"),
    CallTimeoutError("x"),
    ssl.SSLError("x"),
    ConnectionResetError("x"),
]
NOT_SENT = [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x")]


def kind(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", LOCAL, ids=kind)
def test_h1_4_local_faults_are_never_sent_again(error: Exception) -> None:
    for method in ("GET", "POST"):
        request = httpx.Request(method, "https://h")
        assert not may_be_sent_again(error, request, request)


@pytest.mark.parametrize("error", AMBIGUOUS_ERRORS, ids=kind)
def test_h1_4_ambiguous_failures_allow_idempotent_methods(error: Exception) -> None:
    get, post = httpx.Request("GET", "https://h"), httpx.Request("POST", "https://h")
    assert may_be_sent_again(error, get, get)
    assert not may_be_sent_again(error, post, post)


@pytest.mark.parametrize("error", NOT_SENT, ids=kind)
def test_h1_4_what_was_not_sent_may_be_sent_again(error: Exception) -> None:
    post = httpx.Request("POST", "https://h")
    assert may_be_sent_again(error, post, post)


def test_h1_4_after_a_redirect_a_failed_connection_proves_nothing() -> None:
    post = httpx.Request("POST", "https://h")
    error = httpx.ConnectError("x", request=httpx.Request("POST", "https://other"))
    assert not may_be_sent_again(error, post, post)


@pytest.mark.real_time
async def test_h1_4_a_post_that_was_answered_is_not_sent_again_whatever_follows() -> None:
    async def hook(response: httpx.Response) -> None:
        raise httpx.ConnectError("the log is down")

    async def naming(response: httpx.Response) -> None:
        raise httpx.ConnectError("the log is down", request=response.request)

    async def middleware(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        await call_next(request)
        raise httpx.PoolTimeout("the log is down")

    for options in (
        {"event_hooks": {"response": [hook]}},
        {"event_hooks": {"response": [naming]}},
        {"attempt_middleware": [middleware]},
    ):
        async with http_server() as server, client(server, **options) as calls:
            with pytest.raises(httpx.TransportError):
                await calls.post("/", content=b"body")
            assert server.lines == ["POST /"]


@pytest.mark.real_time
async def test_h1_4_a_post_that_was_answered_through_a_transport_is_not_sent_again(package) -> None:
    async def middleware(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        await call_next(request)
        raise httpx.PoolTimeout("the log is down")

    transport = ResilientTransport(retry=retry(attempts=3, wait=0), attempt_middleware=[middleware])
    async with http_server() as server, package.AsyncClient(transport=transport) as calls:
        with pytest.raises(httpx.PoolTimeout):
            await calls.post(server.url, content=b"body")
        assert server.lines == ["POST /"]


async def test_h1_4_what_an_earlier_attempt_was_answered_says_nothing_of_the_last() -> None:
    faults = iter([None, httpx.ConnectError("x")])
    answers = iter([425])

    async def middleware(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        if fault := next(faults, None):
            raise fault
        return await call_next(request)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(next(answers, 200))

    async with ResilientClient(
        "https://h",
        transport=httpx.MockTransport(answer),
        retry=retry(attempts=3, wait=0),
        attempt_middleware=[middleware],
    ) as calls:
        assert (await calls.post("/")).status_code == 200


async def test_h1_4_what_a_middleware_did_not_send_may_be_sent_again() -> None:
    faults = [httpx.ConnectError("x"), httpx.PoolTimeout("x")]
    sent: list[str] = []

    async def middleware(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        if faults:
            raise faults.pop()
        return await call_next(request)

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(200)

    async with ResilientClient(
        "https://h",
        transport=httpx.MockTransport(answer),
        retry=retry(attempts=3, wait=0),
        attempt_middleware=[middleware],
    ) as calls:
        assert (await calls.post("/")).status_code == 200
    assert sent == ["POST"]


@pytest.mark.real_time
async def test_h1_4_after_a_redirect_a_post_is_not_sent_again() -> None:
    async with http_server() as server, client(server, follow_redirects=True) as calls:
        server.script("/", redirect("http://127.0.0.1:1/"))  # nobody listens there
        with pytest.raises(httpx.ConnectError):
            await calls.post("/", content=b"body")
        assert server.lines == ["POST /"]


@pytest.mark.real_time
async def test_h1_4_a_refused_connection_is_tried_again_with_any_method() -> None:
    attempts = 0

    async def count(request: httpx.Request) -> None:
        nonlocal attempts
        attempts += 1

    async with ResilientClient(
        "http://127.0.0.1:1", retry=TWICE, event_hooks={"request": [count]}
    ) as calls:
        with pytest.raises(httpx.ConnectError):
            await calls.post("/", content=b"body")
    assert attempts == 2


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("url", "headers", "error"),
    [
        ("ftp://h/", {}, httpx.UnsupportedProtocol),
        ("/relative", {}, httpx.UnsupportedProtocol),
        ("http://127.0.0.1:1/", {"X": "a\nb"}, httpx.LocalProtocolError),
    ],
)
async def test_h1_4_real_local_faults(url: str, headers: dict[str, str], error: type[Exception]) -> None:
    attempts = 0

    async def count(request: httpx.Request) -> None:
        nonlocal attempts
        attempts += 1

    async with http_server() as server:
        async with ResilientClient(retry=TWICE, event_hooks={"request": [count]}) as calls:
            with pytest.raises(error):
                await calls.get(url.replace("http://127.0.0.1:1", server.url), headers=headers)
        assert (attempts, server.received) == (1, [])


@pytest.mark.real_time
async def test_h1_2_an_exhausted_pool_is_tried_again_and_is_no_fault_of_the_server() -> None:
    limits = httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(5, pool=0.01)
    breaker = circuit_breaker(1)
    async with (
        http_server() as server,
        client(server, limits=limits, timeout=timeout, circuit_breaker=breaker) as calls,
    ):
        async with calls.stream("GET", "/holds-the-connection"):
            for _ in range(5):
                with pytest.raises(httpx.PoolTimeout) as caught:
                    await calls.post("/")
                assert "gave up after 3 attempts" in caught.value.__notes__[0]
        assert breaker.state is CircuitState.CLOSED
        assert (await calls.get("/")).status_code == 200
        assert server.lines == ["GET /holds-the-connection", "GET /"]


# --- The aiohttp backend ----------------------------------------------------------------------------


@pytest.mark.real_time
@pytest.mark.parametrize("failure", [hang_up, reset()], ids=["hang up", "reset"])
async def test_h8_1_with_aiohttp_a_post_that_may_have_arrived_is_not_sent_again(failure: Step) -> None:
    async with http_server() as server:
        async with client(server, backend="aiohttp") as calls:
            server.script("/", failure)
            with pytest.raises(httpx.TransportError):
                await calls.post("/", content=b"body")
        assert server.lines == ["POST /"]


@pytest.mark.real_time
async def test_h8_1_with_aiohttp_a_refused_connection_is_tried_again() -> None:
    async with ResilientClient(backend="aiohttp", retry=TWICE) as calls:
        with pytest.raises(httpx.ConnectError) as caught:
            await calls.post("http://127.0.0.1:1/")
    assert "gave up after 2 attempts" in caught.value.__notes__[0]


def test_h8_3_errors_of_aiohttp_that_leak_are_faults_of_the_wire() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    error = aiohttp.http_exceptions.BadStatusLine("SSH-2.0")
    get, post = httpx.Request("GET", "https://h"), httpx.Request("POST", "https://h")
    assert may_be_sent_again(error, get, get)
    assert not may_be_sent_again(error, post, post)


# --- Bodies -----------------------------------------------------------------------------------------


class Once:
    """An iterator object that is empty the second time."""

    def __init__(self) -> None:
        self.chunks = [b"body"]

    def __aiter__(self) -> "Once":
        return self

    async def __anext__(self) -> bytes:
        if not self.chunks:
            raise StopAsyncIteration
        return self.chunks.pop()


class AsyncFile:
    def __init__(self) -> None:
        self.file = io.BytesIO(b"body")

    def __aiter__(self) -> "AsyncFile":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aread(self, size: int) -> bytes:
        return self.file.read(size)


async def generator() -> AsyncIterator[bytes]:
    yield b"body"


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


NOT_REPLAYABLE = pytest.mark.parametrize(
    "make",
    [
        lambda: {"content": Once()},
        lambda: {"content": AsyncFile()},
        lambda: {"content": generator()},
        lambda: {"files": {"f": Pipe(b"body")}},
    ],
    ids=["exhausted iterator", "async file", "generator", "pipe part"],
)


@pytest.mark.real_time
@pytest.mark.parametrize(
    "options",
    [
        {"content": b"body"},
        {"content": "body"},
        {"json": {"a": 1}},
        {"data": {"a": "1"}},
        {"files": {"f": b"body"}},
        {"files": {"f": ("name", "body", "text/plain")}},
        {"data": {"a": ["1", "2"]}, "files": {"f": io.BytesIO(b"body")}},
        {},
    ],
    ids=["bytes", "text", "json", "form", "bytes part", "text part", "seekable part", "none"],
)
async def test_h1_3_a_body_that_can_be_replayed_arrives_whole_each_time(options: dict) -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", reply(503), truncated())
        response = await calls.put("/", **options)
        assert response.status_code == 200
        first, *others = server.received
        assert [each.body for each in others] == [first.body] * 2
        assert len(first.body) == int(first.headers.get("content-length", 0))


@pytest.mark.real_time
@NOT_REPLAYABLE
@pytest.mark.parametrize("failure", [reply(503), reset()], ids=["503", "reset"])
async def test_b18_h1_3_a_body_that_cannot_is_sent_once(make, failure: Step) -> None:
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", failure)
        with pytest.raises(httpx.HTTPError) as caught:
            await calls.put("/", **make())
        assert any("sent only once" in note for note in caught.value.__notes__)
        assert len(server.received) == 1
        assert b"body" in server.received[0].body


@pytest.mark.real_time
async def test_b18_h1_3_the_response_to_a_body_that_is_sent_once_is_returned() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", reply(503, body=b"later"))
        response = await calls.put("/", content=generator())
        assert (response.status_code, response.text, len(server.received)) == (503, "later", 1)


@pytest.mark.real_time
@NOT_REPLAYABLE
@pytest.mark.parametrize("backend", ["httpx", "aiohttp"])
async def test_h1_3_a_redirect_does_not_send_a_cut_off_body(make, backend: str) -> None:
    for method in ("PUT", "POST"):
        for status in (307, 308):
            async with (
                http_server() as server,
                client(server, backend=backend, follow_redirects=True) as calls,
            ):
                server.script("/", redirect("/b", status))
                with pytest.raises(httpx.StreamConsumed) as caught:
                    await calls.request(method, "/", **make())
                assert any("sent only once" in note for note in caught.value.__notes__)
                assert server.lines == [f"{method} /"]
                assert b"body" in server.received[0].body
                assert server.connections == 1, "not even the headers were sent"


@pytest.mark.real_time
@NOT_REPLAYABLE
async def test_h1_3_a_digest_does_not_send_a_cut_off_body(make) -> None:
    digest = {"WWW-Authenticate": 'Digest realm="x", nonce="n", algorithm=MD5'}
    async with http_server() as server, client(server, auth=httpx.DigestAuth("a", "b")) as calls:
        server.script("/", reply(401, digest))
        with pytest.raises(httpx.StreamConsumed):
            await calls.put("/", **make())
        assert server.lines == ["PUT /"]
        assert (await calls.get("/")).status_code == 200


@pytest.mark.real_time
async def test_h1_3_a_redirect_that_drops_the_body_is_followed() -> None:
    async with http_server() as server, client(server, follow_redirects=True) as calls:
        server.script("/", redirect("/b", 303))
        assert (await calls.put("/", content=Once())).status_code == 200
        assert [(each.method, each.body) for each in server.received] == [("PUT", b"body"), ("GET", b"")]
        server.script("/", redirect("/b"))
        response = await calls.put("/", content=Once(), follow_redirects=False)
        assert response.status_code == 307
        assert response.next_request is not None
        with pytest.raises(httpx.StreamConsumed):
            await calls.send(response.next_request)


@pytest.mark.real_time
async def test_h1_3_a_redirect_above_a_transport_does_not_send_a_cut_off_body(package) -> None:
    async with (
        http_server() as server,
        package.AsyncClient(transport=ResilientTransport(), follow_redirects=True) as calls,
    ):
        server.script("/", redirect("/b"))
        with pytest.raises(httpx.StreamConsumed):
            await calls.put(server.url, content=Once())
        assert server.lines == ["PUT /"]


def test_h1_3_a_stream_of_ones_own_is_not_replayable() -> None:
    assert not is_replayable(httpx.Request("PUT", "https://h", stream=httpx.AsyncByteStream()))


@pytest.mark.real_time
async def test_h1_3_the_note_is_only_for_failures_that_allow_a_retry() -> None:
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", reply(404))
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await calls.put("/", content=generator())
        assert not getattr(caught.value, "__notes__", [])


# --- Responses --------------------------------------------------------------------------------------


@pytest.mark.real_time
async def test_t31_when_attempts_run_out_the_last_response_is_returned() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", *(reply(503, {"X-Number": str(n)}, f"no {n}".encode()) for n in (1, 2, 3)))
        response = await calls.get("/")
        assert (response.status_code, response.text, response.headers["X-Number"]) == (503, "no 3", "3")
        assert response.elapsed.total_seconds() >= 0
        assert len(server.received) == 3


@pytest.mark.real_time
async def test_h1_2_retries_use_the_same_connection() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", reply(503, body=b"x" * 60_000), reply(500, body=b""))
        await calls.get("/")
        assert (len(server.received), server.connections) == (3, 1)


@pytest.mark.real_time
@pytest.mark.parametrize("stream", [False, True])
async def test_h1_2_a_long_body_that_nobody_wants_is_not_read(stream: bool) -> None:
    async with http_server() as server, client(server, limits=httpx.Limits(max_connections=1)) as calls:
        server.script("/", reply(503, body=b"x" * 10_000_000))
        response = await calls.send(calls.build_request("GET", "/"), stream=stream)
        assert await response.aread() == b"ok"
        assert (len(server.received), server.connections) == (2, 2)


@pytest.mark.real_time
async def test_h1_2_a_body_that_breaks_off_while_it_is_held_is_a_failure_of_the_attempt() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", *[truncated(503)] * 3)
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await calls.get("/")
        assert caught.value.request.url == f"{server.url}/"
        assert len(server.received) == 3


@pytest.mark.real_time
async def test_h1_2_a_long_body_that_is_wanted_is_whole() -> None:
    body = bytes(range(256)) * 1000
    async with http_server() as server, client(server) as calls:
        server.script("/", *[reply(503, body=body)] * 6)
        assert (await calls.get("/")).content == body
        async with calls.stream("GET", "/") as response:
            assert b"".join([chunk async for chunk in response.aiter_raw()]) == body
        await calls.get("/")
        assert server.open_connections == 1


@pytest.mark.real_time
async def test_h1_2_a_compressed_body_that_nobody_wants_is_not_unpacked() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", *[reply(503, {"Content-Encoding": "gzip"}, b"not gzip")] * 2)
        assert (await calls.get("/")).status_code == 200
        server.script("/", *[reply(503, {"Content-Encoding": "gzip"}, gzip.compress(b"later"))] * 3)
        assert (await calls.get("/")).text == "later"


@pytest.mark.real_time
async def test_a_streamed_response_is_left_to_the_caller() -> None:
    rest = asyncio.Event()
    async with http_server() as server, client(server) as calls:
        server.script("/", reply(503), drip(rest))
        async with calls.stream("GET", "/") as response:
            assert response.status_code == 200
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"h"
            rest.set()
            assert b"".join([chunk async for chunk in chunks]) == b"alf"
        assert (len(server.received), server.connections) == (2, 1)


@pytest.mark.real_time
async def test_the_last_streamed_response_can_still_be_read() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", *[reply(503, body=b"later")] * 3, reply(404, body=b"gone"))
        async with calls.stream("GET", "/") as response:
            assert (response.status_code, await response.aread()) == (503, b"later")
        async with calls.stream("GET", "/") as response:
            assert (response.status_code, await response.aread()) == (404, b"gone")


@pytest.mark.real_time
async def test_a_streamed_error_that_is_raised_brings_its_body() -> None:
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", reply(404, body=b"gone"), reply(404, body=b"x" * 1_000_000))
        with pytest.raises(httpx.HTTPStatusError) as caught:
            async with calls.stream("GET", "/"):
                raise AssertionError
        assert caught.value.response.text == "gone"
        with pytest.raises(httpx.HTTPStatusError) as caught:
            async with calls.stream("GET", "/"):
                raise AssertionError
        assert caught.value.response.is_closed
        with pytest.raises(httpx.ResponseNotRead):
            _ = caught.value.response.text


@pytest.mark.real_time
async def test_h6_4_a_streamed_error_that_is_raised_is_not_unpacked_without_limit() -> None:
    gzipped = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(b"x" * 50_000_000)
    assert len(bomb) < 64 * 1024
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", reply(404, gzipped, bomb), reply(404, gzipped, gzip.compress(b"gone")))
        tracemalloc.start()
        try:
            with pytest.raises(httpx.HTTPStatusError) as caught:
                async with calls.stream("GET", "/"):
                    raise AssertionError
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
        with pytest.raises(httpx.ResponseNotRead):
            _ = caught.value.response.text
        with pytest.raises(httpx.HTTPStatusError) as caught:
            async with calls.stream("GET", "/"):
                raise AssertionError
        assert caught.value.response.text == "gone"


@pytest.mark.real_time
async def test_an_error_that_is_raised_does_not_hide_behind_its_broken_body() -> None:
    async with http_server() as server, client(server, retry=None, raise_for_status=True) as calls:
        server.script("/", reply(503, {"Content-Encoding": "gzip"}, b"not gzip"))
        with pytest.raises(httpx.DecodingError):
            await calls.get("/")
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", *[reply(503, {"Content-Encoding": "gzip"}, b"not gzip")] * 3)
        with pytest.raises(httpx.HTTPStatusError):
            await calls.get("/")


@pytest.mark.real_time
async def test_cookies_that_a_failed_attempt_brought_are_sent_by_the_next() -> None:
    async with http_server() as server:
        async with client(server, cookies={"old": "1"}) as calls:
            server.script("/", reply(503, {"Set-Cookie": "session=2"}), reply(503))
            await calls.get("/", headers={"X": "y"})
            server.script("/", reply(503, {"Set-Cookie": "session=3"}))
            await calls.get("/", headers={"Cookie": "own=1"})
            server.script("/", reply(503, {"Set-Cookie": "own=; Max-Age=0"}))
            await calls.get("/", headers={"Cookie": "own=1"})
        cookies = [set(each.headers.get("cookie", "").split("; ")) for each in server.received]
        assert cookies[0] == {"old=1"}
        assert cookies[1] == cookies[2] == {"old=1", "session=2"}
        assert cookies[3] == {"own=1"}
        assert cookies[4] == {"own=1", "session=3"}
        assert cookies[6] == {""}


@pytest.mark.real_time
@pytest.mark.parametrize("failure", [reply(503), truncated()], ids=["503", "truncated"])
async def test_cookies_of_redirects_on_the_way_to_a_failure_are_sent_by_the_next(failure: Step) -> None:
    async with http_server() as server, client(server, follow_redirects=True) as calls:
        server.script("/", reply(307, {"Location": "/b", "Set-Cookie": "hop=1"}, b""))
        server.script("/b", failure)
        await calls.get("/")
        assert [(each.path, each.headers.get("cookie")) for each in server.received] == [
            ("/", None),
            ("/b", "hop=1"),
            ("/", "hop=1"),
        ]


@pytest.mark.real_time
async def test_cookies_of_a_response_whose_body_broke_off_are_sent_by_the_next() -> None:
    async with http_server() as server, client(server) as calls:
        server.script("/", reply(200, {"Set-Cookie": "a=1"}, b"half", announced=9, then_close=True))
        await calls.get("/")
        assert [each.headers.get("cookie") for each in server.received] == [None, "a=1"]


@pytest.mark.real_time
async def test_a_cookie_of_the_callers_is_kept_where_one_of_its_name_is_set_for_another_place() -> None:
    own = {"Cookie": "session=mine; b=2"}
    async with http_server() as server, http_server() as other:
        elsewhere = redirect(other.url.replace("127.0.0.1", "localhost"))
        for told in ("session=x", "session=; Max-Age=0"):
            async with client(server, follow_redirects=True) as calls:
                server.script("/", elsewhere)
                other.script("/", reply(503, {"Set-Cookie": told}))
                await calls.get("/", headers=own)
        async with client(server) as calls:
            server.script("/", reply(503, {"Set-Cookie": "session=x; Path=/elsewhere"}))
            await calls.get("/", headers=own)
        assert [each.headers["cookie"] for each in server.received] == ["session=mine; b=2"] * 6


@pytest.mark.real_time
async def test_event_hooks_run_in_each_attempt_and_may_raise() -> None:
    seen: list[object] = []

    async def before(request: httpx.Request) -> None:
        seen.append(request.method)

    async def after(response: httpx.Response) -> None:
        seen.append(response.status_code)
        response.raise_for_status()

    async with http_server() as server:
        async with client(server, event_hooks={"request": [before], "response": [after]}) as calls:
            server.script("/", reply(503), reply(404))
            with pytest.raises(httpx.HTTPStatusError) as caught:
                await calls.get("/")
        assert caught.value.response.status_code == 404
        assert seen == ["GET", 503, "GET", 404]


def test_an_error_of_a_hook_is_typed_if_asked_for() -> None:
    request = httpx.Request("GET", "https://h")
    response = httpx.Response(404, request=request)
    raised = httpx.HTTPStatusError("x", request=request, response=response)
    assert type(client_error(raised, request, typed=True)) is type(status_error(response))


@pytest.mark.real_time
async def test_a_timeout_of_an_attempt_is_ambiguous() -> None:
    async with http_server() as server:
        async with client(server, attempt_timeout=0.25) as calls:
            server.script("/", drip(asyncio.Event()))
            assert (await calls.get("/")).status_code == 200
            server.script("/", never)
            with pytest.raises(CallTimeoutError) as caught:
                await calls.post("/")
        assert isinstance(caught.value, httpx.TimeoutException)
        assert server.lines == ["GET /"] * 2 + ["POST /"]


# --- Long bodies in a backoff -----------------------------------------------------------------------


@pytest.mark.real_time
async def test_h1_2_a_long_body_costs_no_connection_in_the_backoff() -> None:
    async with (
        http_server() as server,
        client(
            server, retry=retry(attempts=2, wait=0.3), limits=httpx.Limits(max_connections=1), timeout=0.2
        ) as calls,
    ):
        server.script("/", reply(503, body=b"x" * 10_000_000))
        waiting = asyncio.create_task(calls.get("/"))
        await server.arrived.wait()
        await asyncio.sleep(0.05)
        assert (await calls.get("/other")).status_code == 200
        assert server.lines == ["GET /", "GET /other"]
        assert (await waiting).status_code == 200


@pytest.mark.real_time
@pytest.mark.parametrize("raises", [False, True])
async def test_h1_2_a_long_body_that_was_given_up_for_an_attempt_that_is_refused(raises: bool) -> None:
    options = {"retry": retry(attempts=3, wait=0.05), "circuit_breaker": circuit_breaker(1)}
    async with http_server() as server, client(server, raise_for_status=raises, **options) as calls:
        server.script("/", reply(503, body=b"x" * 1_000_000))
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await calls.get("/")
        assert caught.value.response.status_code == 503
        assert any("given up" in note for note in caught.value.__notes__)


@pytest.mark.real_time
async def test_h1_2_strategies_that_may_wait_keep_a_long_body() -> None:
    async def stop(state: object) -> bool:
        await asyncio.sleep(0.01)
        return True

    body = b"x" * 1_000_000
    async with http_server() as server, client(server, retry=retry(stop=stop, wait=0)) as calls:
        server.script("/", reply(503, body=body))
        assert (await calls.get("/")).content == body


async def test_h1_2_a_retry_with_rules_of_its_own_gives_up_a_long_body_too() -> None:
    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):
            for _ in range(10):
                yield b"x" * 50_000

        async def aclose(self) -> None:
            closed.append(asyncio.get_running_loop().time())

    closed: list[float] = []
    statuses = iter([503, 200, 503])

    def answer(request: httpx.Request) -> httpx.Response:
        status = next(statuses, 200)
        return httpx.Response(status, stream=Body()) if status == 503 else httpx.Response(200)

    for on_result in (None, lambda response: response.status_code == 503):
        options = {"retry": retry(attempts=2, wait=10, on=httpx.HTTPError, on_result=on_result)}
        transport = httpx.MockTransport(answer)
        async with ResilientClient("https://h", transport=transport, **options) as http:
            started = asyncio.get_running_loop().time()
            assert (await http.get("/")).status_code == 200
            assert closed[0] == started
            closed.clear()


@pytest.mark.real_time
async def test_h1_2_the_long_body_of_the_last_answer_is_kept_for_its_error() -> None:
    body = b"x" * 1_000_000
    async with http_server() as server, client(server, raise_for_status=True) as calls:
        server.script("/", *[reply(503, body=body)] * 3)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await calls.get("/")
        assert caught.value.response.content == body
