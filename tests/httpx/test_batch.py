"""Many requests at once: all results, in order, and nothing that runs on."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from resilience import retry, timeout
from resilience_httpx import BatchResults, NotFoundError, ResilientClient
from tests.support.http_server import http_server, reply, reset
from tests.support.virtual_time import now

Handler = Callable[[httpx.Request], Any]


class Api:
    """Takes as many seconds as the path says, and counts what runs at the same time."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.running = self.most = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(f"{request.method} {request.url.path}")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(float(request.url.path.strip("/")))
        finally:
            self.running -= 1
        if "fail" in request.url.params:
            raise httpx.ConnectError("no")
        return httpx.Response(int(request.url.params.get("status", 200)), text=request.url.path)


def client(answer: Handler, **options: Any) -> ResilientClient:
    options = {"retry": None, "circuit_breaker": None, **options}
    return ResilientClient("https://h", transport=httpx.MockTransport(answer), **options)


def nobody_else_runs() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_results_come_in_the_order_of_the_requests() -> None:
    api = Api()
    async with client(api) as calls:
        results = await calls.batch(["/3", "/1", "/2"])
    assert [result.index for result in results] == [0, 1, 2]
    assert [response.text for response in results.responses] == ["/3", "/1", "/2"]
    assert [result.get().text for result in results] == ["/3", "/1", "/2"]
    assert isinstance(results, BatchResults)
    assert results.errors == {}
    results.raise_errors()
    assert now() == 3


async def test_or_as_they_complete() -> None:
    found = []
    async with client(Api()) as calls:
        async for result in calls.batch(["/3", "/1", "/2"]):
            found.append((now(), result.index, result.request, result.get().text))
    assert found == [(1, 1, "/1", "/1"), (2, 2, "/2", "/2"), (3, 0, "/3", "/3")]


async def test_h6_2_a_result_shows_nothing_of_its_request() -> None:
    async with client(lambda _: httpx.Response(200)) as calls:
        secrets = {"headers": {"Authorization": "Bearer s3cret"}, "json": {"password": "s3cret"}}
        results = await calls.batch([("POST", "/u", secrets), "/x?api_key=s3cret"])
    assert "s3cret" not in repr(results)
    assert results[0].request == ("POST", "/u", secrets)


