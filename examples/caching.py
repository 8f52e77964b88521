"""Keep the results of calls: one call for all who ask at once, tags, expired values of use."""

import asyncio

from resilience import cached

TEAMS = {"ann": "red", "bob": "red", "eve": "blue"}


def team_of(login: str) -> str:
    return f"team {TEAMS[login]}"


users = cached(ttl=60, maxsize=1000, tags=team_of)
rates = cached(ttl=0.05, stale_while_revalidate=10, stale_if_error=60)
versions = iter(range(1, 100))


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


class Directory:
    """Each instance has its own entries, and is not kept alive by them."""

    def __init__(self, address: str) -> None:
        self.address = address

    @cached(ttl=60)
    async def find(self, name: str) -> str:
        return f"{name} at {self.address}"


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

    print("Methods:")
    here, there = Directory("here"), Directory("there")
    print(" ", await here.find("bob"), "/", await there.find("bob"))


asyncio.run(main())
