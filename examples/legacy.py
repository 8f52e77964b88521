"""Step by step into code that already has tenacity, AsyncLimiter and cachetools objects."""

import asyncio

from aiolimiter import AsyncLimiter
from cachetools import LRUCache
from tenacity import retry_if_exception_type, stop_after_attempt, wait_random_exponential

from resilience import cached, circuit_breaker, rate_limited, retry

# --- What the code base has had for years -----------------------------------------------------------

STOP = stop_after_attempt(4)
WAIT = wait_random_exponential(multiplier=0.01, max=0.05)
RETRY = retry_if_exception_type(ConnectionError)
LIMITER = AsyncLimiter(100, 1)
CACHE: LRUCache[str, str] = LRUCache(maxsize=1000)

failures = iter([ConnectionError("reset"), ConnectionError("reset again")])


class LegacyClient:
    """A class nobody wants to touch."""

    async def fetch(self, path: str) -> str:
        if error := next(failures, None):
            raise error
        return f"content of {path}"


# --- Step 1: the same objects, in one line each. Other code may go on using them. --------------------

retried = retry(stop=STOP, wait=WAIT, on=RETRY)
limited = rate_limited(LIMITER)
remembered = cached(store=CACHE)


async def main() -> None:
    client = LegacyClient()

    # Step 2: guard single calls, without changing the class.
    print(await retried.call(client.fetch, "/a"), "- after two failures")

    # Step 3: guard a method of one object from the outside.
    fetch = remembered(retried(limited(client.fetch)))
    await fetch("/b")
    print(await fetch("/b"), "- from the old cache, which holds", len(CACHE), remembered.info())

    # Step 4: guard blocks of code that are no function yet.
    breaker = circuit_breaker(failure_threshold=3)
    async with breaker, limited:
        print("a block behind a breaker and the old limiter:", breaker.state.value)

    # Step 5: turn a policy off again, while the program runs.
    limited.enabled = False
    print(await fetch("/c"), "- without the limiter")


asyncio.run(main())
