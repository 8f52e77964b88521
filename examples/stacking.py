"""One set of policies for several endpoints of an API, with a difference where an endpoint needs one."""

import asyncio

from resilience import (
    RateLimitExceededError,
    cached,
    circuit_breaker,
    policies,
    rate_limited,
    retry,
    stack,
    timeout,
)

# The whole API shares one circuit and one quota: it goes down as a whole, and it counts all requests.
circuit = circuit_breaker(failure_threshold=5, recovery_timeout=30, name="shop API")
quota = rate_limited(100, per=1.0, name="shop API")

retried = retry(attempts=4, on=ConnectionError, wait=0.01)
search_quota = rate_limited(2, per=60, max_wait=0, name="search")

reading = stack(retried, circuit, quota, timeout(2))
searching = stack(retried, circuit, search_quota, quota, timeout(5))
writing = stack(circuit, quota, timeout(10))  # an order may not be sent twice: no retry

products = cached(ttl=60)
failures = iter([ConnectionError("reset")])


@products
@reading
async def get_product(number: int) -> str:
    if error := next(failures, None):
        raise error
    return f"product {number}"


@writing
async def order(number: int) -> str:
    products.invalidate(number)
    return f"ordered {number}"


@searching
async def search(words: str) -> list[str]:
    return [f"found {word}" for word in words.split()]


async def main() -> None:
    print("get_product wears", *policies(get_product), sep="\n  ")
    print(await get_product(1), "- after one failure and one retry")
    print(await get_product(1), "- from the cache:", products.info())
    print(await order(1), "- and the cache forgot it:", products.info())
    print(await search("red shoes"), await search("blue shoes"))
    try:
        await search("one too many")
    except RateLimitExceededError as error:
        print(error)
    print("the circuit is", circuit.state.value)


asyncio.run(main())
