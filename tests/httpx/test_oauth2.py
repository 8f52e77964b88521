"""Client credentials: one token for all who need it, in time, for those that it is meant for."""

import asyncio
import itertools
import threading
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from resilience import rate_limited
from resilience.testing import run_virtually
from resilience_httpx import OAuth2ClientCredentials, ResilientClient, TokenRequestError
from resilience_httpx._token_endpoint import OPERATION_TIMEOUT
from tests.support.http_server import (
    http_server,
    redirect,
    reply,
    truncated,
)
from tests.support.token_world import World, token
from tests.support.virtual_time import advance, now, settle

TOKEN_URL = "https://auth/token"
SECRET = "s3cr3t"


@pytest.fixture
def world() -> World:
    return World(httpx)


def credentials(**options: Any) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(TOKEN_URL, "me", SECRET, **options)


def client(world: World, auth: Any = None, **options: Any) -> Any:
    auth = credentials() if auth is None else auth
    return ResilientClient("https://api", auth=auth, transport=httpx.MockTransport(world), **options)


async def gathered(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


# --- 5.1 One fetch for all who wait, whatever happens to one of them --------------------------------


async def test_h5_1_ten_calls_that_need_a_token_fetch_it_once(world: World) -> None:
    world.delay = 1
    async with client(world) as calls:
        responses = await gathered(*(calls.get("/") for _ in range(10)))
    assert [each.status_code for each in responses] == [200] * 10
    assert len(world.fetches) == 1
    assert world.sent == ["t1"] * 10


async def test_h5_1_ten_calls_whose_token_has_expired_fetch_the_next_one_once(world: World) -> None:
    world.delay, world.lifetime = 1, 100
    async with client(world) as calls:
        await calls.get("/")
        await asyncio.sleep(100)
        await gathered(*(calls.get("/") for _ in range(10)))
    assert world.sent == ["t1"] + ["t2"] * 10
    assert len(world.fetches) == 2


@pytest.mark.parametrize("cancelled", range(3))
async def test_h5_1_a_call_that_is_cancelled_does_not_take_the_others_along(
    world: World, cancelled: int
) -> None:
    world.delay = 1
    async with client(world) as calls:
        tasks = [asyncio.create_task(calls.get("/")) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks[cancelled].cancel()
        results = await gathered(*tasks)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert [each.status_code for each in results] == [200, 200]
    assert len(world.fetches) == 1


async def test_h5_1_when_nobody_waits_any_more_the_fetch_ends(world: World) -> None:
    world.delay = 1
    async with client(world) as calls:
        tasks = [asyncio.create_task(calls.get("/")) for _ in range(3)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await gathered(*tasks)
        assert not others()
        assert (await calls.get("/")).status_code == 200
    assert world.sent == ["t1"]


async def test_h5_1_a_time_limit_of_one_call_does_not_end_the_fetch_of_another(world: World) -> None:
    world.delay = 2
    async with client(world) as calls:
        hurried = calls.get("/", extensions={"total_timeout": 1})
        late, response = await gathered(hurried, calls.get("/"))
    assert isinstance(late, TimeoutError)
    assert response.status_code == 200
    assert len(world.fetches) == 1


@pytest.mark.parametrize("refused", [False, True])
async def test_h5_1_cancelled_in_any_turn_it_leaves_nothing_behind(world: World, refused: bool) -> None:
    world.delay = 1e-3
    auth = credentials()
    async with client(world, auth, retry=None) as calls:
        for turns in itertools.count():
            world.valid = None if not refused else {f"t{n}" for n in range(2, 1000, 2)}
            world.numbers = itertools.count(1)
            auth._token = type(auth._token)("", 0, 0)
            task = asyncio.create_task(calls.get("/"))
            for _ in range(turns):
                await (asyncio.sleep(1e-4) if turns % 2 else asyncio.sleep(0))
            was_done = task.done()
            task.cancel()
            await gathered(task)
            assert not others()
            assert len(auth._flights) == 0
            world.valid = None
            assert (await calls.get("/")).status_code == 200
            if was_done and turns > 60:
                break


def test_h5_1_one_object_serves_several_loops_one_after_the_other(world: World) -> None:
    auth = credentials()
    for _ in range(3):

        async def main() -> None:
            world.delay = 1
            async with client(world, auth) as calls:
                await gathered(*(calls.get("/") for _ in range(3)))

        run_virtually(main())
    assert world.sent == ["t1"] * 9  # the token outlives the loop


def test_h5_1_a_loop_that_ended_in_the_middle_of_a_fetch_blocks_no_other(world: World) -> None:
    auth = credentials()

    async def leave() -> None:
        calls = client(world, auth)
        task = asyncio.create_task(calls.get("/"))
        await settle()
        assert not task.done()

    world.delay = 1
    asyncio.run(leave())

    async def main() -> None:
        async with client(world, auth) as calls:
            assert (await calls.get("/")).status_code == 200

    run_virtually(main())


@pytest.mark.real_time
async def test_h5_1_one_object_serves_several_loops_in_several_threads_at_once() -> None:
    auth = credentials()
    world = World(httpx)
    world.delay = 0.01
    together = threading.Barrier(3)
    statuses: list[int] = []

    def run() -> None:
        async def main() -> None:
            async with client(world, auth) as calls:
                together.wait()
                responses = await gathered(*(calls.get("/") for _ in range(10)))
                statuses.extend(each.status_code for each in responses)

        asyncio.run(main())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert statuses == [200] * 30
    assert 1 <= len(world.fetches) <= 3  # one for each loop at most


# --- 5.2 A token that the server refuses --------------------------------------------------------------


async def test_h5_2_a_refused_token_is_replaced_and_the_request_sent_once_more(world: World) -> None:
    world.valid = {"t2"}
    async with client(world) as calls:
        response = await calls.post("/", content=b"body", headers={"X": "y"})
    assert response.status_code == 200
    assert world.sent == ["t1", "t2"]
    assert [each.content for each in world.calls] == [b"body"] * 2
    assert [each.headers["X"] for each in world.calls] == ["y"] * 2


async def test_h5_2_a_second_refusal_is_the_answer(world: World) -> None:
    world.valid = set()
    async with client(world) as calls:
        response = await calls.get("/")
        assert response.status_code == 401
        assert response.text == "no"
    assert world.sent == ["t1", "t2"]
    assert len(world.fetches) == 2


async def test_h5_2_many_refusals_lead_to_one_fetch(world: World) -> None:
    async with client(world) as calls:
        await calls.get("/")
        world.valid, world.delay, world.latency = {"t2"}, 1, 0.5
        responses = await gathered(*(calls.get("/") for _ in range(10)))
    assert [each.status_code for each in responses] == [200] * 10
    assert len(world.fetches) == 2
    assert world.sent == ["t1"] * 11 + ["t2"] * 10


async def test_h5_2_a_late_refusal_of_an_old_token_takes_the_new_one() -> None:
    slow = asyncio.Event()

    class Slow(World):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            response = await super().__call__(request)
            if request.url.path == "/slow" and response.status_code == 401:
                await slow.wait()
            return response

    world = Slow(httpx)
    async with client(world) as calls:
        await calls.get("/")
        world.valid = {"t2"}
        waiting = asyncio.create_task(calls.get("/slow"))
        await settle()
        await calls.get("/")
        assert len(world.fetches) == 2
        slow.set()
        assert (await waiting).status_code == 200
    assert len(world.fetches) == 2
    assert world.sent == ["t1", "t1", "t1", "t2", "t2"]


async def test_h5_2_a_token_other_than_the_rejected_one_is_kept(world: World) -> None:
    auth = credentials()
    async with client(world, auth) as calls:
        await calls.get("/")
    auth._endpoint = None  # nobody asks it
    await auth.refresh(httpx.Request("GET", "https://api"), rejected="t0")
    assert auth.is_authenticated


@pytest.mark.parametrize(
    ("challenge", "is_renewed"),
    [
        (None, True),
        ("", True),
        ("Bearer", True),
        ('Bearer realm="x"', True),
        ('Bearer error="invalid_token"', True),
        ("Bearer error=invalid_token", True),
        ('bearer ERROR = "invalid_token", error_description="error=invalid_request"', True),
        ('Basic realm="a, b", Bearer realm="c", error="invalid_token"', True),
        ('Bearer error_description="such as error=\\"insufficient_scope\\"", x=y', True),
        ('Bearer error="insufficient_scope", scope="admin"', False),
        ('Bearer realm="error=invalid_token", error="invalid_request"', False),
        ('Bearer error="', True),
        ("Bearer =, ,,=", True),
    ],
)
async def test_h5_2_only_a_token_that_is_said_to_be_invalid_is_renewed(
    world: World, challenge: str | None, is_renewed: bool
) -> None:
    world.valid, world.challenge = {"t2"}, challenge
    async with client(world) as calls:
        response = await calls.get("/")
    assert response.status_code == (200 if is_renewed else 401)
    assert len(world.fetches) == (2 if is_renewed else 1)


async def test_h5_2_a_403_is_final(world: World) -> None:
    async def forbid(request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth":
            return world.token()
        world.note(request)
        header = {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
        return httpx.Response(403, headers=header)

    auth = credentials()
    async with ResilientClient("https://api", auth=auth, transport=httpx.MockTransport(forbid)) as calls:
        assert (await calls.get("/")).status_code == 403
        assert (await calls.get("/")).status_code == 403
    assert world.sent == ["t1", "t1"]


@pytest.mark.real_time
async def test_h5_2_a_body_that_can_be_sent_only_once_is_not_sent_again() -> None:
    async def stream() -> Any:
        yield b"part"

    async with http_server() as server:
        server.script("/token", token("t1"), token("t2"))
        server.script("/", reply(401, body=b"no"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth) as calls:
            response = await calls.put("/", content=stream())
            assert (response.status_code, response.text) == (401, "no")
            assert (await calls.put("/", content=stream())).status_code == 200  # with the next token
        sent = [(each.headers["authorization"], each.body) for each in server.received if each.path == "/"]
    assert sent == [("Bearer t1", b"part"), ("Bearer t2", b"part")]


@pytest.mark.real_time
@pytest.mark.parametrize(("method", "times"), [("POST", 1), ("PUT", 2)])
async def test_h5_2_a_request_that_was_done_before_a_redirect_is_not_done_again(
    method: str, times: int
) -> None:
    async with http_server() as server:
        server.script("/token", token("t1"), token("t2"))
        server.script("/do", redirect("/see", 303), redirect("/see", 303))
        server.script("/see", reply(401))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth, follow_redirects=True) as calls:
            response = await calls.request(method, "/do", content=b"x")
            assert response.status_code == (401 if times == 1 else 200)
        assert server.lines.count(f"{method} /do") == times


@pytest.mark.real_time
async def test_h5_2_a_401_of_another_origin_says_nothing_about_the_token() -> None:
    async with http_server() as there, http_server() as server:
        there.script("/", reply(401))
        server.script("/", redirect(f"{there.url}/"))
        server.script("/token", token("t1"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth, follow_redirects=True) as calls:
            assert (await calls.get("/")).status_code == 401
        assert server.lines == ["POST /token", "GET /"]
        assert "authorization" not in there.received[0].headers


@pytest.mark.real_time
async def test_h5_2_the_refused_request_gives_its_connection_back_before_the_fetch() -> None:
    async with http_server() as server:
        server.script("/token", token("t1"), token("t2"))
        server.script("/", reply(401, body=b"x" * 1000, headers={"Content-Encoding": "gzip"}))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        limits = httpx.Limits(max_connections=1)
        async with ResilientClient(server.url, auth=auth, limits=limits, retry=None) as calls:
            response = await calls.get("/")
        assert response.status_code == 200
        assert server.lines == ["POST /token", "GET /", "POST /token", "GET /"]
        assert server.connections == 1
    assert response.history[0].content == b""  # not unpacked
    assert "content-encoding" not in response.history[0].headers  # an empty body is no valid one of any


@pytest.mark.real_time
@pytest.mark.parametrize("body", [reply(401, body=b"x" * 100_000), truncated(401)])
async def test_h5_2_a_refusal_that_is_long_or_breaks_off_is_not_read_to_its_end(body: Any) -> None:
    async with http_server() as server:
        server.script("/token", token("t1"), token("t2"))
        server.script("/", body)
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        limits = httpx.Limits(max_connections=1)
        async with ResilientClient(server.url, auth=auth, limits=limits, retry=None) as calls:
            assert (await calls.get("/")).status_code == 200


async def test_h5_2_a_refused_token_is_no_way_out_when_the_fetch_fails(world: World) -> None:
    async with client(world) as calls:
        await calls.get("/")
        world.valid = set()
        world.answers = [world.refusal()]
        with pytest.raises(TokenRequestError):
            await calls.get("/")
        with pytest.raises(TokenRequestError):
            await calls.get("/")
    assert world.sent == ["t1", "t1"]


async def test_h5_2_a_token_refused_during_an_early_fetch_that_fails_is_not_used_on() -> None:
    gate = asyncio.Event()

    class Gated(World):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/slow":
                await gate.wait()
            return await super().__call__(request)

    world = Gated(httpx)
    world.lifetime = 100
    async with client(world, attempt_timeout=None) as calls:
        await calls.get("/")
        slow = asyncio.create_task(calls.get("/slow"))
        await settle()
        await asyncio.sleep(95)
        world.delay, world.answers, world.valid = 1, [world.refusal()], {"t2"}
        early = asyncio.create_task(calls.get("/"))
        await settle()
        gate.set()
        results = await gathered(early, slow)
    assert all(isinstance(each, TokenRequestError) for each in results)
    assert len(world.fetches) == 2


async def test_h5_2_an_old_failure_does_not_stand_in_the_way(world: World) -> None:
    world.answers = [world.refusal()]
    auth = credentials()
    async with client(world, auth) as calls:
        await gathered(calls.get("/"))
        assert auth._failure.error.__traceback__ is None  # it would keep those alive who waited
        await asyncio.sleep(4)
        await calls.get("/")
        world.valid = {"t2"}
        assert (await calls.get("/")).status_code == 200


# --- 5.3 When a token ends ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "good_for"),
    [
        (3600, 3540),  # 60 s before the end
        (600, 540),
        (30, 27),  # 10 % before
        ("100", 90),
        (100.5, 90.45),
        ("100.5", 90.45),
        (1, 0.9),
    ],
)
async def test_h5_3_a_token_is_replaced_a_little_before_it_ends(
    world: World, lifetime: Any, good_for: float
) -> None:
    world.lifetime = lifetime
    async with client(world) as calls:
        await calls.get("/")
        await asyncio.sleep(good_for - 0.01)
        await calls.get("/")
        await asyncio.sleep(0.02)
        await calls.get("/")
    assert world.sent == ["t1", "t1", "t2"]


@pytest.mark.parametrize(
    "lifetime", [None, "soon", "", [], {}, True, False, 10**400, "1e999", "nan", "9" * 5000]
)
async def test_h5_3_without_a_usable_expires_in_a_token_lasts_until_it_is_refused(
    world: World, lifetime: Any
) -> None:
    world.lifetime = lifetime
    async with client(world) as calls:
        await calls.get("/")
        await asyncio.sleep(10**7)
        await calls.get("/")
        world.valid = {"t2"}
        assert (await calls.get("/")).status_code == 200
    assert world.sent == ["t1", "t1", "t1", "t2"]


@pytest.mark.parametrize("lifetime", [0, -5, "-1", "-inf", 0.0])
async def test_h5_3_a_token_that_has_ended_already_serves_those_who_waited_for_it(
    world: World, lifetime: Any
) -> None:
    world.lifetime, world.delay = lifetime, 1
    async with client(world) as calls:
        await gathered(*(calls.get("/") for _ in range(3)))
        await calls.get("/")
    assert world.sent == ["t1"] * 3 + ["t2"]


async def test_h5_3_the_life_of_a_token_begins_when_the_request_for_it_is_sent(world: World) -> None:
    world.lifetime, world.delay = 100, 4
    async with client(world) as calls:
        await calls.get("/")
        await asyncio.sleep(85.9)  # 89.9 since it was sent
        await calls.get("/")
        await asyncio.sleep(0.2)
        await calls.get("/")
    assert world.sent == ["t1", "t1", "t2"]


async def test_h5_3_of_several_attempts_the_one_that_succeeded_counts(world: World) -> None:
    world.lifetime, world.delay = 100, 3
    world.answers = [httpx.Response(503)]
    began = now()
    async with client(world) as calls:
        await calls.get("/")
        second = now() - 3
        assert second > began + 3 - 1e-9
        advance(second + 89.9 - now())
        await calls.get("/")
        advance(0.2)
        await calls.get("/")
    assert world.sent == ["t1", "t1", "t2"]


# --- 5.6 Isolation ------------------------------------------------------------------------------------


async def test_h5_6_all_parameters_are_sent_each_time(world: World) -> None:
    world.lifetime = 100
    async with client(world, credentials(scope="a b", audience="x")) as calls:
        await calls.get("/")
        await asyncio.sleep(100)
        await calls.get("/")
    bodies = [parse_qs(each.content.decode()) for each in world.fetches]
    assert bodies == [{"grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["x"]}] * 2


async def test_h5_6_different_credentials_share_neither_tokens_nor_failures_nor_waits(world: World) -> None:
    def make(url: str, name: str, secret: str, **options: Any) -> OAuth2ClientCredentials:
        return OAuth2ClientCredentials(url, name, secret, **options)

    each = [
        make("https://auth/token", "me", "one"),
        make("https://auth/other", "me", "one"),
        make("https://auth/token", "you", "one"),
        make("https://auth/token", "me", "two"),
        make("https://auth/token", "me", "one", scope="a"),
        make("https://auth/token", "me", "one", audience="a"),
    ]
    world.delay = 1
    world.answers = [world.refusal()]
    async with client(world) as calls:
        results = await gathered(*(calls.get("/", auth=auth) for auth in each))
        again = await gathered(*(calls.get("/", auth=auth) for auth in each))
    assert isinstance(results.pop(0), TokenRequestError)
    assert isinstance(again.pop(0), TokenRequestError)
    assert sorted(world.sent) == sorted(2 * ["t1", "t2", "t3", "t4", "t5"])
    assert len(world.fetches) == 6


async def test_h5_6_the_token_request_has_nothing_of_the_client_that_needs_it(world: World) -> None:
    seen: list[str] = []

    async def note(message: httpx.Request | httpx.Response) -> None:
        seen.append(str(message.url))

    world.answers = [httpx.Response(200, headers={"Set-Cookie": "a=b"}, json={"access_token": "t"})]
    limit = rate_limited(100, per=60)
    async with client(
        world,
        rate_limit=limit,
        headers={"X-Tenant": "7"},
        params={"q": "1"},
        cookies={"session": "7"},
        event_hooks={"request": [note], "response": [note]},
    ) as calls:
        await calls.get("/")
        assert "a" not in calls.cookies
    assert seen == ["https://api/?q=1"] * 2
    sent = world.fetches[0]
    assert str(sent.url) == TOKEN_URL
    assert not {"x-tenant", "cookie"} & set(sent.headers)
    assert sent.extensions["timeout"] == dict.fromkeys(
        ("connect", "read", "write", "pool"), OPERATION_TIMEOUT
    )
    assert isinstance(sent, httpx.Request)  # of the same package


@pytest.mark.real_time
@pytest.mark.parametrize("status", [302, 307, 308])
async def test_h5_6_the_token_request_follows_no_redirect(status: int) -> None:
    async with http_server() as there, http_server() as server:
        server.script("/token", redirect(f"{there.url}/token", status))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth, follow_redirects=True) as calls:
            with pytest.raises(TokenRequestError, match=str(status)):
                await calls.get("/")
        assert there.received == []
        assert server.lines == ["POST /token"]


@pytest.mark.real_time
async def test_h5_6_it_goes_the_way_of_the_client_that_needs_it() -> None:
    async with http_server() as proxy:
        proxy.script("http://127.0.0.1:9/token", token("t1"))
        auth = OAuth2ClientCredentials("http://127.0.0.1:9/token", "me", SECRET)
        async with ResilientClient("http://api", auth=auth, proxy=proxy.url) as calls:
            assert (await calls.get("/")).status_code == 200
            assert (await calls.get("/")).status_code == 200  # the transport is still open
        assert proxy.lines == ["POST http://127.0.0.1:9/token", "GET http://api/", "GET http://api/"]


@pytest.mark.real_time
async def test_h5_6_in_a_plain_client_it_has_one_of_its_own() -> None:
    async with http_server() as server:
        server.script("/token", token("t1"), token("t2"))
        server.script("/", reply(401))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with httpx.AsyncClient(base_url=server.url, auth=auth) as calls:
            assert (await calls.get("/")).status_code == 200
        assert server.lines == ["POST /token", "GET /", "POST /token", "GET /"]
        assert server.connections == 3


@pytest.mark.real_time
async def test_h5_6_a_plain_client_in_a_hook_borrows_nothing_from_the_client_around_it(
    world: World,
) -> None:
    async with http_server() as server:
        server.script("/token", token("t9"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)

        async def look_up(request: httpx.Request) -> None:
            async with httpx.AsyncClient(auth=auth, base_url=server.url) as plain:
                await plain.get("/keys")

        async with client(world, event_hooks={"request": [look_up]}) as calls:
            await calls.get("/")
        assert server.lines == ["POST /token", "GET /keys"]
    assert world.sent == ["t1"]


# --- 5.7 Where a token goes ---------------------------------------------------------------------------


async def test_h5_7_a_token_goes_to_its_origins_only(world: World) -> None:
    async with client(world) as calls:
        for url in ("https://other/", "http://api/", "/", "https://api:8443/"):
            await calls.get(url)
        await calls.get("https://other/", auth=credentials(origins=["https://other"]))
    assert world.sent == ["-", "-", "t1", "-", "t2"]
    assert len(world.fetches) == 2


async def test_h5_7_a_request_that_goes_elsewhere_fetches_no_token(world: World) -> None:
    world.valid = set()
    async with client(world) as calls:
        assert (await calls.get("https://other/")).status_code == 401
    assert world.fetches == []


@pytest.mark.real_time
async def test_h5_7_a_redirect_to_another_origin_loses_it() -> None:
    async with http_server() as there, http_server() as server:
        server.script("/token", token("t1"))
        server.script("/", redirect(f"{there.url}/"))
        auth = OAuth2ClientCredentials(f"{server.url}/token", "me", SECRET)
        async with ResilientClient(server.url, auth=auth, follow_redirects=True) as calls:
            assert (await calls.get("/")).status_code == 200
        assert [each.headers.get("authorization") for each in there.received] == [None]


@pytest.mark.parametrize(
    "url",
    [
        "http://auth/token",
        "http://127.0.0.1.example/token",
        "http://10.0.0.1/token",
        "http://localhost.example/token",
        "ftp://auth/token",
        "auth/token",
        "/token",
        "https:///token",
        "https://",
        "",
        "https://h:port/",
        "https://me:s3cr3t@auth/token",
        "https://auth/token#fragment",
    ],
)
def test_h5_7_a_token_url_is_https_without_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="token_url") as caught:
        OAuth2ClientCredentials(url, "me", SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://auth/token", "http://localhost:1/t", "http://127.0.0.1/t", "http://[::1]:8/t", "HTTPS://A"],
)
def test_h5_7_or_http_on_loopback(url: str) -> None:
    OAuth2ClientCredentials(url, "me", SECRET)


# --- Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"token_url": None}, TypeError),
        ({"token_url": b"https://auth"}, TypeError),
        ({"client_id": ""}, ValueError),
        ({"client_id": None}, TypeError),
        ({"client_secret": ""}, ValueError),
        ({"client_secret": None}, TypeError),
        ({"client_secret": b"s3cr3t"}, TypeError),
        ({"scope": ""}, ValueError),
        ({"scope": ["a"]}, TypeError),
        ({"audience": ""}, ValueError),
        ({"audience": 3}, TypeError),
        ({"auth_method": "private_key_jwt"}, ValueError),
        ({"auth_method": None}, ValueError),
        ({"origins": "api"}, ValueError),
        ({"origins": [3]}, TypeError),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: type[Exception]) -> None:
    given: dict[str, Any] = {"token_url": TOKEN_URL, "client_id": "me", "client_secret": SECRET, **change}
    with pytest.raises(error, match=next(iter(change))) as caught:
        OAuth2ClientCredentials(**given)
    assert SECRET not in str(caught.value)


def test_a_client_that_is_not_asynchronous_is_refused() -> None:
    with httpx.Client(auth=credentials()) as calls, pytest.raises(RuntimeError, match="asynchronous"):
        calls.get("https://api/")
