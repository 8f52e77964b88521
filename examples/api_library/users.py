"""The client library of a small user-management API, as one would publish it.

async with Users("https://users.example.com", token) as client:
    ada = await client.users.get("ada")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from resilience import rate_limited, retry, setup_logging
from resilience_httpx import (
    BearerAuth,
    ConflictError,
    NotFoundError,
    ResilientClient,
    StandardWebhook,
    log_requests,
)


class UserNotFoundError(NotFoundError):
    """There is no user of that name."""


class NameTakenError(ConflictError):
    """There is a user of that name already."""


@dataclass(frozen=True)
class User:
    """A user."""

    name: str
    email: str


class UserResource:
    """The calls under ``/users``."""

    def __init__(self, client: ResilientClient) -> None:
        self._client = client

    async def get(self, name: str, *, retries: bool = True) -> User:
        """Return the user of a name; with ``retries=False`` ask only once."""
        once: dict[str, Any] = {} if retries else {"retry": None}
        return User(**(await self._client.get(f"/users/{name}", extensions=once)).json())

    async def create(self, user: User) -> User:
        """Make a user, once, however often the request has to be sent."""
        return User(**(await self._client.post("/users", json=vars(user))).json())

    async def delete(self, name: str) -> None:
        """Delete the user of a name."""
        await self._client.delete(f"/users/{name}")

    async def all(self) -> AsyncIterator[User]:
        """Go through all users, page by page."""
        async for each in self._client.paginate("/users", items="users", cursor="next"):
            yield User(**each)

    async def get_many(self, names: Sequence[str]) -> dict[str, User | Exception]:
        """Return the users of some names, or why one could not be had; five requests at a time."""
        results = await self._client.batch([f"/users/{name}" for name in names], max_concurrent=5)
        return {
            name: result.error or User(**result.get().json())
            for name, result in zip(names, results, strict=True)
        }


class Users:
    """A client of the API; close it, or use it as ``async with``.

    Args:
        url: Where the API is.
        token: The access token.
        webhook_secret: The secret that the API signs its messages with.
        log_level: ``DEBUG`` shows each request as it begins, ``INFO`` what went well, ``WARNING`` retries,
            ``ERROR`` what failed for good.
    """

    def __init__(
        self, url: str, token: str, *, webhook_secret: str | None = None, log_level: str = "WARNING"
    ) -> None:
        setup_logging(log_level)
        self._client = ResilientClient(
            url,
            auth=BearerAuth(token),
            retry=retry(attempts=4, wait=[0.05, 0.1, 0.2]),
            rate_limit=rate_limited(100, burst=20),
            idempotency_key=True,
            raise_for_status=True,
            error_map={404: UserNotFoundError, "name_taken": NameTakenError},
            middleware=[log_requests()],
        )
        self._webhook = StandardWebhook(webhook_secret) if webhook_secret else None
        self.users = UserResource(self._client)

    def event(self, body: bytes, headers: Any) -> dict[str, Any]:
        """Return what a message of the API says, once it is certain that the API sent it."""
        if self._webhook is None:
            raise ValueError("webhook_secret must be given to verify messages")
        event: dict[str, Any] = self._webhook.verify(body, headers).json()
        return event

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()
