"""Do not wait for the slowest replica: ask a second one, and take the first answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from resilience import Percentile, RetryBudget, hedge, subscribe

made = 0
budget = RetryBudget(ratio=0.05)  # hedges add a twentieth to the traffic, plus 10 a second


async def read(key: str) -> str:
    """One in ten requests is very slow. Reading twice does no harm; for a payment it would."""
    global made
    made += 1
    await asyncio.sleep(0.5 if made % 10 == 5 else 0.01)
    return f"value of {key}"


async def show_slowest(name: str, function: Callable[[str], Awaitable[str]]) -> None:
    longest, before = 0.0, made
    for number in range(20):
        began = time.monotonic()
        await function(f"key {number}")
        longest = max(longest, time.monotonic() - began)
    print(f"  {name}: the slowest of 20 reads took {longest:.1f} s, with {made - before} requests")


# After 50 ms without an answer a second request goes out; the slower of the two is cancelled.
by_time = hedge(0.05, budget=budget)
# The delay follows the latency: only calls that are slower than 85 of 100 are hedged.
by_percentile = hedge(Percentile(85, initial=0.05, minimum_calls=10), budget=budget)

READS = {"plain": read, "hedged after 50 ms": by_time(read), "hedged by percentile": by_percentile(read)}


async def main() -> None:
    print("The tail of the latency goes, for a few requests more:")
    for name, function in READS.items():
        await show_slowest(name, function)

    print("A failure does not wait for the delay:")
    replicas = iter(["broken", "healthy"])

    @hedge(60)
    async def fetch() -> str:
        replica = next(replicas)
        if replica == "broken":
            raise ConnectionError(replica)
        return f"answer of the {replica} replica"

    unsubscribe = subscribe(lambda event: print(" ", event.kind, dict(event.attributes)))
    print(" ", await fetch())
    unsubscribe()


if __name__ == "__main__":
    asyncio.run(main())
