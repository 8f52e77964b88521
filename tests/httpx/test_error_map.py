"""Problem details, an API's own classes of errors, and what errors tell of their call."""

import gzip
import json
import pickle
from typing import Any

import httpx
import pytest

from resilience import retry
from resilience_httpx import (
    NetworkError,
    NotFoundError,
    Problem,
    RateLimitError,
    RequestTimeoutError,
    ResilientClient,
    ServerError,
    StatusError,
    ValidationError,
)
from resilience_httpx._bodies import LONGEST_BODY, unpacked
from resilience_httpx._error_map import ErrorMap
from resilience_httpx._errors import status_error
from resilience_httpx._problem_details import document_of, error_codes, problem_of
from tests.support.http_server import http_server, reply

PROBLEM = {"Content-Type": "application/problem+json; charset=utf-8"}
OUT_OF_CREDIT = "https://example.com/probs/out-of-credit"


class MissingError(StatusError):
    default_code = "missing"


class CreditError(StatusError):
    pass


class OverloadedError(ServerError):
    pass


class Overloaded529Error(OverloadedError):
    pass


def client(answer: Any, **options: Any) -> ResilientClient:
    defaults = {"retry": retry(attempts=3, wait=0), "circuit_breaker": None, "raise_for_status": True}
    return ResilientClient("https://h", transport=httpx.MockTransport(answer), **{**defaults, **options})


def response(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(
        status, content=content, headers=headers, request=httpx.Request("GET", "https://h/a?b=c")
    )


# --- Problem details --------------------------------------------------------------------------------


def test_h4_6_problem_details() -> None:
    document = {
        "type": OUT_OF_CREDIT,
        "title": "No credit",
        "detail": "30",
        "instance": "/a/1",
        "balance": 30,
    }
    error = status_error(response(403, {**document, "status": 403}, PROBLEM))
    assert error.problem == Problem(OUT_OF_CREDIT, 403, "No credit", "30", "/a/1", {"balance": 30})
    assert "No credit" not in f"{error}{error!r}{error.details}"
    assert pickle.loads(pickle.dumps(error)).problem == error.problem


def test_h4_6_the_real_status_wins() -> None:
    assert problem_of(response(503, {"status": 200}, PROBLEM)).status == 503


def test_h4_6_members_of_the_wrong_type_are_ignored() -> None:
    wrong = {"type": 1, "title": ["x"], "detail": None, "instance": {}, "status": "x", "more": 1}
    assert problem_of(response(400, wrong, PROBLEM)) == Problem("about:blank", 400, extensions={"more": 1})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b'"' + b"x" * LONGEST_BODY + b'"',
    ],
)
def test_h4_6_a_malformed_or_endless_body_is_no_problem(body: bytes) -> None:
    error = status_error(response(400, body, PROBLEM))
    assert error.problem is None
    assert isinstance(ErrorMap({"x": MissingError}).error(error.response), ValidationError)


def test_h4_6_other_json_is_no_problem() -> None:
    assert status_error(response(400, {"title": "x"}, {"Content-Type": "application/json"})).problem is None
    assert status_error(response(400, {"title": "x"})).problem is None


async def test_h4_6_a_body_that_was_not_read_is_no_problem() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, headers=PROBLEM, stream=httpx.ByteStream(b'{"title": "x"}'))

    async with client(answer, raise_for_status=False) as calls, calls.stream("GET", "/") as streamed:
        assert problem_of(streamed) is None
        await streamed.aread()
        assert problem_of(streamed).title == "x"


@pytest.mark.parametrize(
    ("document", "codes"),
    [
        ({"code": "a"}, ["a"]),
        ({"error": "a", "error_description": "b"}, ["a"]),
        ({"error": {"code": "a", "type": "b", "message": "c"}}, ["a", "b"]),
        ({"type": "error", "error": {"type": "overloaded_error"}}, ["overloaded_error", "error"]),
        ({"errors": [{"code": "a"}, {"code": "b"}, "c"], "message": "d"}, ["a", "b"]),
        ({"code": 50035, "error_code": True, "errorCode": 1.5}, ["50035"]),
        ({"error": ["x"], "errors": "x"}, []),
        ([], []),
        (None, []),
    ],
)
def test_error_codes(document: Any, codes: list[str]) -> None:
    assert [*error_codes(document)] == codes


