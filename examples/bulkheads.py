"""Let only so many calls run at once: a queue with priorities, a limit per tenant, an adaptive one."""

import asyncio

from resilience import AdaptiveLimit, BulkheadFullError, Priority, bulkhead

inside = 0


# Two at once, three wait, the others are refused at once.
@bulkhead(2, max_queue=3)
async def convert(number: int) -> int:
    global inside
    inside += 1
    assert inside <= 2
    await asyncio.sleep(0.01)
    inside -= 1
    return number


def urgency(job: str) -> Priority:
    return Priority.CRITICAL if job.startswith("payment") else Priority.BULK


# A free slot goes to the most urgent; one in ten goes to whoever has waited longest, so nothing starves.
@bulkhead(1, max_queue=None, max_wait=5, priority=urgency)
async def run(job: str) -> None:
    await asyncio.sleep(0.001)
    print("  ", job)


def tenant(name: str) -> str:
    return name


# Each tenant has slots of its own: a flood from one leaves room for the others.
per_tenant = bulkhead(1, key=tenant)


@per_tenant
async def query(name: str) -> str:
    await asyncio.sleep(0.01)
    return f"rows of {name}"


# How many may run at once is found out: fewer after a timeout, more while all goes well.
adaptive = bulkhead(AdaptiveLimit(8), max_queue=100)


@adaptive
async def overloaded() -> None:
    raise TimeoutError


async def main() -> None:
    answers = await asyncio.gather(*map(convert, range(7)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BulkheadFullError)]
    print(f"{len(answers) - len(refused)} conversions done, {len(refused)} refused: {refused[0]}")

    print("jobs in the order in which they got the slot:")
    await asyncio.gather(*map(run, ("report 1", "report 2", "payment 1", "payment 2")))

    rows = await asyncio.gather(*map(query, ("ann", "ann", "bob")), return_exceptions=True)
    print(rows)

    # A block holds a slot as well, and every bulkhead tells how it stands.
    async with per_tenant.at("ann"):
        print(per_tenant.at("ann").snapshot())

    await asyncio.gather(overloaded(), return_exceptions=True)
    print(f"after an overload {adaptive.snapshot()['max_concurrent']} may run at once")


if __name__ == "__main__":
    asyncio.run(main())
