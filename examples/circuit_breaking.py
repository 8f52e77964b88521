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
    await step_by_step()


async def step_by_step() -> None:
    """A service that has just come up is not given the whole load at once."""
    careful = circuit_breaker(
        failure_threshold=1,
        recovery_timeout=[0.2, 1, 5],  # longer with each opening in a row
        half_open_rates=(0.1, 0.5),  # after a good probe: a tenth of the calls, then half of them, then all
        half_open_stage=0.1,
        on=ConnectionError,
    )

    @careful
    async def answer(*, is_up: bool = True) -> None:
        if not is_up:
            raise ConnectionError("no answer")

    await asyncio.gather(answer(is_up=False), return_exceptions=True)
    await asyncio.sleep(0.2)
    await answer()
    for _ in range(3):
        results = await asyncio.gather(*(answer() for _ in range(100)), return_exceptions=True)
        print(f"{careful.state}: {results.count(None)} of 100 calls pass")
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
