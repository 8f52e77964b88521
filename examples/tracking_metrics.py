"""Count, time and gauge the calls of a function, and the events of the policies around it."""

import asyncio
import json
import random

from resilience import MetricsRegistry, retry, track_metrics

registry = MetricsRegistry()  # or the default one: `from resilience import metrics`


@track_metrics("reports.render", labels={"team": "billing"}, registry=registry)
@retry(attempts=3, on=ConnectionError, wait=0.001)
async def render(number: int, source: random.Random) -> str:
    await asyncio.sleep(source.random() / 200)
    if source.random() < 0.3:
        raise ConnectionError("the database hung up")
    return f"report {number}"


async def main() -> None:
    stop = registry.observe_events()  # retries become metrics too
    source = random.Random(7)
    await asyncio.gather(*(render(number, source) for number in range(100)), return_exceptions=True)
    stop()

    with registry.timer("reports.archive"):
        registry.counter("reports.archived").add(100)
    registry.gauge("reports.waiting").set(0)

    for name, metric in registry.snapshot().items():
        for series in metric["series"]:
            labels = ", ".join(f"{key}={value}" for key, value in series["labels"].items())
            if metric["kind"] == "histogram":
                shown = f"{series['count']} values, p50 {series['p50']:.4f}, p95 {series['p95']:.4f}"
            else:
                shown = str(series["value"])
            print(f"{name} {{{labels}}}: {shown}")
    print(f"as JSON: {len(json.dumps(registry.snapshot()))} characters")


if __name__ == "__main__":
    asyncio.run(main())
