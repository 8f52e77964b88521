"""Webhooks: what passes, what does not, and how they are sent."""

import asyncio
import base64
import contextlib
import copy
import hashlib
import hmac
import json
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import retry
from resilience_httpx import (
    BearerAuth,
    GitHubWebhook,
    ResilientClient,
    StandardWebhook,
    StatusError,
    StripeWebhook,
    WebhookDisabledError,
    WebhookVerificationError,
    send_webhook,
)
from resilience_httpx._replays import SeenMessages
from tests.support.http_server import http_server, redirect, reply, reset
from tests.support.virtual_time import advance, now

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes      ").decode()
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330

Headers = dict[str, str]


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the wall clock, which a test may change."""
    reading = [float(NOW)]
    monkeypatch.setattr("resilience_httpx._webhooks.time.time", lambda: reading[0])
    return reading


def standard(**options: Any) -> StandardWebhook:
    return StandardWebhook(SECRET, **options)


MAKERS: list[Callable[..., Any]] = [
    standard,
    lambda **options: StripeWebhook("whsec_stripe", **options),
    lambda **options: GitHubWebhook("github", **options),
]


# --- Published examples ---


def test_h6_6_the_published_example_of_standard_webhooks() -> None:
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": signature,
    }
    message = standard().verify(BODY, headers)
    assert (message.id, message.timestamp, message.body) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY)
    assert message.json() == {"test": 2432232314}
    assert standard().sign(BODY, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=NOW) == headers


def test_h6_6_the_published_example_of_github() -> None:
    webhook = GitHubWebhook("It's a Secret to Everybody")
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    message = webhook.verify(
        b"Hello, World!", {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "72d3162e-cc78"}
    )
    assert (message.id, message.timestamp) == ("72d3162e-cc78", None)


def test_h6_6_stripe_signs_the_time_and_the_body() -> None:
    digest = hmac.new(b"whsec_stripe", b"1614265330." + BODY, hashlib.sha256).hexdigest()
    webhook = StripeWebhook("whsec_stripe")
    header = f"t={NOW},v1={'0' * 64},v1={digest},v0=6ffb"
    message = webhook.verify(BODY, {"Stripe-Signature": header})
    assert (message.id, message.timestamp) == (None, NOW)
    assert webhook.sign(BODY)["Stripe-Signature"] == f"t={NOW},v1={digest}"


# --- What passes ---


@pytest.mark.parametrize("make", MAKERS)
def test_what_was_signed_passes(make: Callable[..., Any]) -> None:
    for body in (b"", BODY, b"\xff\x00", "ä", "\ud800"):
        assert make().verify(body, make().sign(body)).body == make().verify(body, make().sign(body)).body


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda headers: httpx.Headers(headers),
        lambda headers: {name.upper(): value for name, value in headers.items()},
        lambda headers: [*headers.items()],
        lambda headers: [(name.encode(), value.encode()) for name, value in headers.items()],
        lambda headers: {name.encode(): value.encode() for name, value in headers.items()},
    ],
)
def test_headers_of_any_framework(make: Callable[..., Any], wrap: Callable[[Headers], Any]) -> None:
    make().verify(BODY, wrap(make().sign(BODY)))


def test_bodies_of_any_framework() -> None:
    for body in (bytearray(BODY), memoryview(BODY), BODY.decode()):
        assert standard().verify(body, standard().sign(BODY)).body == BODY


def test_h6_6_secrets_can_be_changed_without_a_gap() -> None:
    for kind, old, new in [
        (StandardWebhook, SECRET, OTHER),
        (StripeWebhook, "old", "new"),
        (GitHubWebhook, "old", "new"),
    ]:
        for signed_with in (old, new):
            kind([new, old]).verify(BODY, kind(signed_with).sign(BODY))
        with pytest.raises(WebhookVerificationError):
            kind(new).verify(BODY, kind(old).sign(BODY))
    both = StandardWebhook([SECRET, OTHER]).sign(BODY)
    assert both["webhook-signature"].count("v1,") == 2
    for secret in (SECRET, OTHER):
        StandardWebhook(secret).verify(BODY, both)


def test_h6_6_a_secret_has_a_prefix_or_not() -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    headers = standard().sign(BODY)
    for secret in (SECRET.removeprefix("whsec_"), key, [key], (OTHER, SECRET)):
        StandardWebhook(secret).verify(BODY, headers)
    StandardWebhook("whsec_" + base64.b64encode(bytes(25)).decode().rstrip("="))


def test_signatures_of_other_versions_are_left_aside() -> None:
    headers = standard().sign(BODY)
    right = headers["webhook-signature"]
    headers["webhook-signature"] = f"v1a,{right[3:]} v1 v2,abc nonsense , {right} v1,"
    standard().verify(BODY, headers)
    headers["webhook-signature"] = f"v1a,{right[3:]}"
    with pytest.raises(WebhookVerificationError, match="no signature"):
        standard().verify(BODY, headers)


# --- What does not ---


@pytest.mark.parametrize("make", MAKERS)
def test_h6_6_any_change_is_found(make: Callable[..., Any]) -> None:
    headers = make().sign(BODY, message_id="m", timestamp=NOW)
    for body in (b"", BODY + b" ", BODY[:-1], b"x" + BODY[1:], json.dumps(json.loads(BODY), indent=1)):
        with pytest.raises(WebhookVerificationError):
            make().verify(body, headers)
    for name in headers.keys() - {"X-GitHub-Delivery"}:
        for changed in (
            "",
            " ",
            headers[name][:-1],
            headers[name] + "0",
            headers[name][1:],
            "ä",
            "\ud800",
            "\x00",
        ):
            with pytest.raises(WebhookVerificationError):
                make().verify(BODY, {**headers, name: changed})
        with pytest.raises(WebhookVerificationError, match=f"no header {name.lower()}"):
            make().verify(BODY, {other: headers[other] for other in headers if other != name})


@pytest.mark.parametrize(
    "when",
    [
        "",
        "abc",
        "1614265330.0",
        "1614265330.",
        "-1614265330",
        "+1614265330",
        " 1614265330",
        "1614265330\n",
        "0x60",
        "1_614_265_330",
        "1e9",
        "inf",
        "nan",
        "١٦١٤٢٦٥٣٣٠",
        "1" * 13,
        "9" * 5000,
        "²",
    ],
)
def test_h6_6_the_timestamp_is_a_whole_number(when: str) -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"m.{when}.".encode() + BODY, "sha256")).decode()
    headers = {"webhook-id": "m", "webhook-timestamp": when, "webhook-signature": f"v1,{signature}"}
    with pytest.raises(WebhookVerificationError, match="not a whole number"):
        standard().verify(BODY, headers)
    digest = hmac.new(b"whsec_stripe", f"{when}.".encode() + BODY, hashlib.sha256).hexdigest()
    with pytest.raises(WebhookVerificationError):
        MAKERS[1]().verify(BODY, {"Stripe-Signature": f"t={when},v1={digest}"})


def test_h6_6_stripe_has_one_time() -> None:
    right = MAKERS[1]().sign(BODY)["Stripe-Signature"]
    for header in (f"t=1,{right}", f"{right},t={NOW}", right.partition(",")[2], "t", "=", ",,,", "v1"):
        with pytest.raises(WebhookVerificationError):
            MAKERS[1]().verify(BODY, {"Stripe-Signature": header})
    MAKERS[1]().verify(BODY, {"Stripe-Signature": right.replace(",", " , ")})


@pytest.mark.parametrize("make", MAKERS[:2])
def test_h6_6_old_and_future_messages_are_refused(
    make: Callable[..., Any], wall_clock: list[float]
) -> None:
    for tolerance, options in [(300, {}), (0, {"tolerance": 0}), (60, {"tolerance": timedelta(minutes=1)})]:
        for offset in (-tolerance, 0, tolerance):
            make(**options).verify(BODY, make().sign(BODY, timestamp=NOW + offset))
        with pytest.raises(WebhookVerificationError, match="too old"):
            make(**options).verify(BODY, make().sign(BODY, timestamp=NOW - tolerance - 1))
        with pytest.raises(WebhookVerificationError, match="ahead"):
            make(**options).verify(BODY, make().sign(BODY, timestamp=NOW + tolerance + 1))
    headers = make().sign(BODY)
    wall_clock[0] += 0.9
    make(tolerance=0).verify(BODY, headers)


def test_h6_6_the_parts_that_are_signed_cannot_be_moved() -> None:
    """The dot between id, time and body must not be a part of the id."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"m.{NOW}.{NOW}.body".encode()
    signature = f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
    headers = {"webhook-timestamp": str(NOW), "webhook-signature": signature}
    standard().verify(f"{NOW}.body", {**headers, "webhook-id": "m"})
    with pytest.raises(WebhookVerificationError, match="webhook-id"):
        standard().verify("body", {**headers, "webhook-id": f"m.{NOW}"})


