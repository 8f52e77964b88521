"""Webhooks: who sent this message, when, and did it come before?

A sender signs each message with a secret that the receiver knows as well: HMAC-SHA256 over the raw body
and, but for GitHub, the time. `verify` needs the bytes as they came: a body that was parsed and written
anew has another signature. Whatever is wrong with a message is a `WebhookVerificationError`.

Sources: https://www.standardwebhooks.com (the specification, version 1), Stripe's and GitHub's
documentation of their signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from resilience import _arguments
from resilience_httpx._replays import SeenMessages
from resilience_httpx._webhook_message import (
    Claim,
    Headers,
    ReceivedHeaders,
    WebhookMessage,
    WebhookVerificationError,
    check_message_id,
    is_message_id,
    parse_timestamp,
    raw_body,
)


class Webhook(ABC):
    """One way to sign webhooks; the base of `StandardWebhook`, `StripeWebhook` and `GitHubWebhook`.

    Args:
        secret: The secret, or several while it is being changed: each one is good for `verify`.
        tolerance: Seconds (or a ``timedelta``) that a message may be old, and that its time may be ahead.
        max_seen: How many messages are remembered, so that none passes twice; 1 or more.
    """

    def __init__(
        self,
        secret: str | bytes | Sequence[str | bytes],
        *,
        tolerance: _arguments.Seconds = 300.0,
        max_seen: int = 100_000,
    ) -> None:
        self._tolerance = _arguments.seconds("tolerance", tolerance)
        self._keys = tuple(self._key(each) for each in _several(secret))
        # A time that is ahead by the tolerance is good for twice as long.
        self._seen = SeenMessages(2 * self._tolerance + 1, _arguments.whole("max_seen", max_seen))

    def verify(self, body: bytes | str, headers: Headers) -> WebhookMessage:
        """Make sure that a message comes from its sender, is recent, and did not come before.

        A second attempt of the sender, which is signed anew, passes: its ``id`` tells whether the message
        was handled. What passed is remembered by this object, so there should be one for all requests.
        Safe for concurrent tasks, threads and loops.

        Args:
            body: The body as it came.
            headers: The headers, as a mapping or as pairs; their names are compared without case.

        Returns:
            The message.

        Raises:
            WebhookVerificationError: If anything is wrong with the message, whatever it is.
            TypeError: If ``body`` is neither bytes nor a string, or ``headers`` are no headers at all.
        """
        raw = raw_body(body)
        claim = self._claim(ReceivedHeaders(headers), raw)
        self._check_signature(claim)
        self._check_time(claim.timestamp)
        message = WebhookMessage(claim.id, claim.timestamp, raw, hashlib.sha256(claim.signed).digest())
        if not self._seen.add(message.digest):
            raise WebhookVerificationError("the webhook came before")
        return message

    def forget(self, message: WebhookMessage) -> None:
        """Let the very same message pass again, because it could not be handled."""
        self._seen.forget(message.digest)

    def sign(
        self, body: bytes | str, *, message_id: str | None = None, timestamp: int | None = None
    ) -> dict[str, str]:
        """Return the headers that go with a message.

        Args:
            body: The body as it will be sent.
            message_id: What the message is called in every attempt to deliver it; default: a new name.
            timestamp: When it is sent, in seconds since 1970; default: now.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If ``message_id`` has a dot or what is not printable ASCII, or ``timestamp`` is
                negative.
        """
        name = new_message_id() if message_id is None else check_message_id(message_id)
        now = int(time.time()) if timestamp is None else timestamp
        return self._headers(name, _arguments.whole("timestamp", now, at_least=0), raw_body(body))

    @abstractmethod
    def _claim(self, headers: ReceivedHeaders, body: bytes) -> Claim: ...

    @abstractmethod
    def _headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]: ...

    def _key(self, secret: str | bytes) -> bytes:
        return secret.encode() if isinstance(secret, str) else secret

    def _signatures(self, signed: bytes) -> list[str]:
        """Return the signatures by all secrets."""
        return [_hexadecimal(key, signed) for key in self._keys]

    def _check_signature(self, claim: Claim) -> None:
        """Compare each signature with each right one, all of them, in a time that tells nothing."""
        claimed = [each.encode("utf-8", "replace") for each in claim.signatures]
        right = [each.encode("ascii") for each in self._signatures(claim.signed)]
        matches = [hmac.compare_digest(one, other) for one in claimed for other in right]
        if not any(matches):
            raise WebhookVerificationError("no signature of the webhook is right")

    def _check_time(self, timestamp: int | None) -> None:
        if timestamp is None:
            return
        age = int(time.time()) - timestamp
        if age > self._tolerance:
            raise WebhookVerificationError("the webhook is too old")
        if age < -self._tolerance:
            raise WebhookVerificationError("the time of the webhook is ahead; compare the clocks")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled: it holds secrets")


class StandardWebhook(Webhook):
    """Webhooks by the Standard Webhooks specification, as OpenAI, Svix and others send them.

    Args:
        secret: ``"whsec_"`` and the base64 of 24 to 64 bytes, with or without the prefix, or these bytes;
            or several secrets while it is being changed. `sign` signs with all of them.
        tolerance: Seconds (or a ``timedelta``) that a message may be old, and that its time may be ahead.
        max_seen: How many messages are remembered, so that none passes twice; 1 or more.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a secret is none, or an argument is out of range.

    Example:
        >>> webhook = StandardWebhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        >>> headers = webhook.sign(b'{"type": "user.created"}', message_id="msg_1")
        >>> webhook.verify(b'{"type": "user.created"}', headers).json()
        {'type': 'user.created'}
    """

    def _key(self, secret: str | bytes) -> bytes:
        key = _decoded(secret) if isinstance(secret, str) else secret
        if not 24 <= len(key) <= 64:
            raise ValueError(f"secret must have 24 to 64 bytes, got {len(key)}")
        return key

    def _signatures(self, signed: bytes) -> list[str]:
        digests = [hmac.digest(key, signed, "sha256") for key in self._keys]
        return [base64.b64encode(digest).decode("ascii") for digest in digests]

    def _claim(self, headers: ReceivedHeaders, body: bytes) -> Claim:
        name, when = headers.get("webhook-id"), headers.get("webhook-timestamp")
        if not is_message_id(name):
            raise WebhookVerificationError("the webhook-id is malformed")
        versions = [each.partition(",") for each in headers.get("webhook-signature").split(" ")]
        signatures = [signature for version, _, signature in versions if version == "v1"]
        return Claim(name, parse_timestamp(when), f"{name}.{when}.".encode("ascii") + body, signatures)

    def _headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        signatures = self._signatures(f"{message_id}.{timestamp}.".encode("ascii") + body)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }


class StripeWebhook(Webhook):
    """Webhooks of Stripe: ``Stripe-Signature: t=1492774577,v1=5257a8...``.

    Args:
        secret: The secret as Stripe shows it, ``"whsec_"`` included, or several while it is being changed.
        tolerance: Seconds (or a ``timedelta``) that a message may be old, and that its time may be ahead.
        max_seen: How many messages are remembered, so that none passes twice; 1 or more.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a secret is empty, or an argument is out of range.

    Example:
        >>> webhook = StripeWebhook("whsec_test")
        >>> webhook.verify(b"{}", webhook.sign(b"{}")).json()
        {}
    """

    def _claim(self, headers: ReceivedHeaders, body: bytes) -> Claim:
        parts = [part.strip().partition("=") for part in headers.get("stripe-signature").split(",")]
        times = [value for name, _, value in parts if name == "t"]
        if len(times) != 1:
            raise WebhookVerificationError("the Stripe-Signature is malformed")
        signatures = [value for name, _, value in parts if name == "v1"]
        return Claim(None, parse_timestamp(times[0]), f"{times[0]}.".encode("ascii") + body, signatures)

    def _headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:  # noqa: ARG002
        signatures = self._signatures(f"{timestamp}.".encode("ascii") + body)
        return {"Stripe-Signature": ",".join([f"t={timestamp}", *(f"v1={each}" for each in signatures)])}


class GitHubWebhook(Webhook):
    """Webhooks of GitHub: ``X-Hub-Signature-256: sha256=757107ea...``.

    GitHub signs the body alone. So nothing tells how old a message is; that it came before is known for
    twice the tolerance, by its body. A delivery that is repeated by hand within that time passes after
    `forget`.

    Args:
        secret: The secret, or several while it is being changed; `sign` uses the first.
        tolerance: Half the seconds (or ``timedelta``) for which a message is remembered.
        max_seen: How many messages are remembered, so that none passes twice; 1 or more.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a secret is empty, or an argument is out of range.

    Example:
        >>> webhook = GitHubWebhook("It's a Secret to Everybody")
        >>> webhook.sign(b"Hello, World!", message_id="72d3162e")["X-Hub-Signature-256"][:23]
        'sha256=757107ea0eb2509f'
    """

    def _claim(self, headers: ReceivedHeaders, body: bytes) -> Claim:
        method, _, signature = headers.get("x-hub-signature-256").partition("=")
        signatures = [signature] if method == "sha256" else []
        return Claim(headers.find("x-github-delivery"), None, body, signatures)

    def _headers(self, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:  # noqa: ARG002
        signature = self._signatures(body)[0]
        return {"X-GitHub-Delivery": message_id, "X-Hub-Signature-256": f"sha256={signature}"}


def new_message_id() -> str:
    """Make a name for a message that no other one has."""
    return f"msg_{secrets.token_urlsafe(20)}"


def _several(secret: Any) -> list[str | bytes]:
    """Return the secrets. An error must not show them."""
    each: Any = [secret] if isinstance(secret, (str, bytes)) else secret
    if not isinstance(each, Sequence):
        raise TypeError("secret must be a string or bytes, or a list of them")
    several = cast("Sequence[object]", each)
    if not all(isinstance(one, (str, bytes)) for one in several):
        raise TypeError("secret must be a string or bytes, or a list of them")
    if not several or not all(several):
        raise ValueError("secret must not be empty")
    return cast("list[str | bytes]", [*several])


def _decoded(secret: str) -> bytes:
    if secret.startswith(("whpk_", "whsk_")):
        raise ValueError("secret must be a whsec_ one; asymmetric keys (whpk_, whsk_) are not supported")
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError('secret must be "whsec_" and the base64 of 24 to 64 bytes') from None


def _hexadecimal(key: bytes, signed: bytes) -> str:
    return hmac.digest(key, signed, "sha256").hex()
