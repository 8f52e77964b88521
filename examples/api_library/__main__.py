"""A day in the life of the library: ``python -m examples.api_library [LOG_LEVEL]``."""

from __future__ import annotations

import asyncio
import json
import sys

from examples.api_library.server import running
from examples.api_library.users import NameTakenError, User, UserNotFoundError, Users
from resilience_httpx import StandardWebhook

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


async def main(url: str, log_level: str = "ERROR") -> None:
    """Use every part of the library."""
    async with Users(url, "secret", webhook_secret=SECRET, log_level=log_level) as client:
        print("one:  ", await client.users.get("ada"))
        print("all:  ", [user.name async for user in client.users.all()])
        print("new:  ", await client.users.create(User("linus", "linus@example.com")))
        try:
            await client.users.create(User("linus", "other@example.com"))
        except NameTakenError as error:
            print("taken:", error.message)
        found = await client.users.get_many(["ada", "nobody", "grace"])
        print("many: ", {name: type(each).__name__ for name, each in found.items()})
        await client.users.delete("linus")
        try:
            await client.users.get("linus", retries=True)
        except UserNotFoundError as error:
            print("gone: ", error.message)
        body = json.dumps({"deleted": "linus"}).encode()
        print("event:", client.event(body, StandardWebhook(SECRET).sign(body)))


if __name__ == "__main__":
    with running() as (address, received):
        asyncio.run(main(address, *sys.argv[1:]))
    print(f"{len(received)} requests, every third one answered 503; the library hid them all")
