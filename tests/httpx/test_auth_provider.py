"""Schemes of one's own: when they are asked for credentials, and when for new ones."""

import asyncio
import itertools
import logging
import pickle
from typing import Any

import httpx
import pytest

from resilience_httpx import AuthProvider, ResilientClient
from tests.support.http_server import http_server, redirect, reply
from tests.support.virtual_time import settle


class Api:
    """Accepts one session; remembers those that it saw."""

    def __init__(self) -> None:
        self.accepts: str | None = None
        self.seen: list[str | None] = []
        self.latency = 0.0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        session = request.headers.get("X-Session")
        self.seen.append(session)
        if self.latency:
            await asyncio.sleep(self.latency)
        return httpx.Response(200 if self.accepts in (None, session) else 401)


class Session(AuthProvider):
    """Numbers its sessions; takes a second for each."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.session: str | None = None
        self.rejected: list[str | None] = []
        self.running = 0
        self.faults: list[Exception] = []

    @property
    def is_authenticated(self) -> bool:
        return self.session is not None

    async def authenticate(self, request: httpx.Request) -> str | None:
        request.headers["X-Session"] = str(self.session)
        return self.session

    async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
        assert "X-Session" not in request.headers or rejected == request.headers["X-Session"]
        self.rejected.append(rejected)
        self.running += 1
        assert self.running == 1
        try:
            await asyncio.sleep(1)
            if self.faults:
                raise self.faults.pop(0)
            self.session = f"s{len(self.rejected)}"
        finally:
            self.running -= 1


@pytest.fixture
def api() -> Api:
    return Api()


def client(api: Any, auth: Any, **options: Any) -> Any:
    return ResilientClient("https://h", auth=auth, transport=httpx.MockTransport(api), **options)


async def gathered(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_credentials_are_obtained_when_the_first_request_needs_them(api: Api) -> None:
    auth = Session()
    async with client(api, auth) as calls:
        await calls.get("https://other/")
        assert auth.rejected == []
        await gathered(calls.get("/"), calls.get("/"))
        await calls.get("/")
    assert auth.rejected == [None]
    assert api.seen == [None, "s1", "s1", "s1"]


async def test_h5_2_refused_credentials_are_renewed_once_for_all(api: Api) -> None:
    auth = Session()
    async with client(api, auth) as calls:
        await calls.get("/")
        api.accepts, api.latency = "s2", 0.1
        responses = await gathered(*(calls.get("/") for _ in range(5)))
    assert [each.status_code for each in responses] == [200] * 5
    assert auth.rejected == [None, "s1"]
    assert api.seen == ["s1"] * 6 + ["s2"] * 5


async def test_h5_2_a_late_refusal_of_old_credentials_renews_nothing() -> None:
    slow = asyncio.Event()

    class Slow(Api):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            response = await super().__call__(request)
            if request.url.path == "/slow" and response.status_code == 401:
                await slow.wait()
            return response

    api, auth = Slow(), Session()
    async with client(api, auth) as calls:
        await calls.get("/")
        api.accepts = "s2"
        waiting = asyncio.create_task(calls.get("/slow"))
        await settle()
        await calls.get("/")
        slow.set()
        assert (await waiting).status_code == 200
    assert auth.rejected == [None, "s1"]
    assert api.seen == ["s1", "s1", "s1", "s2", "s2"]


async def test_credentials_that_were_refused_are_not_sent_again(api: Api) -> None:
    auth = Session()
    async with client(api, auth) as calls:
        await calls.get("/")
        api.accepts = "s2"
        await gathered(*(calls.get("/") for _ in range(5)))
    assert auth.rejected == [None, "s1"]
    assert api.seen == ["s1"] * 2 + ["s2"] * 5


async def test_h5_2_one_renewal_for_a_request_at_most(api: Api) -> None:
    auth = Session()
    api.accepts = "never"
    async with client(api, auth) as calls:
        assert (await calls.get("/")).status_code == 401
        assert auth.rejected == [None, "s1"]
        assert (await calls.get("/")).status_code == 401
    assert auth.rejected == [None, "s1", "s2"]
    assert api.seen == ["s1", "s2", "s2", "s3"]


async def test_a_failed_renewal_ends_those_that_wait_and_the_next_request_tries_again(api: Api) -> None:
    auth = Session()
    auth.faults = [LookupError("no"), LookupError("no")]
    async with client(api, auth) as calls:
        errors = await gathered(calls.get("/"), calls.get("/"))
        assert [type(each) for each in errors] == [LookupError] * 2
        assert api.seen == []
        errors = await gathered(calls.get("/"))
        assert [type(each) for each in errors] == [LookupError]
        assert (await calls.get("/")).status_code == 200
    assert auth.rejected == [None] * 3


async def test_a_renewal_after_a_refusal_that_fails_is_made_up_for_by_the_next_request(api: Api) -> None:
    auth = Session()
    async with client(api, auth) as calls:
        await calls.get("/")
        api.accepts, auth.faults = "s3", [LookupError("no")]
        with pytest.raises(LookupError):
            await calls.get("/")
        assert (await calls.get("/")).status_code == 200
    assert auth.rejected == [None, "s1", "s1"]
    assert api.seen == ["s1", "s1", "s3"]  # the refused one is not tried again


@pytest.mark.parametrize("refused", [False, True])
async def test_cancelled_in_any_turn_it_leaves_nothing_behind(api: Api, refused: bool) -> None:
    auth = Session()
    async with client(api, auth, retry=None) as calls:
        for turns in itertools.count():
            auth.session = "old" if refused else None
            api.accepts = f"s{len(auth.rejected) + 1}"
            task = asyncio.create_task(calls.get("/"))
            for _ in range(turns):
                await (asyncio.sleep(0) if turns % 2 else asyncio.sleep(0.05))
            was_done = task.done()
            task.cancel()
            await gathered(task)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert (auth.running, len(auth._flights)) == (0, 0)
            if was_done and turns > 40:
                break
        api.accepts = None
        assert (await calls.get("/")).status_code == 200


async def test_a_renewal_may_use_the_client_itself() -> None:
    class Login(AuthProvider):
        session: str | None = None

        @property
        def is_authenticated(self) -> bool:
            return self.session is not None

        async def authenticate(self, request: httpx.Request) -> str | None:
            request.headers["X-Session"] = str(self.session)
            return self.session

        async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
            self.session = (await calls.post("/login")).text

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/login":
            assert "X-Session" not in request.headers
            return httpx.Response(200, text="s1")
        return httpx.Response(200, text=request.headers["X-Session"])

    async with client(answer, Login()) as calls:
        responses = await gathered(calls.get("/"), calls.get("/"))
    assert [each.text for each in responses] == ["s1", "s1"]


async def test_a_renewal_that_is_refused_itself_does_not_begin_another(api: Api) -> None:
    class Login(Session):
        async def refresh(self, request: httpx.Request, rejected: str | None) -> None:
            self.rejected.append(rejected)
            (await calls.post("/login")).raise_for_status()

    api.accepts = "never"
    auth = Login()
    async with client(api, auth) as calls:
        with pytest.raises(httpx.HTTPStatusError):
            await calls.get("/")
    assert auth.rejected == [None]


async def test_without_refresh_a_refusal_is_the_answer(api: Api) -> None:
    class Signature(AuthProvider):
        async def authenticate(self, request: httpx.Request) -> None:
            request.headers["X-Session"] = "sig"

    api.accepts = "never"
    async with client(api, Signature()) as calls:
        assert (await calls.get("/")).status_code == 401
    assert api.seen == ["sig"]


async def test_what_must_be_overridden_says_so(api: Api) -> None:
    class Half(AuthProvider):
        is_authenticated = False  # type: ignore[assignment]

    async with client(api, AuthProvider()) as calls:
        with pytest.raises(NotImplementedError, match="AuthProvider must override authenticate"):
            await calls.get("/")
        with pytest.raises(NotImplementedError, match="Half must override refresh"):
            await calls.get("/", auth=Half())


@pytest.mark.real_time
async def test_h6_1_what_it_adds_does_not_follow_a_redirect_to_another_origin() -> None:
    class Keys(AuthProvider):
        async def authenticate(self, request: httpx.Request) -> None:
            request.headers["X-Key"] = "s3cr3t"
            request.headers["User-Agent"] = "s3cr3t"
            request.headers["Accept"] = request.headers["Accept"]

    async with http_server() as there, http_server() as server:
        server.script("/", redirect("/near"))
        server.script("/near", redirect(f"{there.url}/far"))
        async with ResilientClient(server.url, auth=Keys(), follow_redirects=True) as calls:
            await calls.get("/")
        assert [each.headers["x-key"] for each in server.received] == ["s3cr3t"] * 2
        assert "s3cr3t" not in str(there.received)
        assert there.received[0].headers["accept"] == "*/*"


@pytest.mark.real_time
async def test_a_second_401_leaves_the_body_to_the_caller() -> None:
    async with http_server() as server:
        server.script("/", reply(401, body=b"one"), reply(401, body=b"two"))
        auth = Session()
        auth.session = "s0"
        async with (
            ResilientClient(server.url, auth=auth) as calls,
            calls.stream("POST", "/", content=b"x") as response,
        ):
            assert await response.aread() == b"two"
        assert [(each.headers["x-session"], each.body) for each in server.received] == [
            ("s0", b"x"),
            ("s1", b"x"),
        ]


async def test_a_401_that_a_hook_has_read_is_renewed_as_well(api: Api) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    api.accepts = "s2"
    async with client(api, Session(), event_hooks={"response": [read]}) as calls:
        assert (await calls.get("/")).status_code == 200


async def test_h6_2_parameters_that_it_adds_are_masked_in_the_log(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    class Query(AuthProvider):
        async def authenticate(self, request: httpx.Request) -> None:
            request.url = request.url.copy_merge_params({"mine": "s3cr3t"})

    caplog.set_level(logging.INFO)
    async with client(api, Query()) as calls:
        await calls.get("/?page=2")
    assert "page=2&mine=REDACTED" in caplog.text
    assert "s3cr3t" not in caplog.text


async def test_it_works_in_a_plain_client(api: Api) -> None:
    auth = Session(origins="https://one")
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(api)) as calls:
        await calls.get("https://one/")
        await calls.get("https://two/")
        api.accepts = "s2"
        assert (await calls.get("https://one/")).status_code == 200
    assert api.seen == ["s1", None, "s1", "s2"]


def test_a_client_that_is_not_asynchronous_is_refused() -> None:
    with httpx.Client(auth=Session()) as calls, pytest.raises(RuntimeError, match="asynchronous"):
        calls.get("https://h/")


def test_it_adds_nothing_by_itself() -> None:
    with pytest.raises(NotImplementedError):
        next(AuthProvider().auth_flow(httpx.Request("GET", "https://h")))


def test_it_shows_nothing_and_cannot_be_pickled() -> None:
    assert repr(Session()) == "Session(...)"
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(Session())


@pytest.mark.parametrize(("origins", "error"), [("h", ValueError), ([None], TypeError)])
def test_wrong_arguments(origins: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="origins"):
        Session(origins=origins)


async def test_requests_that_need_no_renewal_wait_for_none(api: Api) -> None:
    """One that began before a refusal goes on with what it has."""
    auth = Session()
    async with client(api, auth) as calls:
        await calls.get("/")
        api.accepts = "s2"
        refused = asyncio.create_task(calls.get("/"))
        await settle()
        other = asyncio.create_task(calls.get("https://other/"))
        await settle()
        assert other.done()
        assert not refused.done()
        await gathered(refused, other)