@given(
    st.binary() | st.text(), st.dictionaries(st.text(), st.text() | st.just(f"t={NOW},v1=a"), max_size=4)
)
def test_h6_6_one_exception_type_for_whatever_comes(body: Any, others: Headers) -> None:
    for make in MAKERS:
        headers = make().sign(BODY)
        for name in headers:
            for mixed in (others, {**headers, name: next(iter(others.values()), "")}):
                with contextlib.suppress(WebhookVerificationError):
                    make().verify(body, mixed)


def test_h6_6_every_candidate_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr("resilience_httpx._webhooks.hmac.compare_digest", counting)
    webhook = StandardWebhook([SECRET, OTHER])
    headers = webhook.sign(BODY)
    headers["webhook-signature"] += " v1,abc"
    webhook.verify(BODY, headers)
    assert len(compared) == 6
    assert all(isinstance(each, bytes) for pair in compared for each in pair)


def test_errors_tell_no_signature() -> None:
    headers = standard().sign(BODY)
    with pytest.raises(WebhookVerificationError) as caught:
        standard().verify(BODY + b" ", headers)
    shown = f"{caught.value}{caught.value.details}{caught.value!r}"
    assert headers["webhook-signature"] not in shown
    assert standard().sign(BODY + b" ")["webhook-signature"] not in shown
    assert caught.value.code == "webhook_verification_failed"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# --- Replays ---


