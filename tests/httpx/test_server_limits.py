"""What a server says of its limits holds for every call: judged by when the server was called."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from resilience import RateLimitExceededError, circuit_breaker, inactive, rate_limited, retry
from resilience_httpx import BearerAuth, RateLimitError, ResilientClient, ServerLimits
from resilience_httpx._quota_windows import MOST_ROUTES, MOST_WINDOWS, Quotas, Window
from resilience_httpx._rate_headers import LONGEST_RESET, Quota
from resilience_httpx._waiters import Waiter, wake_all, wake_first
from tests.support.http_server import http_server, reply
from tests.support.virtual_time import now, settle

TOO_MANY = {"Retry-After": "10"}


class Api:
    """Answers by a function of the request, or by a list; notes when it was asked for what."""

    def __init__(
        self, answer: Callable[[httpx.Request], Any] | list[httpx.Response], takes: float = 0
    ) -> None:
        self.answer = answer
        self.takes = takes
        self.times: list[float] = []
        self.paths: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.times.append(now())
        self.paths.append(request.url.path)
        if isinstance(self.answer, list):
            response = self.answer.pop(0) if self.answer else httpx.Response(200)
        else:
            response = self.answer(request)
        if self.takes:
            await asyncio.sleep(self.takes)
        return response


def client(api: Callable[..., Any], **options: Any) -> ResilientClient:
    defaults = {"retry": None, "circuit_breaker": None, "total_timeout": None, "attempt_timeout": None}
    return ResilientClient("https://h", transport=httpx.MockTransport(api), **{**defaults, **options})


def remaining(left: int, reset: float, **headers: str) -> httpx.Response:
    told = {"X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(reset)}
    return httpx.Response(200, headers={**told, **headers})


# --- Who waits, and who is refused ------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_h4_3_7_a_pause_holds_for_other_calls(status: int, events: list) -> None:
    api = Api([httpx.Response(status, headers=TOO_MANY)])
    async with client(api) as calls:
        assert (await calls.get("/a")).status_code == status
        assert (await calls.post("/b")).status_code == 200
        assert api.times[0] == 0
        assert 10 <= api.times[1] <= 11
        await calls.get("/c")
        assert api.times[2] == api.times[1]
    assert [each.kind for each in events] == ["rate_limit.waited"]
    assert events[0].attributes["seconds"] == api.times[1]


@pytest.mark.parametrize("status", [200, 404, 413, 500, 502])
async def test_h4_5_only_throttling_statuses_ask_for_a_pause(status: int) -> None:
    api = Api([httpx.Response(status, headers=TOO_MANY)])
    async with client(api) as calls:
        await calls.get("/")
        await calls.get("/")
    assert api.times == [0, 0]


@pytest.mark.parametrize("status", [403, 503])
async def test_h4_5_without_a_word_of_limits_they_ask_for_nothing(status: int) -> None:
    api = Api([httpx.Response(status)])
    async with client(api) as calls:
        await calls.get("/")
        await calls.get("/")
    assert api.times == [0, 0]


async def test_h4_3_5_above_the_cap_it_is_refused_at_once_and_nothing_is_sent(events: list) -> None:
    api = Api([httpx.Response(429, headers={"Retry-After": "31"})])
    async with client(api, raise_for_status=True) as calls:
        with pytest.raises(RateLimitError) as first:
            await calls.get("/")
        with pytest.raises(RateLimitExceededError) as later:
            await calls.get("/?secret=1")
        assert isinstance(later.value, httpx.TransportError)
    assert (first.value.retry_after, later.value.retry_after, api.times, now()) == (31, 31, [0], 0)
    assert later.value.policy == "server_limits"
    assert "secret" not in str(later.value)
    assert [each.kind for each in events] == ["rate_limit.rejected"]


async def test_h4_3_5_past_the_deadline_it_is_refused_at_once() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api, total_timeout=10) as calls:
        await calls.get("/")
        with pytest.raises(RateLimitExceededError):
            await calls.get("/")
    assert (api.times, now()) == ([0], 0)


async def test_h4_3_5_who_waits_already_is_refused_when_the_wait_gets_too_long() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY), httpx.Response(429, headers={"Retry-After": "60"})])
    async with client(api) as calls:
        await calls.get("/")
        waiting = [asyncio.create_task(calls.get("/")) for _ in range(4)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each).__name__ for each in results] == ["Response", *["RateLimitExceededError"] * 3]
    assert len(api.times) == 2
    assert now() == api.times[1]


async def test_h4_3_5_whoever_is_before_in_line_does_not_delay_a_refusal() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    limits = ServerLimits(max_wait=None)
    async with client(api, server_limits=limits) as calls:
        await calls.get("/")
        patient = asyncio.create_task(calls.get("/"))
        hasty = asyncio.create_task(calls.get("/", extensions={"total_timeout": 20}))
        await settle()
        request = calls.build_request("GET", "/")
        later = httpx.Response(429, headers={"Retry-After": "60"}, request=request)
        limits.hear(request, later, limits.number())
        with pytest.raises(RateLimitExceededError):
            await hasty
        assert now() == 0
        await patient
        assert now() >= 60


async def test_max_wait() -> None:
    for max_wait, waits in ((0, False), (9.9, False), (10, True), (None, True)):
        api = Api([httpx.Response(429, headers=TOO_MANY)])
        async with client(api, server_limits=ServerLimits(max_wait=max_wait)) as calls:
            await calls.get("/")
            with contextlib.nullcontext() if waits else pytest.raises(RateLimitExceededError):
                await calls.get("/")


async def test_max_wait_0_does_not_line_up_either() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)], takes=0.5)
    async with client(api, server_limits=ServerLimits(max_wait=0)) as calls:
        await calls.get("/")
        await asyncio.sleep(10)
        results = await asyncio.gather(*[calls.get("/") for _ in range(3)], return_exceptions=True)
    refused = [each for each in results if isinstance(each, RateLimitExceededError)]
    assert (len(refused), refused[0].retry_after) == (2, None)


@pytest.mark.usefixtures("punctual")
async def test_h4_3_4_the_call_itself_waits_by_its_retry_and_then_no_longer() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api, retry=retry(attempts=2, wait=0)) as calls:
        assert (await calls.get("/")).status_code == 200
    assert api.times == [0, 10]


async def test_h4_3_8_a_pause_after_429_without_a_word() -> None:
    api = Api([httpx.Response(429), httpx.Response(200), httpx.Response(429)])
    limits = ServerLimits(pause_after_429=5)
    async with client(api, server_limits=limits, raise_for_status=True) as calls:
        with pytest.raises(RateLimitError) as caught:
            await calls.get("/")
        assert caught.value.retry_after == caught.value.details["retry_after"] == 5
        await calls.get("/")
        assert 5 <= api.times[1] <= 5.5
        with pytest.raises(RateLimitError):
            await calls.get("/", extensions={"server_limits": None})
        await calls.get("/")
        assert len(api.times) == 4


async def test_h4_3_8_without_the_option_only_the_call_itself_waits() -> None:
    api = Api([httpx.Response(429)])
    async with client(api, retry=retry(attempts=2, wait=1)) as calls:
        await calls.get("/")
    assert api.times == [0, 1]


@pytest.mark.usefixtures("punctual")
async def test_h4_4_retry_after_goes_before_the_reset() -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "25", "Retry-After": "3"}
    api = Api([httpx.Response(429, headers=headers)])
    async with client(api, retry=retry(attempts=2, wait=0)) as calls:
        await calls.get("/")
    assert api.times == [0, 3]


@pytest.mark.parametrize("has_limits", [False, True])
@pytest.mark.usefixtures("punctual")
async def test_h4_4_the_reset_of_what_is_used_up_counts_as_retry_after(has_limits: bool) -> None:
    limits = ServerLimits() if has_limits else None
    told = {"RateLimit": '"burst";r=0;t=4, "day";r=9;t=20'}
    api = Api([httpx.Response(429, headers=told)])
    async with client(api, server_limits=limits, retry=retry(attempts=2, wait=0)) as calls:
        await calls.get("/")
    assert api.times == [0, 4]


async def test_h4_5_a_200_that_leaves_nothing_blocks_the_next_call_not_its_own() -> None:
    api = Api([remaining(1, 20), remaining(0, 20)])
    async with client(api) as calls:
        assert (await calls.get("/")).status_code == 200
        assert (await calls.get("/")).status_code == 200
        assert now() == 0
        await calls.get("/")
    assert 20 <= api.times[2] <= 21


async def test_a_status_that_a_hook_raises_counts_too() -> None:
    async def raise_for_status(response: httpx.Response) -> None:
        response.raise_for_status()

    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api, event_hooks={"response": [raise_for_status]}) as calls:
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await calls.get("/")
        assert caught.value.retry_after == 10
        await calls.get("/")
    assert api.times[1] >= 10


async def test_it_works_with_a_breaker_and_says_nothing_of_health() -> None:
    breaker = circuit_breaker(1)
    api = Api([httpx.Response(429, headers={"Retry-After": "99"})])
    async with client(api, circuit_breaker=breaker) as calls:
        await calls.get("/")
        for _ in range(3):
            with pytest.raises(RateLimitExceededError):
                await calls.get("/")
    assert breaker.snapshot()["state"] == "closed"


async def test_it_can_be_off() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)] * 3)
    async with client(api, server_limits=None) as calls:
        await calls.get("/")
        await calls.get("/")
    api = Api([httpx.Response(429, headers=TOO_MANY)] * 3)
    async with client(api) as calls:
        await calls.get("/")
        await calls.get("/", extensions={"server_limits": None})
        with inactive():
            await calls.get("/")
    assert api.times == [0, 0, 0]


async def test_reset_lets_all_go() -> None:
    limits = ServerLimits()
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api, server_limits=limits) as calls:
        await calls.get("/")
        waiting = [asyncio.create_task(calls.get("/")) for _ in range(3)]
        await settle()
        assert limits.snapshot() == [
            {"origin": "https://h", "quota": "", "remaining": None, "blocked_for": 10, "waiting": 3}
        ]
        limits.reset()
        await asyncio.gather(*waiting)
        assert (now(), limits.snapshot(), limits.has_heard) == (0, [], False)


# --- Keys -------------------------------------------------------------------------------------------


async def test_h4_5_origins_are_apart() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api) as calls:
        await calls.get("https://a/")
        await calls.get("https://b/")
        assert now() == 0
        await calls.get("https://a/")
        assert now() >= 10


async def test_h4_5_credentials_are_apart_and_not_shown() -> None:
    limits = ServerLimits()

    def answer(request: httpx.Request) -> httpx.Response:
        ok = request.headers["authorization"].endswith("good")
        return httpx.Response(200) if ok else httpx.Response(429, headers=TOO_MANY)

    api = Api(answer)
    async with (
        client(api, server_limits=limits, auth=BearerAuth("wrong-key")) as one,
        client(api, server_limits=limits, auth=BearerAuth("good")) as other,
    ):
        await one.get("/")
        await other.get("/")
        await other.get("/", headers={"Authorization": "my good"}, auth=None)
        assert now() == 0
        with pytest.raises(RateLimitExceededError):
            await one.get("/", extensions={"total_timeout": 1})
        await one.get("/", auth=("u", "good"))
        assert now() == 0
    assert "wrong-key" not in f"{limits.snapshot()}{limits!r}{limits._table._states}"


@pytest.mark.parametrize("auth", [BearerAuth("t"), ("user", "password")], ids=["ours", "httpx"])
async def test_h4_5_a_request_that_is_sent_once_more_has_the_same_credentials(auth: Any) -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api, auth=auth) as calls:
        request = calls.build_request("GET", "/")
        await calls.send(request)
        await calls.send(request)
    assert api.times[1] >= 10


async def test_h4_5_keys_in_headers_are_apart() -> None:
    for name in ("Authorization", "X-API-Key"):
        api = Api([httpx.Response(429, headers=TOO_MANY)])
        async with client(api) as calls:
            started = now()
            await calls.get("/", headers={name: "one"})
            await calls.get("/", headers={name: "other"})
            assert now() == started
            await calls.get("/", headers={name: "one"})
            assert now() >= started + 10


async def test_h4_5_resources_are_apart() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        resource = "search" if request.url.path.startswith("/search") else "core"
        left = "0" if resource == "search" else "99"
        told = {"X-RateLimit-Resource": resource, "X-RateLimit-Remaining": left, "X-RateLimit-Reset": "20"}
        return httpx.Response(200, headers=told)

    api = Api(answer)
    async with client(api) as calls:
        await calls.get("/search/code")
        await calls.get("/users/ada")
        await calls.get("/users/bob")
        assert now() == 0
        await calls.get("/search/users")
        assert now() >= 20


async def test_the_path_of_the_base_url_tells_no_resources_apart() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        resource = request.url.path.split("/")[3]
        left = "0" if resource == "search" else "99"
        told = {"X-RateLimit-Resource": resource, "X-RateLimit-Remaining": left, "X-RateLimit-Reset": "20"}
        return httpx.Response(200, headers=told)

    api = Api(answer)
    async with client(api) as calls:
        calls.base_url = "https://h/api/v3"
        for path in ("search/code", "users/ada", "users/bob"):
            await calls.get(path)
        assert now() == 0
        await calls.get("search/users")
        assert now() >= 20


async def test_h4_5_a_key_of_ones_own() -> None:
    limits = ServerLimits(key=lambda request: request.headers.get("model"))
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api, server_limits=limits) as calls:
        await calls.get("/", headers={"model": "a", "Authorization": "1"})
        await calls.get("/", headers={"model": "b", "Authorization": "1"})
        assert now() == 0
        await calls.get("/", headers={"model": "a", "Authorization": "2"})
        assert now() >= 10


async def test_where_a_redirect_leads_is_another_server() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "h":
            return httpx.Response(307, headers={"Location": "https://other/"})
        return httpx.Response(429, headers={"Retry-After": "99"})

    api = Api(answer)
    async with client(api, follow_redirects=True) as calls:
        await calls.get("/")
        await calls.get("/")
        with pytest.raises(RateLimitExceededError):
            await calls.get("https://other/")


async def test_b16_more_busy_keys_than_are_kept_do_not_forget_a_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resilience_httpx._server_limits.MOST_KEYS", 2)
    api = Api(lambda _: httpx.Response(429, headers={"Retry-After": "60"}))
    async with client(api, server_limits=ServerLimits(max_wait=1)) as calls:
        for key in "abc":
            await calls.get("/", headers={"X-API-Key": key})
        for key in "abc":
            with pytest.raises(RateLimitExceededError):
                await calls.get("/", headers={"X-API-Key": key})
    assert len(api.times) == 3


def test_b16_many_quotas_and_routes_do_not_pile_up() -> None:
    quotas = Quotas()
    for n in range(3 * MOST_ROUTES):
        quotas.learn(f"r{n}", [Quota(f"q{n}", 5, 1)], None, n, n, float(n * 10))
        assert len(quotas.windows) <= MOST_WINDOWS
    assert len(quotas._routes) == MOST_ROUTES
    for n in range(100):
        quotas.learn("r", [Quota(f"busy{n}", 0, 1000)], None, n, n, 1e6)
    assert len(quotas.windows) == MOST_WINDOWS
    quotas.learn("r", [Quota("too many", 0, 5)], 5.0, 0, 0, 1e6)
    assert "too many" not in quotas.windows
    quotas.learn("r", [], 5.0, 0, 0, 1e6)
    assert quotas.of("r")[0].wait(1e6) == 5
    assert not quotas.is_idle(1e6)
    assert quotas.is_idle(1e7)


# --- The windows themselves -------------------------------------------------------------------------


def test_h4_5_a_block_is_lowered_freely_and_raised_only_by_later_requests() -> None:
    window = Window()
    window.block(10, number=0, heard=5, now=0.0)
    window.block(30, number=4, heard=6, now=1.0)
    assert window.wait(1.0) == 9
    window.block(4, number=3, heard=7, now=1.0)
    assert window.wait(1.0) == 4
    window.block(30, number=8, heard=9, now=2.0)
    assert window.wait(2.0) == 30
    assert window.wait(32.0) == 0
    window.block(1, number=2, heard=10, now=40.0)
    assert window.wait(40.0) == 1, "there was none any more"


def test_h4_5_what_is_left_is_lowered_freely_and_raised_only_by_later_requests() -> None:
    window = Window()
    window.report(Quota("", 5, 60), number=0, heard=9, now=0.0)
    window.report(Quota("", 7, 60), number=8, heard=10, now=0.0)
    assert window.remaining == 5
    window.report(Quota("", 3, 60), number=4, heard=11, now=0.0)
    assert window.remaining == 3
    window.report(Quota("", 8, 60), number=12, heard=13, now=0.0)
    assert window.remaining == 8
    window.block(5, number=14, heard=15, now=0.0)
    window.report(Quota("", 8, 60), number=14, heard=16, now=1.0)
    assert window.wait(1.0) == 4
    window.report(Quota("", 8, 60), number=17, heard=18, now=1.0)
    assert window.wait(1.0) == 0, "the server took a later request"


def test_h4_5_requests_under_way_are_deducted() -> None:
    window = Window()
    for _ in range(4):
        window.enter(0.0)
    window.report(Quota("", 5, 60), number=0, heard=4, now=0.0)
    assert window.remaining == 2
    window.enter(0.0)
    window.enter(0.0)
    assert window.wait(0.0) == 60


def test_the_longest_block_is_a_day() -> None:
    quotas = Quotas()
    quotas.learn("r", [], 1e10, 0, 1, 0.0)
    assert quotas.of("r")[0].wait(0.0) == LONGEST_RESET


# --- The end of a block -----------------------------------------------------------------------------


async def test_h4_5_those_who_wait_go_on_one_at_a_time() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)], takes=0.25)
    async with client(api) as calls:
        await calls.get("/")
        await asyncio.gather(*[calls.get("/") for _ in range(40)])
    waves: dict[float, int] = {}
    for each in api.times[1:]:
        waves[each] = waves.get(each, 0) + 1
    assert 10.25 <= min(waves) <= 11.25, "with jitter"
    assert [*waves.values()] == [1, 2, 4, 8, 16, 9]


async def test_h4_5_who_comes_after_the_end_lines_up_too() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)], takes=0.25)
    async with client(api) as calls:
        await calls.get("/")
        await asyncio.sleep(20)
        await asyncio.gather(*[calls.get("/") for _ in range(3)])
    assert [each - 20.25 for each in api.times[1:]] == [0, 0.25, 0.25]


async def test_h4_5_what_is_left_bounds_those_who_go_on() -> None:
    left = iter([0, 2, 1, 0])

    def answer(request: httpx.Request) -> httpx.Response:
        return remaining(next(left, 99), 20)

    api = Api(answer, takes=0.25)
    async with client(api) as calls:
        await calls.get("/")
        await asyncio.gather(*[calls.get("/") for _ in range(5)])
    early = [each for each in api.times if each < 40]
    assert len(early) == 4


async def test_t12_a_request_that_hangs_does_not_hold_up_the_others() -> None:
    def answer(request: httpx.Request) -> Any:
        if request.url.path == "/hangs":
            return hangs()
        return httpx.Response(429, headers=TOO_MANY) if len(api.times) == 1 else httpx.Response(200)

    async def hangs() -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    class Hanging(Api):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            response = await super().__call__(request)
            return await response if asyncio.iscoroutine(response) else response

    api = Hanging(answer)
    async with client(api) as calls:
        await calls.get("/")
        hanging = asyncio.create_task(calls.get("/hangs"))
        await settle()
        await asyncio.gather(*[calls.get("/") for _ in range(3)])
        assert now() <= 13
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging


async def test_a_pause_while_requests_wait_for_a_limit_of_ones_own() -> None:
    answers = [httpx.Response(200), httpx.Response(429, headers=TOO_MANY)]
    api = Api(answers)
    async with client(api, rate_limit=rate_limited(1, per=1)) as calls:
        await asyncio.gather(*[calls.get("/") for _ in range(5)])
    assert api.times[:2] == [0, 1]
    assert len(api.times) == 5
    assert all(each >= 11 for each in api.times[2:])
    assert all(later - each >= 1 for each, later in zip(api.times, api.times[1:], strict=False))


# --- Cancellation, loops, bad input -----------------------------------------------------------------


async def test_t5_cancelled_at_any_turn_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilience_httpx._waiters.random.random", lambda: 0.0)
    turns, done = 0, False
    while not done:
        limits = ServerLimits()
        api = Api([httpx.Response(429, headers=TOO_MANY)])

        async def answer(request: httpx.Request, api: Api = api) -> httpx.Response:
            await asyncio.sleep(0)
            return await api(request)

        async with client(answer, server_limits=limits) as calls:
            await calls.get("/")
            first = asyncio.create_task(calls.get("/"))
            second = asyncio.create_task(calls.get("/"))
            await asyncio.sleep(10)
            for _ in range(turns):
                await asyncio.sleep(0)
            done = first.done()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            started = now()
            assert (await second).status_code == 200
            assert now() - started < 0.01, "it did not wait for the lease of one that is gone"
            (state,) = limits.snapshot()
            assert state["waiting"] == 0
            assert all(each.is_idle(now()) for keyed in limits._table for each in keyed.windows.values())
        turns += 1
    assert turns > 2


async def test_cancelled_in_line_its_place_goes_to_the_next() -> None:
    api = Api([httpx.Response(429, headers=TOO_MANY)])
    async with client(api) as calls:
        await calls.get("/")
        first, second = (asyncio.create_task(calls.get("/")) for _ in range(2))
        await asyncio.sleep(1)
        first.cancel()
        await second
        assert 10 <= now() <= 11


@pytest.mark.real_time
def test_t64_loops_in_several_threads_share_what_they_are_told() -> None:
    limits = ServerLimits()
    times: list[float] = []
    lock = threading.Lock()

    def answer(request: httpx.Request) -> httpx.Response:
        with lock:
            times.append(time.monotonic())
            first = len(times) == 1
        return httpx.Response(429, headers={"Retry-After": "0.2"}) if first else httpx.Response(200)

    async def run(count: int) -> None:
        async with client(answer, server_limits=limits) as calls:
            await asyncio.gather(*[calls.get("/") for _ in range(count)])

    asyncio.run(run(1))
    threads = [threading.Thread(target=lambda: asyncio.run(run(20))) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(times) == 61
    assert min(times[1:]) - times[0] >= 0.2
    assert limits.snapshot()[0]["waiting"] == 0


@pytest.mark.real_time
def test_t64_a_loop_that_is_gone_is_not_waited_for() -> None:
    limits = ServerLimits()
    answers = iter([httpx.Response(429, headers={"Retry-After": "0.1"})])

    def api(request: httpx.Request) -> httpx.Response:
        return next(answers, httpx.Response(200))

    async def leave_one_waiting(loop: asyncio.AbstractEventLoop) -> None:
        async with client(api, server_limits=limits) as calls:
            await calls.get("/")
        kept.append(loop.create_task(limits.enter(httpx.Request("GET", "https://h/"))))
        await settle()

    kept: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_one_waiting(loop))
    loop.close()

    async def go() -> None:
        async with client(api, server_limits=limits) as calls:
            await asyncio.wait_for(calls.get("/"), 5)

    asyncio.run(go())
    kept[0]._log_destroy_pending = False


def test_t64_those_whose_loops_are_gone_are_passed_over() -> None:
    async def line_up(*windows: Window) -> None:
        for window in windows:
            Waiter().line_up(window)

    first, all_of_it = Window(), Window()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(line_up(first, all_of_it))
    loop.close()
    wake_first(first)
    wake_all(all_of_it)
    assert not first.waiters
    assert not all_of_it.waiters


@pytest.mark.real_time
async def test_h4_3_7_on_the_wire() -> None:
    options: dict[str, Any] = {"retry": None, "circuit_breaker": None}
    async with http_server() as server, ResilientClient(server.url, **options) as calls:
        server.script("/", reply(429, {"Retry-After": "1"}))
        await calls.get("/")
        with pytest.raises(RateLimitExceededError):
            await calls.get("/other", extensions={"total_timeout": 0.5})
        assert server.lines == ["GET /"]
        assert (await calls.get("/other")).status_code == 200
        assert server.connections == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_wait": -1}, ValueError, "max_wait must be"),
        ({"max_wait": "1"}, TypeError, "max_wait must be"),
        ({"pause_after_429": 0}, ValueError, "pause_after_429 must be"),
        ({"reset_unit": "minutes"}, ValueError, "reset_unit must be one of .*got 'minutes'"),
        ({"key": 1}, TypeError, "key must be"),
        ({"name": ""}, ValueError, "name must be"),
    ],
)
def test_bad_input(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ServerLimits(**options)
    with pytest.raises(TypeError, match="server_limits must be a ServerLimits or None"):
        client(None, server_limits=True)