async def test_a_request_can_be_given_in_several_ways() -> None:
    seen: list[tuple[str, str, bytes, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(
            (request.method, str(request.url), request.content, request.headers.get("authorization"))
        )
        return httpx.Response(200)

    async with client(answer) as calls:
        given = [
            calls.build_request("PUT", "/a", content=b"x"),
            "/b",
            httpx.URL("https://h/c"),
            ("DELETE", "/d"),
            ["PATCH", httpx.URL("/e")],
            ("POST", "/f", {"json": [1], "auth": ("u", "p"), "params": {"q": 1}}),
        ]
        results = await calls.batch(given, max_concurrent=1)
    assert [result.request for result in results] == given
    assert seen == [
        ("PUT", "https://h/a", b"x", None),
        ("GET", "https://h/b", b"", None),
        ("GET", "https://h/c", b"", None),
        ("DELETE", "https://h/d", b"", None),
        ("PATCH", "https://h/e", b"", None),
        ("POST", "https://h/f?q=1", b"[1]", "Basic dTpw"),
    ]


@pytest.mark.parametrize("most", [1, 2, 5, 50])
async def test_never_more_tasks_than_allowed(most: int) -> None:
    api = Api()
    tasks = []

    async def counting(request: httpx.Request) -> httpx.Response:
        tasks.append(len(asyncio.all_tasks()))
        return await api(request)

    async with client(counting) as calls:
        await calls.batch([f"/{1 + index % 3}" for index in range(20)], max_concurrent=most)
    assert api.most == min(most, 20)
    assert max(tasks) <= 1 + min(most, 20)


async def test_five_by_default() -> None:
    api = Api()
    async with client(api) as calls:
        await calls.batch(["/1"] * 12)
    assert api.most == 5
    assert now() == 3


async def test_a_slot_is_filled_before_the_caller_is_done_with_a_result() -> None:
    async with client(Api()) as calls:
        async for _ in calls.batch(["/1"] * 4, max_concurrent=1):
            await asyncio.sleep(1)
    assert now() == 5


async def test_an_iterator_is_asked_only_when_there_is_room() -> None:
    asked: list[float] = []

    def endless() -> Iterator[str]:
        while True:
            asked.append(now())
            yield "/1"

    async with client(Api()) as calls:
        batch = calls.batch(endless(), max_concurrent=2)
        assert asked == []
        async with batch:
            async for _ in batch:
                if now() == 3:
                    break
                await asyncio.sleep(1)
        assert len(asked) < 10
        assert nobody_else_runs()


async def test_nothing_in_nothing_out() -> None:
    async with client(Api()) as calls:
        assert await calls.batch([]) == ()
        assert [each async for each in calls.batch(iter(()))] == []


# --- Errors ---


async def test_errors_are_kept_apart_and_none_is_lost() -> None:
    async with client(Api()) as calls:
        results = await calls.batch(["/3", "/1?fail", "/2?status=500", "https://h:port/", "/1?fail"])
    assert [result.error is None for result in results] == [True, False, True, False, False]
    assert [response.status_code for response in results.responses] == [200, 500]
    assert {index: type(error) for index, error in results.errors.items()} == {
        1: httpx.ConnectError,
        3: httpx.InvalidURL,
        4: httpx.ConnectError,
    }
    assert results[1].response is None
    with pytest.raises(httpx.ConnectError):
        results[1].get()
    with pytest.raises(ExceptionGroup, match="3 of 5 requests failed") as caught:
        results.raise_errors()
    assert len(caught.value.exceptions) == 3


async def test_error_statuses_are_errors_if_the_client_raises_them() -> None:
    async with client(Api(), raise_for_status=True) as calls:
        results = await calls.batch(["/1", "/1?status=404"])
    assert [*results.errors] == [1]
    assert isinstance(results.errors[1], NotFoundError)


async def test_fail_fast_raises_the_first_error_and_ends_the_rest() -> None:
    for consume in (_all, _as_completed):
        api = Api()
        began = now()
        async with client(api) as calls:
            batch = calls.batch(["/1", "/9", "/2?fail", "/9", "/9", "/9"], max_concurrent=3, fail_fast=True)
            with pytest.raises(httpx.ConnectError):
                await consume(batch)
            assert nobody_else_runs()
        assert now() - began == 2
        assert api.running == 0
        assert len(api.seen) == 4


async def test_each_request_is_retried() -> None:
    replies: dict[str, int] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        replies[request.url.path] = replies.get(request.url.path, 0) + 1
        return httpx.Response(503 if replies[request.url.path] < 3 else 200)

    async with client(answer, retry=retry(attempts=3, wait=1)) as calls:
        results = await calls.batch(["/a", "/b"])
    assert [response.status_code for response in results.responses] == [200, 200]


@pytest.mark.real_time
async def test_over_the_wire() -> None:
    async with http_server() as server:
        server.script("/3", reset(), reset(), reset())
        server.script("/5", reply(404))
        async with ResilientClient(
            server.url, retry=retry(attempts=2, wait=0), circuit_breaker=None
        ) as calls:
            results = await calls.batch([("GET", f"/{number}") for number in range(20)], max_concurrent=4)
        assert [*results.errors] == [3]
        assert [each.response.status_code for each in results if each.response] == [200] * 4 + [404] + [
            200
        ] * 14
        assert len(server.received) == 21
        assert server.connections <= 8


# --- Progress ---


async def test_progress() -> None:
    seen: list[tuple[int, int | None]] = []
    async with client(Api()) as calls:
        await calls.batch(
            ["/1", "/2?fail", "/3"], on_progress=lambda done, total: seen.append((done, total))
        )
        await calls.batch(iter(["/1"]), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3), (1, None)]


async def test_t72_what_the_progress_callback_raises_ends_the_batch() -> None:
    api = Api()

    def fail(done: int, total: int | None) -> None:
        raise ZeroDivisionError

    async with client(api) as calls:
        with pytest.raises(ZeroDivisionError):
            await calls.batch(["/1", "/9", "/9"], on_progress=fail)
        assert nobody_else_runs()
    assert now() == 1


# --- Ends ---


@pytest.mark.parametrize("consume", ["all", "as completed"])
async def test_t9_cancelled_at_any_moment_nothing_runs_on(consume: str) -> None:
    consumer = _all if consume == "all" else _as_completed
    for turns in range(200):
        api = Api()

        async def answer(request: httpx.Request, api: Api = api) -> httpx.Response:
            await asyncio.sleep(0)
            return await api(request)

        async with client(answer) as calls:
            task = asyncio.ensure_future(consumer(calls.batch(["/0"] * 6, max_concurrent=2)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert nobody_else_runs()
            assert api.running == 0
            if not isinstance(outcome, asyncio.CancelledError):
                assert len(outcome) == 6
                return
    raise AssertionError("it never came to its end")


async def _all(batch: Any) -> Any:
    return await batch


async def _as_completed(batch: Any) -> Any:
    return [each async for each in batch]


async def test_t9_cancelled_again_while_its_requests_end() -> None:
    ended: list[float] = []

    async def stubborn(request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(5)
            ended.append(now())
        return httpx.Response(200)

    async with client(stubborn) as calls:
        task = asyncio.ensure_future(_all(calls.batch(["/", "/"])))
        await asyncio.sleep(1)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(1)
        assert not task.done()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [6, 6]
        assert nobody_else_runs()


async def test_a_time_limit_around_it_ends_all() -> None:
    api = Api()
    async with client(api) as calls:
        with pytest.raises(TimeoutError):
            await timeout(2).call(_all, calls.batch(["/1", "/9", "/9"]))
        assert nobody_else_runs()
    assert api.running == 0


async def test_a_loop_that_is_left_early_ends_the_rest() -> None:
    api = Api()
    async with client(api) as calls:
        async with calls.batch(["/1", "/9", "/9"]) as results:
            async for _ in results:
                break
        assert nobody_else_runs()
        assert api.running == 0
        async for _ in calls.batch(["/1", "/9", "/9"]):
            break
        await asyncio.sleep(1)
        assert nobody_else_runs()
    assert now() == 3


async def test_a_block_without_a_loop_sends_nothing() -> None:
    api = Api()
    async with client(api) as calls, calls.batch(["/1"]):
        pass
    assert api.seen == []


async def test_it_can_be_used_once() -> None:
    async with client(Api()) as calls:
        batch = calls.batch(["/1"])
        await batch
        with pytest.raises(RuntimeError, match="used once"):
            await batch
        with pytest.raises(RuntimeError, match="used once"):
            aiter(batch)


# --- Arguments ---


@pytest.mark.parametrize(
    ("requests", "options", "error", "message"),
    [
        ("/a", {}, TypeError, "several requests, got a str"),
        (b"/a", {}, TypeError, "several requests, got a bytes"),
        ({"GET": "/a"}, {}, TypeError, "several requests, got a dict"),
        (7, {}, TypeError, "several requests, got a int"),
        (["/a", 7], {}, TypeError, r"requests\[1\] must be"),
        ([("GET",)], {}, TypeError, r"requests\[0\] must be"),
        ([("GET", 7)], {}, TypeError, r"requests\[0\] must be"),
        ([(b"GET", "/a")], {}, TypeError, r"requests\[0\] must be"),
        ([("GET", "/a", [])], {}, TypeError, r"requests\[0\] must be"),
        ([("GET", "/a", {}, 1)], {}, TypeError, r"requests\[0\] must be"),
        ([], {"max_concurrent": 0}, ValueError, "max_concurrent"),
        ([], {"max_concurrent": 2.0}, TypeError, "max_concurrent"),
        ([], {"fail_fast": 1}, TypeError, "fail_fast"),
        ([], {"on_progress": "print"}, TypeError, "on_progress"),
        ([], {"on_progress": asyncio.sleep}, TypeError, "on_progress"),
    ],
)
async def test_arguments_are_checked_at_once(
    requests: Any, options: Any, error: type[Exception], message: str
) -> None:
    async with client(Api()) as calls:
        with pytest.raises(error, match=message):
            calls.batch(requests, **options)


async def test_one_request_is_not_several() -> None:
    async with client(Api()) as calls:
        for single in (calls.build_request("GET", "/a"), httpx.URL("/a")):
            with pytest.raises(TypeError, match="several requests"):
                calls.batch(single)


async def test_a_wrong_request_or_an_error_of_the_iterator_ends_the_batch() -> None:
    def failing() -> Iterator[str]:
        yield "/1"
        raise ZeroDivisionError

    api = Api()
    async with client(api) as calls:
        with pytest.raises(ZeroDivisionError):
            await calls.batch(failing())
        assert nobody_else_runs()
        with pytest.raises(TypeError, match=r"requests\[1\] must be"):
            await calls.batch(iter(["/1", 7]))
        assert nobody_else_runs()
        results = await calls.batch([("GET", "/1", {"colour": "red"})])
        assert isinstance(results.errors[0], TypeError)


async def test_contents_do_not_show_in_the_error() -> None:
    async with client(Api()) as calls:
        with pytest.raises(TypeError) as caught:
            calls.batch([("GET", 7, {"headers": {"Authorization": "secret"}})])
    assert "secret" not in str(caught.value)