@pytest.mark.parametrize("make", MAKERS)
async def test_h6_6_a_message_passes_once(make: Callable[..., Any], wall_clock: list[float]) -> None:
    webhook, headers = make(), make().sign(BODY, timestamp=NOW + 300)
    webhook.verify(BODY, headers)
    for _ in range(4):
        with pytest.raises(WebhookVerificationError, match="came before"):
            webhook.verify(BODY, headers)
        advance(150)
        wall_clock[0] += 150
    make().verify(BODY, headers)  # another object, as in another process
    webhook.verify(b"another", webhook.sign(b"another"))


def test_h6_6_a_replay_with_one_of_two_signatures_is_one() -> None:
    webhook = StandardWebhook([SECRET, OTHER])
    headers = webhook.sign(BODY)
    webhook.verify(BODY, headers)
    for signature in headers["webhook-signature"].split():
        with pytest.raises(WebhookVerificationError, match="came before"):
            webhook.verify(BODY, {**headers, "webhook-signature": signature})


def test_h6_6_a_delivery_id_that_is_not_signed_does_not_hide_a_replay() -> None:
    webhook = GitHubWebhook("github")
    headers = webhook.sign(BODY)
    webhook.verify(BODY, headers)
    with pytest.raises(WebhookVerificationError, match="came before"):
        webhook.verify(BODY, {**headers, "X-GitHub-Delivery": "another"})


def test_h6_6_another_attempt_of_the_sender_passes_under_the_same_id() -> None:
    webhook = standard()
    first = webhook.verify(BODY, webhook.sign(BODY, message_id="m", timestamp=NOW))
    second = webhook.verify(BODY, webhook.sign(BODY, message_id="m", timestamp=NOW + 5))
    assert first.id == second.id == "m"


