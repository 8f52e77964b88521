"""A service goes down and comes back: what the breaker lets through, and what it spares the service."""

import asyncio

from resilience import CircuitBreakerOpenError, circuit_breaker, subscribe

breaker = circuit_breaker(failure_threshold=3, recovery_timeout=0.2, on=ConnectionError, name="stock")
is_down = False
received = 0


@breaker
async def in_stock(item: str) -> bool:
    global received
    received += 1
    await asyncio.sleep(0.005)  # the network
    if is_down:
        raise ConnectionError("no answer")
    return item != "unicorn"


async def show(item: str) -> None:
    try:
        print(f"  {item}: {'in stock' if await in_stock(item) else 'sold out'}")
    except (CircuitBreakerOpenError, ConnectionError) as error:
        print(f"  {item}: {error}")


async def main() -> None:
    global is_down
    unsubscribe = subscribe(lambda event: print(f"* {event.kind} {dict(event.attributes)}"))

    print("all is well")
    await show("ladder")

    print("the service goes down: three failures open the circuit, the fourth call is not made")
    is_down = True
    for item in ("hammer", "nails", "saw", "drill"):
        await show(item)

    print("still down after the pause: one probe fails, and the pause begins again")
    await asyncio.sleep(0.2)
    await show("paint")
    await show("brush")

    print("back again: a good probe closes the circuit")
    is_down = False
    await asyncio.sleep(0.2)
    await show("unicorn")

    print("a block may be guarded too, and a person may decide")
    async with breaker:
        print("  a block runs")
    breaker.force_open()
    await show("glue")
    breaker.reset()

    print(f"the service received {received} calls; the circuit is {breaker.state}")
    unsubscribe()


if __name__ == "__main__":
    asyncio.run(main())
