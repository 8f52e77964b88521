"""Idempotency keys: judged by what the server received."""

from typing import Any

import httpx
import pytest

from resilience import retry
from resilience_httpx import IdempotencyKey, ResilientClient
from tests.support.http_server import http_server, reply, reset


class Answers:
    def __init__(self, *statuses: int) -> None:
        self.statuses = [*statuses]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.statuses.pop(0) if self.statuses else 200)

    def keys(self, header: str = "idempotency-key") -> list[str | None]:
        return [each.headers.get(header) for each in self.requests]


def client(answer: Any, **options: Any) -> ResilientClient:
    defaults = {"retry": retry(attempts=3, wait=0), "circuit_breaker": None}
    return ResilientClient("https://h", transport=httpx.MockTransport(answer), **{**defaults, **options})


@pytest.mark.real_time
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_h4_6_one_key_per_call_the_same_in_all_attempts(method: str) -> None:
    options: dict[str, Any] = {"retry": retry(attempts=3, wait=0), "idempotency_key": True}
    async with http_server() as server, ResilientClient(server.url, **options) as calls:
        server.script("/", reply(503), reset())
        for _ in range(2):
            assert (await calls.request(method, "/", json=[1])).status_code == 200
        keys = [each.headers["idempotency-key"] for each in server.received]
        assert len(keys) == 4
        assert keys[0] == keys[1] == keys[2] != keys[3]
        assert len(keys[0]) == 36
        assert {each.body for each in server.received} == {b"[1]"}


async def test_h4_6_a_conflict_with_an_earlier_attempt_that_still_runs_is_waited_out() -> None:
    answers = Answers(503, 409)
    async with client(answers, idempotency_key=True) as calls:
        assert (await calls.post("/")).status_code == 200
        assert len({*answers.keys()}) == 1
        assert len(answers.requests) == 3
        answers.statuses = [503, 409, 409]
        assert (await calls.post("/")).status_code == 409


async def test_h4_6_any_other_conflict_is_final() -> None:
    for options, headers, statuses in (
        ({"idempotency_key": True}, {}, [409]),  # no earlier attempt
        ({}, {"Idempotency-Key": "mine"}, [503, 409]),  # who made the key may know of more calls with it
        ({"idempotency_key": True}, {}, [503, 422]),
    ):
        answers = Answers(*statuses)
        async with client(answers, **options) as calls:
            assert (await calls.post("/", headers=headers)).status_code == statuses[-1]
        assert len(answers.requests) == len(statuses)


async def test_h4_6_the_same_request_object_sent_twice_is_two_calls() -> None:
    answers = Answers()
    async with client(answers, idempotency_key=True) as calls:
        request = calls.build_request("POST", "/")
        await calls.send(request)
        await calls.send(request)
    assert len({*answers.keys()}) == 2
    assert "idempotency-key" not in request.headers


async def test_h4_6_the_caller_may_supply_one() -> None:
    answers = Answers(503)
    async with client(answers, idempotency_key=True) as calls:
        await calls.post("/", headers={"Idempotency-Key": "mine"})
        await calls.post("/", extensions={"idempotency_key": "for this call"})
        await calls.get("/", extensions={"idempotency_key": "even here"})
        await calls.post("/", extensions={"idempotency_key": None})
    assert answers.keys() == ["mine", "mine", "for this call", "even here", None]


async def test_without_a_key_for_this_call_it_is_sent_once() -> None:
    answers = Answers(503)
    async with client(answers, idempotency_key=True) as calls:
        assert (await calls.post("/", extensions={"idempotency_key": None})).status_code == 503
    assert len(answers.requests) == 1


async def test_a_key_for_one_call_needs_no_option() -> None:
    answers = Answers(503)
    async with client(answers) as calls:
        assert (await calls.post("/", extensions={"idempotency_key": "abc"})).status_code == 200
        await calls.post("/")
    assert answers.keys() == ["abc", "abc", None]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "LINK"])
async def test_only_the_methods_that_need_one_get_one(method: str) -> None:
    answers = Answers()
    async with client(answers, idempotency_key=True) as calls:
        await calls.request(method, "/")
    assert answers.keys() == [None]


async def test_methods_of_ones_own() -> None:
    answers = Answers(503)
    async with client(answers, idempotency_key=IdempotencyKey(methods=["link"])) as calls:
        assert (await calls.request("LINK", "/")).status_code == 200
        await calls.post("/")
    assert answers.keys()[0] is not None
    assert answers.keys()[2] is None