def test_h6_6_what_was_refused_is_not_remembered() -> None:
    webhook, headers = standard(), standard().sign(BODY)
    with pytest.raises(WebhookVerificationError):
        webhook.verify(BODY, {**headers, "webhook-signature": "v1,abc"})
    webhook.verify(BODY, headers)


@pytest.mark.parametrize("make", MAKERS)
def test_a_message_that_could_not_be_handled_can_be_forgotten(make: Callable[..., Any]) -> None:
    webhook, headers = make(), make().sign(BODY)
    for _ in range(2):
        webhook.forget(webhook.verify(BODY, headers))
    webhook.verify(BODY, headers)


async def test_h6_6_what_is_remembered_is_bounded() -> None:
    webhook = standard(max_seen=3)
    sent = [webhook.sign(BODY) for _ in range(5)]
    for headers in sent:
        webhook.verify(BODY, headers)
    assert len(webhook._seen) == 3
    for headers in sent[2:]:
        with pytest.raises(WebhookVerificationError, match="came before"):
            webhook.verify(BODY, headers)


async def test_h6_6_what_is_too_old_anyway_is_forgotten() -> None:
    seen = SeenMessages(10, 100)
    assert seen.add(b"a")
    advance(5)
    assert seen.add(b"b")
    advance(4.9)
    assert not seen.add(b"a")
    advance(0.1)
    assert seen.add(b"c")
    assert len(seen) == 2
    seen.forget(b"unknown")


class SlowDict(OrderedDict[bytes, float]):
    """Lets other threads run between a look and what follows from it."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        time.sleep(0.005)
        return found


def test_one_of_many_threads_gets_a_message() -> None:
    webhook, headers = standard(), standard().sign(BODY)
    webhook._seen._until = SlowDict()
    passed: list[bool] = []
    barrier = threading.Barrier(8)

    def receive() -> None:
        barrier.wait()
        with contextlib.suppress(WebhookVerificationError):
            webhook.verify(BODY, headers)
            passed.append(True)

    threads = [threading.Thread(target=receive) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert passed == [True]


# --- Arguments ---


@pytest.mark.parametrize(
    ("secret", "error", "message"),
    [
        ("", ValueError, "secret must not be empty"),
        ([], ValueError, "secret must not be empty"),
        ([SECRET, ""], ValueError, "secret must not be empty"),
        (7, TypeError, "secret must be a string or bytes"),
        ([SECRET, None], TypeError, "secret must be a string or bytes"),
        ({SECRET: 1}, TypeError, "secret must be a string or bytes"),
        ("whsec_", ValueError, "24 to 64 bytes, got 0"),
        ("whsec_!!!", ValueError, "base64"),
        ("whsec_äöü", ValueError, "base64"),
        ("whsec_a", ValueError, "base64"),
        ("whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ValueError, "asymmetric"),
        (base64.b64encode(bytes(23)).decode(), ValueError, "24 to 64 bytes, got 23"),
        (bytes(65), ValueError, "24 to 64 bytes, got 65"),
    ],
)
def test_secrets_are_checked(secret: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        StandardWebhook(secret)
    assert "MfKQ" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_not_shown() -> None:
    for webhook in (standard(), StripeWebhook("whsec_stripe"), GitHubWebhook("github")):
        assert repr(webhook) == f"{type(webhook).__name__}(...)"
        for reveal in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match="holds secrets"):
                reveal(webhook)
    assert "2432" not in repr(standard().verify(BODY, standard().sign(BODY)))


@pytest.mark.parametrize("make", MAKERS)
def test_arguments_are_checked(make: Callable[..., Any]) -> None:
    for options, error in [
        ({"tolerance": -1}, ValueError),
        ({"tolerance": "5"}, TypeError),
        ({"max_seen": 0}, ValueError),
        ({"max_seen": None}, TypeError),
    ]:
        with pytest.raises(error, match=next(iter(options))):
            make(**options)
    for options, error in [
        ({"message_id": ""}, ValueError),
        ({"message_id": "a.b"}, ValueError),
        ({"message_id": "a b"}, ValueError),
        ({"message_id": "ä"}, ValueError),
        ({"message_id": "a" * 256}, ValueError),
        ({"message_id": 7}, TypeError),
        ({"timestamp": -1}, ValueError),
        ({"timestamp": 1.5}, TypeError),
    ]:
        with pytest.raises(error, match=next(iter(options))):
            make().sign(BODY, **options)
    for body in (None, {"test": 1}, [1], 7):
        with pytest.raises(TypeError, match="body must be the bytes"):
            make().verify(body, {})
    for headers in (None, 7, "webhook-id", [1], [("a",)], {"a": None}, {7: "a"}):
        with pytest.raises(TypeError, match="headers must be"):
            make().verify(BODY, headers)


# --- Sending ---


class Receiver:
    """Verifies what comes, as a receiver would."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        standard().verify(request.content, request.headers)
        status = self.statuses.pop(0)
        if status == 0:
            raise httpx.ReadError("reset")
        return httpx.Response(status, headers={"Location": "https://elsewhere/"}, content=b"x" * 100)

    def header(self, name: str) -> list[str | None]:
        return [each.headers.get(name) for each in self.requests]


