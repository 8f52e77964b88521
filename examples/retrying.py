"""Retry: one decorator, tenacity's strategies in it, and the same as a block."""

import asyncio

import tenacity

from resilience import DecorrelatedJitter, Event, RetryBudget, retry, subscribe

budget = RetryBudget(ratio=0.2)  # shared: all retries together add a fifth to the traffic, plus 10 a second


class Service:
    """Refuses the first two of three requests."""

    def __init__(self) -> None:
        self.requests = 0

    async def get(self, path: str) -> str:
        self.requests += 1
        if self.requests % 3:
            raise ConnectionError(f"{path}: connection reset")
        return f"{path}: fine after {self.requests} requests"


async def decorated() -> str:
    service = Service()

    @retry(attempts=4, on=ConnectionError, wait=DecorrelatedJitter(0.05, max=1), deadline=5, budget=budget)
    async def get_user(login: str) -> str:
        return await service.get(f"/users/{login}")

    return await get_user("ada")


async def with_tenacity() -> str:
    service = Service()

    @retry(
        stop=tenacity.stop_after_attempt(5) | tenacity.stop_after_delay(10),
        wait=tenacity.wait_exponential_jitter(max=0.1),
        on=tenacity.retry_if_exception_type(ConnectionError),
        budget=budget,
    )
    async def get_user(login: str) -> str:
        return await service.get(f"/users/{login}")

    return await get_user("grace")


async def block() -> str:
    service = Service()
    async for attempt in retry(wait=0.05, name="block").attempts():
        with attempt:
            return await service.get(f"/attempts/{attempt.number}")
    raise AssertionError("never: the loop ends by return or by an exception")


async def given_up() -> str:
    @retry(attempts=2, wait=0.05)
    async def get_user() -> str:
        raise ConnectionError("connection refused")

    try:
        return await get_user()
    except ConnectionError as error:
        return f"{error}; {error.__notes__[0]}"


def show(event: Event) -> None:
    facts = ", ".join(
        f"{name}={value:.2f}" if isinstance(value, float) else f"{name}={value}"
        for name, value in event.attributes.items()
        if name != "elapsed"
    )
    print(f"    {event.kind:16} {facts}")


async def main() -> None:
    subscribe(show)
    for example in (decorated, with_tenacity, block, given_up):
        print(await example())


if __name__ == "__main__":
    asyncio.run(main())
