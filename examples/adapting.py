"""A limit and a throttle that find out by themselves how much the other side can take."""

import asyncio

from resilience import (
    AdaptiveLimit,
    CallTimeoutError,
    ThrottledError,
    adaptive_throttle,
    bulkhead,
    timeout,
)


class Stock:
    """A service that answers so many requests at once; the others wait."""

    def __init__(self, workers: int) -> None:
        self.workers = asyncio.Semaphore(workers)
        self.is_down = False
        self.received = 0

    async def count(self, item: str) -> int:
        self.received += 1
        if self.is_down:
            raise ConnectionError("no answer")
        async with self.workers:
            await asyncio.sleep(0.01)
        return len(item)


async def find_the_limit() -> None:
    print("eight workers, and a limit of 40 to begin with: calls wait there, and are cut off")
    stock = Stock(workers=8)
    slots = bulkhead(AdaptiveLimit(40, decrease=0.7), max_queue=100)
    count = slots(timeout(0.03)(stock.count))
    for _ in range(5):
        results = await asyncio.gather(*(count("nails") for _ in range(100)), return_exceptions=True)
        late = sum(isinstance(each, CallTimeoutError) for each in results)
        limit = slots.snapshot()["max_concurrent"]
        print(f"  {late:3} of 100 too late; the limit is now {limit}")


async def spare_the_service() -> None:
    print("a service goes down, and 1000 calls come in")
    stock = Stock(workers=8)
    throttle = adaptive_throttle(window=10, minimum_calls=50, on=ConnectionError)
    count = throttle(stock.count)
    stock.is_down = True
    rejected = 0
    for _ in range(1000):
        try:
            await count("nails")
        except ThrottledError:
            rejected += 1
        except ConnectionError:
            pass
    print(f"  it received {stock.received} of them, {rejected} were rejected at once")
    print(f"  {throttle.snapshot()}")


if __name__ == "__main__":
    asyncio.run(find_the_limit())
    asyncio.run(spare_the_service())