def client(receiver: Any, **options: Any) -> ResilientClient:
    options = {"retry": retry(attempts=4, wait=10), **options}
    return ResilientClient(transport=httpx.MockTransport(receiver), **options)


async def test_h6_6_every_attempt_has_the_same_id_and_a_fresh_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = now()
    monkeypatch.setattr("resilience_httpx._webhooks.time.time", lambda: NOW + now() - began)
    receiver = Receiver(503, 0, 429, 204)
    async with client(receiver) as calls:
        delivery = await send_webhook(calls, "https://hook/x", {"type": "ä"}, standard())
    (message_id,) = set(receiver.header("webhook-id"))
    assert delivery == (message_id, 204)
    assert receiver.header("idempotency-key") == [message_id] * 4
    assert receiver.header("webhook-timestamp") == [str(NOW + wait) for wait in (0, 10, 20, 30)]
    assert len(set(receiver.header("webhook-signature"))) == 4
    assert {(each.method, str(each.url), each.content) for each in receiver.requests} == {
        ("POST", "https://hook/x", '{"type":"ä"}'.encode())
    }
    assert set(receiver.header("content-type")) == {"application/json"}
    assert {json.dumps(each.extensions["timeout"]) for each in receiver.requests} == {
        '{"connect": 20.0, "read": 20.0, "write": 20.0, "pool": 20.0}'
    }


async def test_h6_6_a_second_attempt_in_the_same_second_is_no_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resilience_httpx._webhooks.time.time", lambda: NOW)
    ours = standard()
    statuses = iter([503, 503, 200])

    def receive(request: httpx.Request) -> httpx.Response:
        ours.verify(request.content, request.headers)  # as a receiver that remembers what came
        return httpx.Response(next(statuses))

    async with client(receive, retry=retry(attempts=3, wait=0)) as calls:
        assert (await send_webhook(calls, "https://hook/", {}, standard())).status_code == 200


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_h6_6_2xx_is_success(status: int) -> None:
    async with client(Receiver(status)) as calls:
        assert await send_webhook(calls, "https://hook/", b"raw", standard(), message_id="m") == (
            "m",
            status,
        )


@pytest.mark.parametrize("raises", [True, False])
async def test_h6_6_410_is_disabled(raises: bool) -> None:
    receiver = Receiver(410)
    async with client(receiver, raise_for_status=raises) as calls:
        with pytest.raises(WebhookDisabledError) as caught:
            await send_webhook(calls, "https://hook/?token=secret", "raw", standard())
    assert caught.value.status_code == 410
    assert len(receiver.requests) == 1
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("status", [301, 307, 308, 400, 404, 500])
async def test_h6_6_no_redirects_and_anything_else_is_a_failure(status: int, raises: bool) -> None:
    receiver = Receiver(*[status] * 4)
    async with client(receiver, raise_for_status=raises, follow_redirects=True) as calls:
        with pytest.raises(StatusError) as caught:
            await send_webhook(calls, "https://hook/", [1], standard())
    assert caught.value.status_code == status
    assert not isinstance(caught.value, WebhookDisabledError)
    assert {each.url.host for each in receiver.requests} == {"hook"}
    assert len(receiver.requests) == (4 if status == 500 else 1)


