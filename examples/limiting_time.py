"""Bound one attempt, the whole call, or both; code inside can see how much time is left."""

import asyncio
import time

from resilience import CallTimeoutError, deadline, retry, timeout

delays = iter([0.5, 0.01])  # the first attempt hangs


@timeout(0.3)  # the whole call, with all attempts and waits
@retry(attempts=3, on=CallTimeoutError, wait=0.01)
@timeout(0.1)  # one attempt
async def get_user(login: str) -> str:
    await asyncio.sleep(next(delays))
    return login.title()


@timeout(0.2)
@retry(attempts=5, on=ConnectionError, wait=10)
async def get_report() -> str:
    left = deadline()
    assert left is not None
    print(f"  {left:.1f} s left")
    raise ConnectionError("reset")


@timeout(0.05)
async def get_film() -> str:
    await asyncio.sleep(1)
    return "too late"


async def main() -> None:
    print("An attempt that hangs is cut off, and the next one answers:")
    print(" ", await get_user("ada"))

    print("A wait that does not fit into the time that is left is not begun:")
    began = time.monotonic()
    try:
        await get_report()
    except ConnectionError as error:
        print(f"  {error} after {time.monotonic() - began:.1f} s: {error.__notes__[0]}")

    print("A call that takes too long raises a TimeoutError that tells which limit it was:")
    try:
        await get_film()
    except TimeoutError as error:
        print(f"  {error}")


if __name__ == "__main__":
    asyncio.run(main())
