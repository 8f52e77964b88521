"""Answer with something else when a call fails: a value, the result of a function, or a chain of these."""

import asyncio

from resilience import circuit_breaker, fallback, subscribe

archive = {"ada": "Ada (of yesterday)"}


@fallback("A. Nonymous")  # a value, when nothing else is left
async def from_archive(_error: Exception, login: str) -> str:
    return archive[login]


@fallback(from_archive, on=ConnectionError)  # a function: it gets the error, then the arguments
async def get_user(login: str) -> str:
    raise ConnectionError(f"{login}: reset by peer")


def nothing(_error: Exception, _words: str) -> list[str]:
    return []  # made anew for each caller, unlike a value


@fallback(nothing)
@circuit_breaker(failure_threshold=1)
async def search(words: str) -> list[str]:
    raise TimeoutError(f"{words}: too slow")


async def main() -> None:
    print("The archive answers in place of the server, and a value in place of the archive:")
    print(" ", await get_user("ada"))
    print(" ", await get_user("bob"))

    print("The circuit's own rejections are answered too, and each original stays visible:")
    unsubscribe = subscribe(
        lambda event: event.kind == "fallback.used" and print(" ", event.name, event.attributes["error"])
    )
    for _ in range(2):
        print("  found", await search("red shoes"))
    unsubscribe()


if __name__ == "__main__":
    asyncio.run(main())
