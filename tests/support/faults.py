"""The faults of a server, what the client makes of each, and the table of it in the documents.

    python -m tests.support.faults

writes the table anew; the test compares it with what a run gives.
"""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import resilience_httpx.httpx2
from resilience import RateLimitExceededError, retry
from resilience_httpx import APIKeyAuth, ResilientClient
from tests.support.http_server import (
    Server,
    Step,
    drip,
    hang_up,
    http_server,
    never,
    redirect,
    reply,
    reset,
    truncated,
)

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "faults.md"

CARRIERS: dict[str, tuple[type[Any], str]] = {
    "httpx": (ResilientClient, "httpx"),
    "httpx2": (resilience_httpx.httpx2.ResilientClient, "httpx"),
    "aiohttp": (ResilientClient, "aiohttp"),
}

METHODS = ("GET", "POST")

SHORT = 0.2
"""Seconds until an attempt is given up that can never end."""


@dataclass(frozen=True)
class Fault:
    """One way in which a server or the network fails.

    Attributes:
        name: What the table calls it.
        steps: Makes what the server answers; after that it answers properly.
        early: What it answers before it has read the body.
        options: Arguments of the client.
        to_another: Whether it redirects to another origin.
        blocks: Whether it asks to be left alone for longer than the client waits.
        before: How many good requests go over the connection first.
        body: What is sent, by methods that send something.
    """

    name: str
    steps: Callable[[], list[Step]]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    early: Step | None = None
    to_another: bool = False
    blocks: bool = False
    before: int = 0
    body: bytes = b"body"


def bomb() -> bytes:
    """Return 100 kB that unpack to 100 MB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(b"\0" * 1_000_000) for _ in range(100)]) + packer.flush()


def bad_gzip() -> Step:
    return reply(200, {"Content-Encoding": "gzip"}, b"this is not gzip")


TOO_LARGE = reply(413, {"Connection": "close"}, b"too large")

FAULTS = [
    Fault("503, then 429", lambda: [reply(503), reply(429)]),
    Fault("503 with `Retry-After: 120`", lambda: [reply(503, {"Retry-After": "120"})], blocks=True),
    Fault("500 with a body of 10 MB", lambda: [reply(500, body=b"x" * 10_000_000)]),
    Fault("503 whose 100 kB unpack to 100 MB", lambda: [reply(503, {"Content-Encoding": "gzip"}, bomb())]),
    Fault("bad gzip", lambda: [bad_gzip()]),
    Fault("the connection is reset before the headers", lambda: [reset()]),
    Fault("the connection is reset after the headers", lambda: [reset(after_headers=True)]),
    Fault("a kept-alive connection is stale", lambda: [hang_up], before=1),
    Fault("the body breaks off", lambda: [truncated()]),
    Fault("`Content-Length` is less than the body", lambda: [reply(announced=1, then_close=True)]),
    Fault("the body drips without end", lambda: [drip(asyncio.Event())], {"attempt_timeout": SHORT}),
    Fault("no answer at all", lambda: [never], {"attempt_timeout": SHORT}),
    Fault("413 before a body of 1 MB has been read", list, early=TOO_LARGE, body=b"x" * 1_000_000),
    Fault("a redirect to another origin", list, {"follow_redirects": True}, to_another=True),
]


async def outcome(fault: Fault, carrier: str, method: str) -> str:
    """Play a fault; return what the caller got and what the server received, as the table says it."""
    kind, backend = CARRIERS[carrier]
    options: dict[str, Any] = {"retry": retry(attempts=3, wait=0), "auth": APIKeyAuth("secret")}
    async with http_server() as server, http_server() as other:
        calls = kind(server.url, backend=backend, **{**options, **fault.options})
        async with calls as client:
            for _ in range(fault.before):
                await client.get("/")
            server.received.clear()
            server.script("/", *([redirect(f"{other.url}/")] if fault.to_another else fault.steps()))
            if fault.early is not None:
                server.early["/"] = fault.early
            told = await _told(client, method, fault.body)
            requests = server.received + other.received
            _check(server, other, fault, method)
            await _check_what_follows(client, fault)
    return f"{told}, {len(requests)} request{'s' if len(requests) != 1 else ''}"


async def _told(client: Any, method: str, body: bytes) -> str:
    content = {"content": body} if method == "POST" else {}
    try:
        response = await client.request(method, "/", **content)
    except Exception as error:
        return f"`{type(error).__name__}`"
    return f"{response.status_code}"


def _check(server: Server, other: Server, fault: Fault, method: str) -> None:
    """See to it that no request came without its body, and no key to another origin."""
    whole = fault.body if method == "POST" else b""
    assert fault.early or all(each.body == whole for each in server.received)
    assert all(each.headers.get("x-api-key") == "secret" for each in server.received)
    assert all("x-api-key" not in each.headers for each in other.received)


async def _check_what_follows(client: Any, fault: Fault) -> None:
    if not fault.blocks:
        assert (await client.get("/after")).text == "ok"
        return
    with pytest.raises(RateLimitExceededError):
        await client.get("/after")


async def table() -> str:
    """Play every fault over every carrier; return the rows of the table."""
    rows = [f"| the server | method | {' | '.join(CARRIERS)} |", "|---" * (2 + len(CARRIERS)) + "|"]
    for fault in FAULTS:
        for method in METHODS:
            cells = [await outcome(fault, carrier, method) for carrier in CARRIERS]
            rows.append(f"| {fault.name} | {method} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Write the table into its document."""
    head = DOCUMENT.read_text().partition("| the server |")[0]
    DOCUMENT.write_text(f"{head}{asyncio.run(table())}\n")


if __name__ == "__main__":
    main()
