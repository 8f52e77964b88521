"""Middleware, around calls and around attempts: its order, and what it may do."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest

from resilience import MetricsRegistry, RateLimitExceededError, rate_limited, retry, timeout
from resilience_httpx import (
    CallNext,
    NotFoundError,
    ResilientClient,
    ServerError,
    ServerLimits,
    add_request_id,
    log_requests,
    measure_requests,
)
from tests.support.http_server import http_server, reply


class Answers:
    """A transport's function: plays statuses, then 200; keeps the requests."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = [*statuses]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.statuses.pop(0) if self.statuses else 200, text=str(len(self.requests)))


def client(answer: Any, **options: Any) -> ResilientClient:
    defaults = {"retry": retry(attempts=3, wait=0), "circuit_breaker": None}
    return ResilientClient("https://h", transport=httpx.MockTransport(answer), **{**defaults, **options})


def noting(name: str, seen: list[str]) -> Any:
    async def middleware(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        seen.append(f"> {name}")
        try:
            return await call_next(request)
        finally:
            seen.append(f"< {name}")

    return middleware


async def test_the_order_per_call_and_per_attempt() -> None:
    seen: list[str] = []

    async def hook(request: httpx.Request) -> None:
        seen.append("hook")

    options = {
        "middleware": [noting("call 1", seen), noting("call 2", seen)],
        "attempt_middleware": [noting("attempt 1", seen), noting("attempt 2", seen)],
        "event_hooks": {"request": [hook]},
    }
    async with client(Answers(503), **options) as calls:
        await calls.get("/")
    attempt = ["> attempt 1", "> attempt 2", "hook", "< attempt 2", "< attempt 1"]
    assert seen == ["> call 1", "> call 2", *attempt, *attempt, "< call 2", "< call 1"]


async def test_calls_stand_outside_of_the_policies_and_attempts_inside() -> None:
    limit = rate_limited(1, per=60, max_wait=0)
    around_calls: list[str] = []
    around_attempts: list[str] = []
    options = {
        "rate_limit": limit,
        "middleware": [noting("c", around_calls)],
        "attempt_middleware": [noting("a", around_attempts)],
    }
    async with client(Answers(), **options) as calls:
        await calls.get("/")
        with pytest.raises(RateLimitExceededError):
            await calls.get("/")
    assert (len(around_calls), len(around_attempts)) == (4, 2)


@pytest.mark.parametrize("name", ["middleware", "attempt_middleware"])
async def test_it_may_answer_by_itself(name: str) -> None:
    async def answer(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        return httpx.Response(203, json={"from": "cache"})

    answers = Answers()
    async with client(answers, **{name: [answer]}) as calls:
        response = await calls.get("/x")
        async with calls.stream("GET", "/y") as streamed:
            assert await streamed.aread() == response.content
    assert (response.status_code, response.json(), answers.requests) == (203, {"from": "cache"}, [])
    assert response.request.url == "https://h/x"
    assert response.elapsed.total_seconds() == 0
    response.raise_for_status()


async def test_it_may_answer_with_an_earlier_response() -> None:
    kept: list[httpx.Response] = []

    async def keep(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        if not kept:
            kept.append(await call_next(request))
        return kept[0]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))

    async with client(answer, middleware=[keep]) as calls:
        first = await calls.get("/a")
        elapsed = first.elapsed
        again = await calls.get("/b")
    assert (again is first, again.elapsed, again.request.url.path) == (True, elapsed, "/b")


async def test_an_answer_to_an_attempt_is_judged_and_one_to_a_call_is_not() -> None:
    statuses = iter([503, 503, 404])

    async def answer(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        return httpx.Response(next(statuses, 404))

    async with client(Answers(), attempt_middleware=[answer], raise_for_status=True) as calls:
        with pytest.raises(NotFoundError):
            await calls.get("/")
    async with client(Answers(), middleware=[answer], raise_for_status=True) as calls:
        assert (await calls.get("/")).status_code == 404


@pytest.mark.parametrize("name", ["middleware", "attempt_middleware"])
async def test_it_may_call_next_twice(name: str) -> None:
    async def again(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        response = await call_next(request)
        return await call_next(request) if response.status_code == 418 else response

    answers = Answers(418)
    async with client(answers, **{name: [again]}) as calls:
        response = await calls.post("/", content=b"body")
    assert (response.status_code, response.text) == (200, "2")
    assert [each.content for each in answers.requests] == [b"body"] * 2


@pytest.mark.real_time
@pytest.mark.parametrize("name", ["middleware", "attempt_middleware"])
async def test_h1_2_what_it_does_not_return_costs_no_connection(name: str) -> None:
    async def wasteful(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        await call_next(request)
        await call_next(request)
        if request.url.path == "/raises":
            raise ValueError
        return httpx.Response(200)

    async with http_server() as server:
        options: dict[str, Any] = {"limits": httpx.Limits(max_connections=2), name: [wasteful]}
        async with ResilientClient(server.url, timeout=1, retry=None, **options) as calls:
            for path in ("/", "/raises", "/", "/raises"):
                server.script(path, *[reply(body=b"x" * 1_000_000)] * 2)
                with contextlib.suppress(ValueError):
                    async with calls.stream("GET", path):
                        pass
            assert server.lines == ["GET /"] * 2 + ["GET /raises"] * 2 + ["GET /"] * 2 + ["GET /raises"] * 2


class Body(httpx.AsyncByteStream, httpx2.AsyncByteStream):
    """A body that takes a turn of the loop to close; knows how many of its kind are open."""

    def __init__(self, open_bodies: list[object], fault: Exception | None = None) -> None:
        self.open_bodies = open_bodies
        self.fault = fault
        open_bodies.append(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"ok"

    async def aclose(self) -> None:
        try:
            await asyncio.sleep(0)
            if self.fault is not None:
                raise self.fault
        finally:
            self.open_bodies.remove(self)


async def call_three_times(request: httpx.Request, call_next: CallNext) -> httpx.Response:
    responses = [await call_next(request) for _ in range(3)]
    return responses[1]


@pytest.mark.parametrize("name", ["middleware", "attempt_middleware"])
async def test_h1_2_cancelled_at_any_turn_it_costs_no_connection(name: str) -> None:
    async def stream(calls: ResilientClient) -> None:
        async with calls.stream("GET", "/"):
            await asyncio.sleep(0)

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, stream=Body(open_bodies))

    turns, done = 0, False
    while not done:
        open_bodies: list[object] = []
        async with client(answer, **{name: [call_three_times]}) as calls:
            task = asyncio.create_task(stream(calls))
            for _ in range(turns):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            await asyncio.wait([task])
            assert open_bodies == [], f"after {turns} turns"
        turns += 1
    assert turns > 6


async def test_h1_2_a_body_that_cannot_be_closed_keeps_no_other_open() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Body(open_bodies, httpx.ReadError("x")))

    open_bodies: list[object] = []
    async with client(answer, middleware=[call_three_times]) as calls:
        with pytest.raises(httpx.ReadError):
            async with calls.stream("GET", "/"):
                raise AssertionError
    assert open_bodies == []


@pytest.mark.parametrize("name", ["middleware", "attempt_middleware"])
async def test_what_it_raises_is_raised(name: str) -> None:
    async def refuse(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        raise LookupError("not here")

    async with client(Answers(), **{name: [refuse]}) as calls:
        with pytest.raises(LookupError, match="not here"):
            await calls.get("/")


async def test_a_failure_of_the_network_that_it_raises_is_one() -> None:
    failures = iter([httpx.ReadError("x"), httpx.ConnectError("x")])

    async def fail(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        for failure in failures:
            raise failure
        return await call_next(request)

    answers = Answers()
    async with client(answers, attempt_middleware=[fail]) as calls:
        assert (await calls.get("/")).status_code == 200
    assert len(answers.requests) == 1


async def test_it_may_replace_the_request_of_an_attempt_and_the_next_starts_afresh() -> None:
    numbers = iter("12")

    async def sign(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        assert "signature" not in request.headers
        request.headers["seen"] = "yes"
        signed = type(request)(
            request.method, request.url, headers=request.headers, content=request.content
        )
        signed.headers["signature"] = next(numbers)
        return await call_next(signed)

    answers = Answers(503)
    async with client(answers, attempt_middleware=[sign]) as calls:
        response = await calls.put("/", content=b"body")
    assert [each.headers["signature"] for each in answers.requests] == ["1", "2"]
    assert [each.content for each in answers.requests] == [b"body"] * 2
    assert response.request.headers["signature"] == "2"


async def test_it_sees_the_body_of_an_attempt() -> None:
    bodies: list[str] = []

    async def read(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        response = await call_next(request)
        await response.aread()
        bodies.append(response.text)
        return response

    async with client(Answers(503), attempt_middleware=[read]) as calls:
        assert (await calls.get("/")).text == "2"
    assert bodies == ["1", "2"]


async def test_each_call_of_next_is_a_call_of_its_own() -> None:
    async def twice(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        await call_next(request)
        return await call_next(request)

    answers = Answers(503, 503, 503, 503)
    async with client(answers, middleware=[twice]) as calls:
        assert (await calls.get("/")).text == "5"


async def test_it_can_be_cancelled_and_timed_out() -> None:
    async def sleep(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        await asyncio.sleep(60)
        return await call_next(request)

    async with client(Answers(), attempt_middleware=[sleep], total_timeout=5) as calls:
        with pytest.raises(httpx.TimeoutException):
            await calls.get("/")
    async with client(Answers(), middleware=[sleep]) as calls:
        with pytest.raises(TimeoutError):
            await timeout(5).call(calls.get, "/")


async def test_a_middleware_that_returns_nothing_is_named() -> None:
    async def forgetful(request: httpx.Request, call_next: CallNext) -> Any:
        await call_next(request)

    async with client(Answers(), middleware=[forgetful]) as calls:
        with pytest.raises(
            TypeError, match=r"middleware .*forgetful must return a response, got a NoneType"
        ):
            await calls.get("/")


async def test_an_object_with_an_async_call_is_named_by_its_class() -> None:
    class Forgetful:
        async def __call__(self, request: httpx.Request, call_next: CallNext) -> Any:
            return 7

    async with client(Answers(), attempt_middleware=[Forgetful()]) as calls:
        with pytest.raises(TypeError, match=r"Forgetful must return a response, got a int"):
            await calls.get("/")


@pytest.mark.parametrize("name", ["middleware", "attempt_middleware"])
@pytest.mark.parametrize("given", [1, log_requests(), ["x"], [lambda request, call_next: None]])
def test_bad_input(name: str, given: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a list of async functions"):
        client(Answers(), **{name: given})


# --- Ready made -------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Any:
    from loguru import logger

    found: list[str] = []
    sink = logger.add(
        lambda text: found.append(str(text).strip()), format="{level} {message}", level="DEBUG"
    )
    yield found
    logger.remove(sink)


async def test_an_expected_status_is_no_error_whoever_raises_it(lines: list[str]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(int(request.url.path[1:]))

    options: dict[str, Any] = {"retry": None, "raise_for_status": True, "middleware": [log_requests()]}
    async with client(answer, **options) as calls:
        for path in ("404", "503"):
            with pytest.raises(httpx.HTTPStatusError):
                await calls.get(f"/{path}")
    assert [line.split()[0] for line in lines] == ["DEBUG", "WARNING", "DEBUG", "ERROR"]


@pytest.mark.real_time
def test_the_log_of_requests_is_part_of_ours() -> None:
    code = (
        "import asyncio, httpx\n"
        "from resilience import setup_logging\n"
        "from resilience_httpx import ResilientClient, log_requests\n"
        "setup_logging('INFO', json=True)\n"
        "async def main():\n"
        "    transport = httpx.MockTransport(lambda request: httpx.Response(204))\n"
        "    async with ResilientClient(transport=transport, middleware=[log_requests()]) as client:\n"
        "        await client.get('https://h/x?key=secret')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["level"], line["event"], line["status"]) == ("INFO", "request.answered", 204)
    assert (line["method"], line["url"]) == ("GET", "https://h/x")


async def test_h6_2_the_log_has_no_secrets(lines: list[str]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/broken":
            raise httpx.ReadError("the secret text")
        return httpx.Response(int(request.url.path[1:]))

    async with client(answer, retry=None, middleware=[log_requests("SUCCESS")]) as calls:
        for path in ("200", "404", "503"):
            await calls.get(
                f"https://secret:secret@h/{path}?key=secret", headers={"Authorization": "secret"}
            )
        with pytest.raises(httpx.ReadError):
            await calls.get("/broken")
    assert lines == [
        "DEBUG GET https://h/200 begins",
        "SUCCESS GET https://h/200 answered 200 after 0.000 s",
        "DEBUG GET https://h/404 begins",
        "WARNING GET https://h/404 answered 404 after 0.000 s",
        "DEBUG GET https://h/503 begins",
        "ERROR GET https://h/503 answered 503 after 0.000 s",
        "DEBUG GET https://h/broken begins",
        "ERROR GET https://h/broken failed with ReadError after 0.000 s",
    ]


async def test_b17_metrics() -> None:
    registry = MetricsRegistry()

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(2)
        if request.method == "PUT":
            raise httpx.ReadError("x")
        return httpx.Response(404)

    async with client(answer, retry=None, middleware=[measure_requests(registry)]) as calls:
        await calls.get("/a?secret=1")
        await calls.request("BREW", "/b")
        with pytest.raises(httpx.ReadError):
            await calls.put("/c")
        with pytest.raises(TimeoutError):
            await timeout(1).call(calls.get, "/")
    snapshot = registry.snapshot()
    counts = {
        (each["labels"]["method"], each["labels"]["outcome"]): each["value"]
        for each in snapshot["resilience.http.requests"]["series"]
    }
    assert counts == {("GET", "404"): 1, ("OTHER", "404"): 1, ("PUT", "error"): 1, ("GET", "abandoned"): 1}
    assert "secret" not in str(snapshot)
    assert {each["labels"]["origin"] for each in snapshot["resilience.http.duration"]["series"]} == {
        "https://h"
    }


async def test_a_request_id_is_the_same_for_a_call_or_new_for_an_attempt() -> None:
    for name, ids in (("middleware", 1), ("attempt_middleware", 2)):
        answers = Answers(503)
        async with client(answers, **{name: [add_request_id()]}) as calls:
            request = calls.build_request("GET", "/")
            await calls.send(request)
            first = {each.headers["x-request-id"] for each in answers.requests}
            assert len(first) == ids
            assert "x-request-id" not in request.headers
            await calls.get("/", headers={"X-Request-ID": "mine"})
            assert answers.requests[-1].headers["x-request-id"] == "mine"


async def test_a_request_id_of_ones_own() -> None:
    answers = Answers()
    async with client(answers, middleware=[add_request_id("trace", lambda: "t1")]) as calls:
        await calls.get("/")
    assert answers.requests[0].headers["trace"] == "t1"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: log_requests(3), TypeError),
        (lambda: log_requests(""), ValueError),
        (lambda: measure_requests("x"), TypeError),
        (lambda: add_request_id(""), ValueError),
        (lambda: add_request_id("x", "y"), TypeError),
    ],
)
def test_bad_input_of_those_ready_made(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_loguru_is_not_imported_for_it() -> None:
    import subprocess
    import sys

    code = "import sys, resilience_httpx as r; r.log_requests(); print('loguru' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    assert run.stdout.strip() == "False"


async def test_a_middleware_sees_errors_as_the_caller_does() -> None:
    seen: list[BaseException] = []

    async def look(request: httpx.Request, call_next: CallNext) -> httpx.Response:
        try:
            return await call_next(request)
        except Exception as error:
            seen.append(error)
            raise

    async with client(Answers(500, 500, 500), middleware=[look], raise_for_status=True) as calls:
        with pytest.raises(ServerError) as caught:
            await calls.get("/")
    assert seen == [caught.value]
    seen.clear()
    limits = ServerLimits()
    assert limits.snapshot() == []
