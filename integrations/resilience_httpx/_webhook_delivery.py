"""Sending webhooks, by the rules of the Standard Webhooks specification for senders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from resilience import _arguments
from resilience_httpx._bodies import hold
from resilience_httpx._errors import StatusError, status_error
from resilience_httpx._idempotency import KEY
from resilience_httpx._packages import Auth, classes, httpx
from resilience_httpx._webhook_message import check_message_id
from resilience_httpx._webhooks import Webhook, new_message_id

if TYPE_CHECKING:
    import httpx2

    Client: TypeAlias = httpx.AsyncClient | httpx2.AsyncClient

_CLIENTS = classes(httpx.AsyncClient)
_REQUEST_ERRORS = classes(httpx.RequestError)

_GONE = 410


class WebhookDisabledError(StatusError):
    """The receiver wants no more webhooks: 410. Send none to this URL until its owner asks for them."""

    default_code = "webhook_disabled"


class WebhookDelivery(NamedTuple):
    """A webhook that was delivered.

    Attributes:
        message_id: What the message is called.
        status_code: The status that the receiver answered with, 2xx.
    """

    message_id: str
    status_code: int


async def send_webhook(
    client: Client,
    url: httpx.URL | str,
    body: bytes | str | Mapping[str, Any] | Sequence[Any],
    webhook: Webhook,
    *,
    message_id: str | None = None,
    timeout: _arguments.Seconds = 20.0,
) -> WebhookDelivery:
    """Send a message to a URL that somebody registered.

    It is one call of the client, a `ResilientClient`, which sends it again as its ``retry`` says. Each
    attempt has the same ``message_id``, which is its idempotency key as well, and a fresh time and
    signature. No redirect is followed, and of the answer only the status counts. Credentials of the client
    are not sent; its headers and cookies are, so webhooks should have a client of their own. As anybody may
    register a URL, that client should have `public_addresses_only`. Safe for concurrent tasks.

    Args:
        client: Sends it.
        url: Where to.
        body: The body: bytes or a string as they are, or what becomes JSON.
        webhook: Signs it; a `StandardWebhook` unless the receivers expect something else.
        message_id: What the message is called. Give the same when it is sent once more, hours later;
            default: a new name.
        timeout: Seconds (or a ``timedelta``) for one attempt, above 0; 15 to 30 are usual.

    Returns:
        What was delivered. The receiver answered 2xx.

    Raises:
        WebhookDisabledError: If the receiver wants no more of them.
        StatusError: If it answered anything else but 2xx, in the last attempt.
        httpx.TransportError: If no answer came, in the last attempt.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> import asyncio, httpx
        >>> from resilience_httpx import ResilientClient, StandardWebhook
        >>> webhook = StandardWebhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        >>> def receive(request: httpx.Request) -> httpx.Response:
        ...     print(webhook.verify(request.content, request.headers).json())
        ...     return httpx.Response(204)
        >>> async def main() -> None:
        ...     async with ResilientClient(transport=httpx.MockTransport(receive)) as client:
        ...         await send_webhook(client, "https://example.com/hook", {"type": "ping"}, webhook)
        >>> asyncio.run(main())
        {'type': 'ping'}
    """
    _arguments.instance("client", client, _CLIENTS, "a ResilientClient")
    _arguments.instance("webhook", webhook, Webhook, "a StandardWebhook or another webhook")
    seconds = _arguments.seconds("timeout", timeout, above_zero=True)
    name = new_message_id() if message_id is None else check_message_id(message_id)
    sender = cast("httpx.AsyncClient", client)  # the two differ in no way that matters here
    request = sender.build_request(
        "POST",
        url,
        content=body if isinstance(body, (bytes, str)) else _as_json(body),
        headers={"Content-Type": "application/json"},
        timeout=seconds,
        extensions={"attempt_timeout": seconds, KEY: name},
    )
    response = await _answer(sender, request, _Signature(webhook, name))
    await _read_a_little(response, seconds)
    if response.is_success:
        return WebhookDelivery(name, response.status_code)
    if response.status_code == _GONE:
        raise WebhookDisabledError(request=response.request, response=response)
    raise status_error(response)


class _Signature(Auth):
    """Signs each attempt anew, because what took long to deliver would be too old.

    Each time is later than the one before: to the receiver, two attempts within a second would be the very
    same message, which it refuses as a replay.
    """

    def __init__(self, webhook: Webhook, message_id: str) -> None:
        self._webhook = webhook
        self._message_id = message_id
        self._latest = 0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._latest = max(int(time.time()), self._latest + 1)
        signed = self._webhook.sign(request.content, message_id=self._message_id, timestamp=self._latest)
        request.headers.update(signed)
        yield request


async def _answer(client: httpx.AsyncClient, request: httpx.Request, auth: Auth) -> httpx.Response:
    try:
        return await client.send(request, auth=auth, follow_redirects=False, stream=True)
    except StatusError as error:  # of a client that raises them
        if error.status_code != _GONE:
            raise
        return error.response


async def _read_a_little(response: httpx.Response, seconds: float) -> None:
    """Let the connection live on if the answer is short and quick. Anybody may have written it."""
    try:
        with contextlib.suppress(TimeoutError, *_REQUEST_ERRORS):
            async with asyncio.timeout(seconds):
                await hold(response)
    finally:
        await response.aclose()


def _as_json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
