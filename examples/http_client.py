"""The ready-made client against a server that stumbles: what the server receives, and what we see of it."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import Counter
from itertools import count

from resilience import RateLimitExceededError, circuit_breaker, rate_limited, retry
from resilience_httpx import BearerAuth, NotFoundError, ResilientClient, ServerError


class StumblingServer:
    """Knows one user, and takes no orders; drops the first connection, then is overloaded once."""

    def __init__(self) -> None:
        self.requests = Counter[str]()
        self._numbers = count(1)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request = head.decode().partition(" HTTP")[0]
        self.requests[request] += 1
        writer.write(self.answer(request, next(self._numbers)).encode())
        writer.close()

    def answer(self, request: str, number: int) -> str:
        if number == 1:
            return ""
        if number == 2:
            return respond("503 Service Unavailable", "", "Retry-After: 0.2\r\n")
        if request.endswith("/users/ada"):
            return respond("200 OK", '{"login": "ada"}')
        if request.startswith("GET /search"):
            return respond("200 OK", "[]")
        if request.startswith("POST"):
            return respond("503 Service Unavailable", "")
        return respond("404 Not Found", "")


def respond(status: str, body: str, headers: str = "") -> str:
    return f"HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"


async def main() -> None:
    stumbling = StumblingServer()
    server = await asyncio.start_server(stumbling.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with ResilientClient(
        f"http://127.0.0.1:{port}",
        retry=retry(attempts=4),
        rate_limit=rate_limited(10, burst=20),
        circuit_breaker=circuit_breaker(failure_threshold=5),  # one circuit per origin
        auth=BearerAuth("secret"),  # goes to this origin only
        endpoints={"GET /search*": [rate_limited(2, per=60, max_wait=0)]},  # takes the place of the above
        raise_for_status=True,
    ) as client:
        user = (await client.get("/users/ada")).json()
        sent = stumbling.requests["GET /users/ada"]
        print(f"{user['login']} after {sent} requests: a dropped connection, a 503, an answer")

        try:
            await client.get("/users/bob", params={"token": "secret"})
        except NotFoundError as error:  # also an httpx.HTTPStatusError
            print(f"{error} (the query stays secret)")

        try:
            await client.post("/orders", json={"item": 1})
        except ServerError as error:
            print(f"{error}, sent {stumbling.requests['POST /orders']} time: it may have been carried out")

        try:
            for word in ("shoes", "socks", "hats"):
                await client.get(f"/search/{word}")
        except RateLimitExceededError as error:  # also an httpx.TransportError
            print(error)

        await client.get("/users/ada", extensions={"retry": None})  # not retried, this call only
        print("the server received", dict(stumbling.requests))
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