# --- Classes of one's own ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (404, {}, {}, MissingError),
        (410, {"code": "gone"}, {}, StatusError),
        (403, {"type": OUT_OF_CREDIT}, PROBLEM, CreditError),
        (404, {"type": OUT_OF_CREDIT}, PROBLEM, CreditError),
        (500, {"error": {"type": "overloaded"}}, {}, OverloadedError),
        (529, {"error": {"type": "overloaded"}}, {}, Overloaded529Error),
        (500, {"error": {"type": "other"}}, {}, ServerError),
        (422, b"not json", {}, ValidationError),
        (400, {"code": 7}, {}, CreditError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_h4_6_the_most_specific_key_wins(
    status: int, body: Any, headers: dict, kind: type[StatusError], stream: bool
) -> None:
    classes = {
        404: MissingError,
        "overloaded": OverloadedError,
        (529, "overloaded"): Overloaded529Error,
        OUT_OF_CREDIT: CreditError,
        "7": CreditError,
    }
    answer = response(status, body, headers)
    async with client(lambda _: response(status, body, headers), error_map=classes, retry=None) as calls:
        with pytest.raises(StatusError) as caught:
            await calls.send(calls.build_request("GET", "/"), stream=stream)
    assert type(caught.value) is kind
    assert isinstance(caught.value, httpx.HTTPStatusError)
    assert caught.value.response.content == answer.content
    assert pickle.loads(pickle.dumps(caught.value)).code == caught.value.code


@pytest.mark.real_time
@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
async def test_h4_6_on_sees_the_class_that_the_body_makes(encoding: str) -> None:
    """Also the body of an answer that will be thrown away, which is not unpacked but for its beginning."""
    import zlib

    body = json.dumps({"code": "overloaded"}).encode()
    packed = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[encoding]
    headers = {"Content-Encoding": encoding} if encoding else {}
    options: dict[str, Any] = {"raise_for_status": True, "error_map": {"overloaded": OverloadedError}}
    policy = retry(attempts=3, wait=0, on=OverloadedError)
    async with http_server() as server, ResilientClient(server.url, retry=policy, **options) as calls:
        server.script("/", reply(503, headers, packed), reply(503))
        with pytest.raises(ServerError) as caught:
            await calls.get("/")
        assert type(caught.value) is ServerError
        assert len(server.received) == 2
        server.script("/", *[reply(503, headers, packed)] * 3)
        with pytest.raises(OverloadedError):
            await calls.get("/")


def test_a_bomb_is_not_unpacked() -> None:
    def body(packed: bytes, encoding: str) -> bytes | None:
        return unpacked(packed, httpx.Headers({"Content-Encoding": encoding}))

    bomb = gzip.compress(b"x" * 10_000_000)
    assert len(body(bomb, "gzip") or b"") == LONGEST_BODY + 1
    assert body(b"not gzip", "gzip") is None
    assert body(b"x", "br") is None
    assert body(b"x", "identity") == body(b"x", "") == b"x"
    assert document_of(response(500, b"x" * (LONGEST_BODY + 1))) is None


async def test_a_class_from_the_body_keeps_what_the_error_had() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(b'{"code": "c"}')
        return httpx.Response(429, headers={"Retry-After": "99"}, stream=stream)

    async def body() -> Any:
        yield b"once"

    for classes, kind in (({"c": CreditError}, CreditError), ({"d": CreditError}, RateLimitError)):
        async with client(answer, error_map=classes) as calls:
            with pytest.raises(kind) as caught:
                async with calls.stream("PUT", "/", content=body()):
                    raise AssertionError
        assert caught.value.retry_after == 99
        assert "sent only once" in caught.value.__notes__[0]


async def test_a_status_that_a_hook_raises_is_mapped_too() -> None:
    async def hook(got: httpx.Response) -> None:
        got.raise_for_status()

    options = {"event_hooks": {"response": [hook]}, "error_map": {404: MissingError}}
    async with client(lambda _: httpx.Response(404), **options) as calls:
        with pytest.raises(MissingError):
            await calls.get("/")


class NeedsMoreError(StatusError):
    def __init__(self, message: str, *, request: Any, response: Any) -> None:
        super().__init__(message, request=request, response=response)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (1, TypeError, "error_map must be a mapping"),
        ({200: MissingError}, ValueError, "400 to 599.*got 200"),
        ({600: MissingError}, ValueError, "got 600"),
        ({True: MissingError}, TypeError, "got True"),
        ({"404": MissingError}, ValueError, "the number 404, got '404'"),
        ({"": MissingError}, ValueError, "error_map must be a string that is not empty"),
        ({(404,): MissingError}, TypeError, "pairs of both"),
        ({("a", 404): MissingError}, TypeError, "pairs of both"),
        ({(399, "a"): MissingError}, ValueError, "got 399"),
        ({None: MissingError}, TypeError, "got None"),
        ({404: ValueError}, TypeError, "subclasses of StatusError as values, got <class 'ValueError'>"),
        ({404: NotFoundError.__call__}, TypeError, "subclasses of StatusError"),
        (
            {404: NeedsMoreError},
            TypeError,
            "request= and response= alone: NeedsMoreError: missing.*'message'",
        ),
    ],
)
def test_a_bad_map_shows_when_the_client_is_made(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        client(None, error_map=given)


def test_a_map_without_raise_for_status_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="error_map needs raise_for_status=True"):
        client(None, error_map={404: MissingError}, raise_for_status=False)


# --- Details ----------------------------------------------------------------------------------------


async def test_details_tell_of_the_call() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/broken":
            raise httpx.ReadError("x")
        return httpx.Response(int(request.url.path[1:]))

    async with client(answer, retry=retry(attempts=3, wait=2)) as calls:
        for path, kind, attempts in (
            ("503", ServerError, 3),
            ("404", NotFoundError, 1),
            ("broken", NetworkError, 3),
        ):
            with pytest.raises(kind) as caught:
                await calls.delete(f"/{path}?secret=1")
            details = caught.value.details
            assert details["method"] == "DELETE"
            assert details["url"] == f"https://h/{path}"
            assert (details["attempts"], details["elapsed"]) == (attempts, 2.0 * (attempts - 1))


@pytest.mark.parametrize("raises", [False, True])
async def test_details_of_a_time_limit_and_of_a_rejection(raises: bool) -> None:
    import asyncio

    from resilience import CircuitBreakerOpenError, circuit_breaker

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    options = {"raise_for_status": raises, "total_timeout": 5, "circuit_breaker": circuit_breaker(1)}
    async with client(answer, attempt_timeout=2, **options) as calls:
        with pytest.raises(RequestTimeoutError) as caught:
            await calls.get("/")
        assert caught.value.details["attempts"] == 1
        assert caught.value.details["elapsed"] == 2
        with pytest.raises(CircuitBreakerOpenError) as open_circuit:
            await calls.get("/")
    details = open_circuit.value.details
    assert (details["attempts"], details["elapsed"], details["method"]) == (0, 0, "GET")