async def test_h6_6_an_attempt_has_a_time_limit() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1000)
        raise AssertionError

    for timeout, seconds in [(None, 20.0), (15, 15.0), (timedelta(seconds=30), 30.0)]:
        began = now()
        async with client(never, retry=None) as calls:
            with pytest.raises(httpx.TimeoutException):
                await send_webhook(
                    calls,
                    "https://hook/",
                    b"",
                    standard(),
                    **({} if timeout is None else {"timeout": timeout}),
                )
        assert now() - began == seconds


async def test_credentials_of_the_client_are_not_sent() -> None:
    receiver = Receiver(200)
    async with client(receiver, auth=BearerAuth("token")) as calls:
        await send_webhook(calls, "https://u:p@hook/", b"", standard())
    assert receiver.header("authorization") == [None]


@pytest.mark.real_time
async def test_h6_6_over_the_wire_and_no_connection_is_lost() -> None:
    async with http_server() as server:
        server.script(
            "/",
            reset(),
            reply(200, body=b"x" * 1000),
            reply(200, body=b"x" * 1_000_000),
            redirect("/other"),
        )
        async with ResilientClient(server.url, retry=retry(attempts=2, wait=0)) as calls:
            for _ in range(2):
                assert (await send_webhook(calls, "/", b"abc", standard())).status_code == 200
            with pytest.raises(StatusError):
                await send_webhook(calls, "/", b"abc", standard())
            assert len(calls._transport._pool.connections) <= 1
        assert [each.body for each in server.received] == [b"abc"] * 4
        assert server.lines == ["POST /"] * 4


@pytest.mark.real_time
async def test_h6_6_a_short_answer_leaves_the_connection_open() -> None:
    async with http_server() as server, ResilientClient(server.url) as calls:
        for _ in range(3):
            await send_webhook(calls, "/", b"abc", standard())
        assert server.connections == 1


@pytest.mark.real_time
async def test_h6_6_an_answer_that_drips_does_not_outlive_the_time_limit() -> None:
    async def dripping(writer: asyncio.StreamWriter) -> bool:
        await reply(200, announced=10_000, body=b"")(writer)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with http_server() as server, ResilientClient(server.url, retry=None) as calls:
        server.script("/", dripping)
        async with asyncio.timeout(10):
            assert (await send_webhook(calls, "/", b"abc", standard(), timeout=0.3)).status_code == 200


async def test_cancelled_anywhere_it_leaves_nothing() -> None:
    for turns in range(60):

        async def answer(request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0)
            return httpx.Response(200, content=b"ok")

        async with client(answer) as calls:
            task = asyncio.ensure_future(send_webhook(calls, "https://hook/", b"", standard()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            if not isinstance(outcome, asyncio.CancelledError):
                assert outcome.status_code == 200
                return
    raise AssertionError("it never came to its end")


async def test_arguments_of_sending_are_checked() -> None:
    async with client(Receiver()) as calls:
        for arguments, options, error, message in [
            (("client", "/", b"", standard()), {}, TypeError, "client must be a ResilientClient"),
            ((calls, "/", b"", "secret"), {}, TypeError, "webhook must be a StandardWebhook"),
            ((calls, "/", b"", standard()), {"timeout": 0}, ValueError, "timeout"),
            ((calls, "/", b"", standard()), {"timeout": None}, TypeError, "timeout"),
            ((calls, "/", b"", standard()), {"message_id": "a.b"}, ValueError, "message_id"),
            (
                (calls, "/", b"", standard()),
                {"message_id": "m" * 256},
                ValueError,
                "message_id must be at most 255",
            ),
            ((calls, "/", object(), standard()), {}, TypeError, "JSON"),
            ((calls, "/", [float("nan")], standard()), {}, ValueError, "JSON"),
            ((calls, 7, b"", standard()), {}, TypeError, "url"),
        ]:
            with pytest.raises(error, match=message):
                await send_webhook(*arguments, **options)
