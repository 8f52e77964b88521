"""What comes in as a webhook: headers and a body, of which nothing can be taken for granted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

from resilience import ResilienceError, _arguments

Headers: TypeAlias = (
    Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str, str] | tuple[bytes, bytes]]
)

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_ID = re.compile(r"[!-\-/-~]{1,256}")  # printable and no dot, which stands between the signed parts
_LONGEST_OF_OURS = 255  # it is the idempotency key as well


class WebhookVerificationError(ResilienceError):
    """A webhook is not what its sender signed, is too old, or came before. Answer it with status 400."""

    default_code = "webhook_verification_failed"


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A message that was verified.

    Attributes:
        id: What the sender calls it, in every attempt to deliver it, or ``None`` if it has no name.
            Stripe's is in the body, and GitHub does not sign it.
        timestamp: When it was sent, in seconds since 1970, or ``None`` if the sender does not say.
        body: The body.
        digest: What tells this very message from all others: SHA-256 over what was signed.
    """

    id: str | None
    timestamp: int | None
    body: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body, parsed.

        Raises:
            ValueError: If it is not JSON.
        """
        return json.loads(self.body)


class Claim(NamedTuple):
    """What the headers of a message claim.

    Attributes:
        id: Its name.
        timestamp: When it was sent.
        signed: The bytes that the signature is for.
        signatures: The signatures, of which one has to be right.
    """

    id: str | None
    timestamp: int | None
    signed: bytes
    signatures: Sequence[str]


class ReceivedHeaders:
    """Headers by their names, without case; what came in bytes is text."""

    def __init__(self, headers: Any) -> None:
        pairs: Any = headers.items() if hasattr(headers, "items") else headers
        try:
            self._values = {_text(name).lower(): _text(value) for name, value in pairs}
        except (TypeError, ValueError):
            raise TypeError(
                f"headers must be a mapping of headers, or pairs of them, got a {type(pairs).__name__}"
            ) from None

    def find(self, name: str) -> str | None:
        """Return a header, or ``None``."""
        return self._values.get(name)

    def get(self, name: str) -> str:
        """Return a header that has to be there."""
        value = self._values.get(name)
        if value is None:
            raise WebhookVerificationError(f"the webhook has no header {name}")
        return value


def raw_body(body: Any) -> bytes:
    """Return a body as the bytes that were signed."""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(cast("bytes", body))
    raise TypeError(f"body must be the bytes as they come, not parsed, got a {type(body).__name__}")


def parse_timestamp(value: str) -> int:
    """Return the time that a message claims."""
    if not _TIMESTAMP.fullmatch(value):
        raise WebhookVerificationError("the time of the webhook is not a whole number")
    return int(value)


def is_message_id(name: str) -> bool:
    """Whether a message can have this name."""
    return _ID.fullmatch(name) is not None


def check_message_id(value: object) -> str:
    """Return the name of a message, if it can be one."""
    name = _arguments.text("message_id", value)
    if not is_message_id(name) or len(name) > _LONGEST_OF_OURS:
        raise ValueError(
            f"message_id must be at most {_LONGEST_OF_OURS} printable ASCII characters without a dot, "
            f"got {name!r}"
        )
    return name


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise TypeError
