"""Keep to a quota: an exact window, a bucket with bursts, a limit per user, a limiter you already own."""

import asyncio
import time

from aiolimiter import AsyncLimiter

from resilience import RateLimitExceededError, SlidingWindow, rate_limited


# Never more than 5 calls in any 0.2 seconds; the others wait their turn, first come, first served.
@rate_limited(5, per=0.2)
async def get_page(number: int) -> int:
    return number


# 20 at once after a pause, then 50 a second. What does not fit is refused, and told when to come back.
@rate_limited(50, burst=20, max_wait=0)
async def search(text: str) -> str:
    return text.upper()


def recipient(user: str) -> str:
    return user


# Each user has a limit of their own; one who is too fast does not hold up the others.
per_user = rate_limited(2, per=0.2, key=recipient)


@per_user
async def send_message(user: str) -> str:
    return f"sent to {user}"


# One quota for two functions, of which one costs more.
quota = SlidingWindow(10, per=0.2)


@rate_limited(quota)
async def read(item: int) -> int:
    return item


@rate_limited(quota, cost=5)
async def write(item: int) -> int:
    return item


# An AsyncLimiter keeps its own rules, and its callers stand in a fair line.
legacy = rate_limited(AsyncLimiter(10, 0.2))


async def main() -> None:
    began = time.monotonic()
    pages = await asyncio.gather(*(get_page(number) for number in range(12)))
    print(f"{len(pages)} pages in {time.monotonic() - began:.1f} s")

    answers = await asyncio.gather(*(search("x") for _ in range(25)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, RateLimitExceededError)]
    print(f"{len(answers) - len(refused)} searches answered, {len(refused)} refused: {refused[0]}")

    await asyncio.gather(*(send_message(user) for user in ("ann", "ann", "bob")))
    print("one more message to ann at once:", per_user.at("ann").try_acquire())
    print("one more message to bob at once:", per_user.at("bob").try_acquire())

    began = time.monotonic()
    await asyncio.gather(write(1), write(2), read(3))
    print(f"two writes used the quota up, the read waited {time.monotonic() - began:.1f} s")

    async with legacy:
        print(f"the AsyncLimiter gave 9 more after {await legacy.acquire(9):.1f} s")
    print(f"and 5 more after {await legacy.acquire(5):.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
