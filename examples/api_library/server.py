"""The API itself, as badly as it runs: every third request is answered 503."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NAMES = ("ada", "alan", "barbara", "donald", "edsger", "grace", "tony")


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    users: dict[str, dict[str, str]]
    received: list[str]

    def answer(self) -> None:
        """Do what the request asks for, unless it is the third."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.append(f"{self.command} {self.path}")
        if self.headers.get("Authorization") != "Bearer secret":
            self.reply(401, {})
        elif len(self.received) % 3 == 0:
            self.reply(503, {})
        else:
            self.reply(*self.act(urlsplit(self.path), json.loads(body or "{}")))

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

    def act(self, url: Any, document: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer."""
        name = url.path.removeprefix("/users").strip("/")
        if self.command == "POST":
            if document["name"] in self.users:
                return 409, {"code": "name_taken"}
            self.users[document["name"]] = document
            return 201, document
        if not name:
            first = int(parse_qs(url.query).get("cursor", ["0"])[0])
            rest = list(self.users.values())[first:]
            return 200, {"users": rest[:3], "next": str(first + 3) if len(rest) > 3 else None}
        if name not in self.users:
            return 404, {"code": "unknown_user"}
        return 200, self.users.pop(name) if self.command == "DELETE" else self.users[name]

    def reply(self, status: int, document: dict[str, Any]) -> None:
        """Send an answer."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - so it is called
        """Say nothing."""


@contextmanager
def running() -> Generator[tuple[str, list[str]]]:
    """Serve on a free port of loopback; give its address, and the requests it received so far."""
    users = {name: {"name": name, "email": f"{name}@example.com"} for name in NAMES}
    received: list[str] = []
    handler = type("Handler", (Handler,), {"users": users, "received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
