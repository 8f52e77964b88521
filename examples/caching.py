"""Keep the results of calls: for all who ask at once, past their end, ahead of it, in two levels."""

import asyncio
import copy
from dataclasses import replace
from time import monotonic

from resilience import CacheEntry, cached

TEAMS = {"ann": "red", "bob": "red", "eve": "blue"}


def team_of(login: str) -> str:
    return f"team {TEAMS[login]}"


users = cached(ttl=60, maxsize=1000, tags=team_of)
rates = cached(ttl=0.05, stale_while_revalidate=10, stale_if_error=60)
prices = cached(ttl=0.3, early_refresh=1)
settings = cached(ttl=60, copy=copy.deepcopy)
versions = iter(range(1, 100))
quotes = iter(range(1, 100))


@users
async def get_user(login: str) -> str:
    await asyncio.sleep(0.05)
    print("  loading", login)
    return login.title()


@rates
async def get_rate(currency: str) -> str:
    version = next(versions)
    if version == 3:
        raise ConnectionError("the bank is closed")
    return f"{currency}, version {version}"


@prices
async def get_price(share: str) -> str:
    await asyncio.sleep(0.1)
    return f"{share}, quote {next(quotes)}"


@settings
async def get_settings() -> dict[str, list[str]]:
    return {"languages": ["en"]}


class Directory:
    """Each instance has its own entries, and is not kept alive by them."""

    def __init__(self, address: str) -> None:
        self.address = address

    @cached(ttl=60)
    async def find(self, name: str) -> str:
        return f"{name} at {self.address}"


class Store:
    """What several processes share; stands for a store on the network."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[float, CacheEntry]] = {}

    async def get(self, key: str) -> CacheEntry | None:
        print("  asking the store")
        if key not in self.entries:
            return None
        stored_at, entry = self.entries[key]
        return replace(entry, expires_in=stored_at + entry.expires_in - monotonic())

    async def set(self, key: str, entry: CacheEntry) -> None:
        self.entries[key] = (monotonic(), entry)

    async def delete(self, key: str) -> None:
        self.entries.pop(key, None)

    async def clear(self) -> None:
        self.entries.clear()


teams = cached(ttl=60, store=Store(), memory_ttl=5)


@teams
async def get_team(login: str) -> str:
    return TEAMS[login]


async def main() -> None:
    print("Ten callers at once make one call, and later ones none:")
    print(
        " ", set(await asyncio.gather(*(get_user("bob") for _ in range(10)))), await get_user(login="bob")
    )
    print(" ", users.info())

    print("What changed is forgotten, by arguments or by tag:")
    await asyncio.gather(get_user("ann"), get_user("eve"))
    users.invalidate("bob")
    users.invalidate_tag("team red")
    print(" ", await asyncio.gather(*map(get_user, TEAMS)))

    print("An expired value is returned at once, while a new one is loaded in the background:")
    print(" ", await get_rate("EUR"))
    await asyncio.sleep(0.06)
    print(" ", await get_rate("EUR"))
    await asyncio.sleep(0.01)
    print(" ", await get_rate("EUR"))

    print("A refresh that fails leaves the old value in place:")
    await asyncio.sleep(0.06)
    print(" ", await get_rate("EUR"))
    await asyncio.sleep(0.01)
    print(" ", await get_rate("EUR"), "-", rates.snapshot()["refresh_failures"], "failure nobody saw")
    await rates.aclose()

    print("With early_refresh a value is replaced ahead of its end, so that hardly anybody waits:")
    waits: list[float] = []
    price = await get_price("ACME")
    for _ in range(60):
        began = monotonic()
        price = await get_price("ACME")
        waits.append(monotonic() - began)
        await asyncio.sleep(0.01)
    print(" ", price, "- asked 60 times, waited", sum(wait > 0.05 for wait in waits), "times")
    await prices.aclose()

    print("With copy everybody gets a value of his own:")
    (await get_settings())["languages"].append("de")
    print(" ", await get_settings())

    print("Memory over a store that processes share: three calls, one look; both levels forget:")
    print(" ", [await get_team("bob") for _ in range(3)])
    await teams.invalidate("bob")
    print(" ", await get_team("bob"))

    print("Methods:")
    here, there = Directory("here"), Directory("there")
    print(" ", await here.find("bob"), "/", await there.find("bob"))


asyncio.run(main())