async def test_h4_6_a_header_of_ones_own_lets_it_be_sent_again() -> None:
    answers = Answers(503, 200, 503)
    async with client(answers, idempotency_key="X-Key") as calls:
        assert (await calls.post("/")).status_code == 200
        assert (await calls.post("/", headers={"X-Key": "mine"})).status_code == 200
    keys = answers.keys("x-key")
    assert (keys[0], keys[2:]) == (keys[1], ["mine", "mine"])
    assert answers.keys() == [None] * 4


async def test_h4_6_quoted_as_the_draft_has_it() -> None:
    answers = Answers()
    async with client(answers, idempotency_key=IdempotencyKey(quoted=True)) as calls:
        await calls.post("/", extensions={"idempotency_key": 'a"b\\c'})
    assert answers.keys() == ['"a\\"b\\\\c"']


async def test_a_function_makes_it_of_the_request() -> None:
    answers = Answers(503)
    made: list[httpx.Request] = []

    def key(request: httpx.Request) -> str:
        made.append(request)
        return f"order-{request.url.path[1:]}"

    async with client(answers, idempotency_key=key) as calls:
        await calls.post("/17")
    assert (answers.keys(), len(made)) == (["order-17", "order-17"], 1)


async def test_hooks_see_the_key_and_the_number_of_the_attempt() -> None:
    seen: list[tuple[Any, Any]] = []

    async def look(request: httpx.Request) -> None:
        seen.append(
            (request.extensions["idempotency_key"], request.extensions.get("resilience.attempt", 1))
        )

    answers = Answers(503, 503)
    async with client(answers, idempotency_key=lambda _: "k", event_hooks={"request": [look]}) as calls:
        await calls.post("/")
    assert seen == [("k", 1), ("k", 2), ("k", 3)]


async def test_the_server_sees_the_number_of_the_attempt_if_asked_for() -> None:
    for options, expected in (({}, [None, None]), ({"attempt_header": "X-Attempt"}, ["1", "2"])):
        answers = Answers(503)
        async with client(answers, **options) as calls:
            await calls.get("/")
        assert answers.keys("x-attempt") == expected


async def test_a_middleware_that_calls_next_twice_sends_the_same_key() -> None:
    async def again(request: httpx.Request, call_next: Any) -> httpx.Response:
        await call_next(request)
        return await call_next(request)

    answers = Answers()
    async with client(answers, idempotency_key=True, middleware=[again]) as calls:
        await calls.post("/")
    assert len({*answers.keys()}) == 1


async def test_a_body_that_cannot_be_replayed_is_sent_once_all_the_same() -> None:
    async def body() -> Any:
        yield b"once"

    answers = Answers(503)
    async with client(answers, idempotency_key=True) as calls:
        assert (await calls.post("/", content=body())).status_code == 503


@pytest.mark.parametrize("key", [1, "", "x" * 256, " a", "a\r\nb", "é", b"a"])
async def test_a_bad_key_shows_at_once_and_not_in_the_error(key: Any) -> None:
    answers = Answers()
    async with client(answers, idempotency_key=lambda _: key) as calls:
        with pytest.raises((TypeError, ValueError), match="an idempotency key must be") as caught:
            await calls.post("/")
    assert answers.requests == []
    assert "xxxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"idempotency_key": 1}, TypeError, "idempotency_key must be True, the name of a header"),
        ({"idempotency_key": ""}, ValueError, "header must be"),
        ({"attempt_header": ""}, ValueError, "attempt_header must be"),
        ({"attempt_header": 1}, TypeError, "attempt_header must be"),
    ],
)
def test_bad_input(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        client(Answers(), **options)


@pytest.mark.parametrize(
    "options", [{"make": 1}, {"quoted": 1}, {"methods": "POST"}, {"methods": [1]}, {"header": 1}]
)
def test_bad_input_of_the_key(options: dict) -> None:
    with pytest.raises(TypeError):
        IdempotencyKey(**options)


async def test_false_is_off() -> None:
    answers = Answers()
    async with client(answers, idempotency_key=False) as calls:
        await calls.post("/")
    assert answers.keys() == [None]
    assert repr(IdempotencyKey()) == "IdempotencyKey(header='Idempotency-Key', quoted=False)"


async def test_h4_6_a_saved_500_is_not_asked_for_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(500, headers={"Idempotent-Replayed": "true"} if len(requests) > 1 else {})

    requests: list[httpx.Request] = []
    async with client(answer, idempotency_key=True) as calls:
        assert (await calls.post("/")).status_code == 500
    assert len(requests) == 2
