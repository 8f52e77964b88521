"""Who gets the next free slot, and who makes room: the pure queue."""

import random
from dataclasses import dataclass
from itertools import product

import pytest

from resilience import Priority
from resilience._priority_queue import OVERTAKEN_AT_MOST, PriorityQueue


@dataclass(eq=False)
class Waiter:
    name: str
    priority: Priority = Priority.NORMAL


def filled(*waiters: Waiter) -> PriorityQueue[Waiter]:
    queue: PriorityQueue[Waiter] = PriorityQueue()
    for each in waiters:
        queue.add(each)
    return queue


def popped(queue: PriorityQueue[Waiter]) -> list[str]:
    return [queue.pop().name for _ in range(len(queue))]


def test_the_five_priorities_highest_first() -> None:
    assert [each.name for each in Priority] == ["CRITICAL", "HIGH", "NORMAL", "LOW", "BULK"]
    assert [each.value for each in Priority] == [0, 1, 2, 3, 4]
    assert repr(Priority.HIGH) == str(Priority.HIGH) == "Priority.HIGH"
    waiters = [Waiter(each.name, each) for each in Priority]
    assert popped(filled(*reversed(waiters))) == ["CRITICAL", "HIGH", "NORMAL", "LOW", "BULK"]


def test_within_a_priority_the_first_to_come_is_first() -> None:
    pairs = [(Priority.LOW, "a"), (Priority.HIGH, "b"), (Priority.LOW, "c"), (Priority.HIGH, "d")]
    assert popped(filled(*(Waiter(name, each) for each, name in pairs))) == ["b", "d", "a", "c"]


def test_after_nine_who_overtook_it_the_oldest_is_next() -> None:
    old = [Waiter("bulk", Priority.BULK), Waiter("low", Priority.LOW)]
    new = [Waiter(str(number), Priority.CRITICAL) for number in range(25)]
    order = popped(filled(*old, *new))
    assert [order.index("bulk"), order.index("low")] == [9, 19]
    assert order[:9] == [str(number) for number in range(9)]


def test_a_turn_of_the_oldest_by_its_priority_starts_the_count_anew() -> None:
    queue = filled(Waiter("bulk", Priority.BULK), *(Waiter(str(n), Priority.HIGH) for n in range(30)))
    assert [queue.pop().name for _ in range(5)] == list("01234")
    for each in list(queue.lines[Priority.HIGH.value]):
        queue.remove(each)
    assert queue.pop().name == "bulk"
    for each in (Waiter("low", Priority.LOW), *(Waiter(str(n), Priority.HIGH) for n in range(30))):
        queue.add(each)
    assert popped(queue).index("low") == 9


@pytest.mark.parametrize("seed", range(20))
def test_nobody_starves_whatever_comes(seed: int) -> None:
    """Who has k older waiters is served within 10 (k + 1) slots, though others keep coming."""
    rng = random.Random(seed)
    queue: PriorityQueue[Waiter] = PriorityQueue()
    latest: dict[str, int] = {}  # the slot by which each must have been served
    favourites = rng.choices(list(Priority), k=3)
    oldest_in_a_row = 0
    for slot in range(3000):
        for _ in range(rng.choice((0, 1, 1, 2)) if slot < 2000 else 0):
            waiter = Waiter(f"{slot}/{rng.random()}", rng.choice([*favourites, Priority.CRITICAL]))
            latest[waiter.name] = slot + (OVERTAKEN_AT_MOST + 1) * (len(queue) + 1)
            queue.add(waiter)
        if not queue.lines:
            continue
        oldest = queue.oldest
        chosen = queue.pop()
        assert slot <= latest.pop(chosen.name)
        oldest_in_a_row = 0 if chosen is oldest else oldest_in_a_row + 1
        assert oldest_in_a_row <= 9
    assert all(latest[name] >= 3000 for name in latest)


def test_a_higher_priority_keeps_nine_tenths_of_the_slots_however_long_the_queue_is() -> None:
    queue = filled(*(Waiter("bulk", Priority.BULK) for _ in range(1000)))
    for _ in range(100):
        queue.add(Waiter("critical", Priority.CRITICAL))
    first = [queue.pop().name for _ in range(100)]
    assert first.count("critical") == 90


def test_the_oldest_is_who_came_first_also_after_others_left() -> None:
    gone, bulk, low = (
        Waiter("gone", Priority.LOW),
        Waiter("bulk", Priority.BULK),
        Waiter("low", Priority.LOW),
    )
    queue = filled(gone, bulk, low)
    assert queue.oldest is gone
    queue.remove(gone)
    assert queue.oldest is bulk
    queue.remove(bulk)
    assert queue.oldest is low


def test_whoever_leaves_is_out_and_the_order_of_the_others_stays() -> None:
    waiters = [Waiter(str(number)) for number in range(4)]
    queue = filled(*waiters)
    assert queue.remove(waiters[1])
    assert not queue.remove(waiters[1])
    assert not queue.remove(Waiter("a stranger", Priority.BULK))
    assert len(queue) == 3
    assert queue.oldest is waiters[0]
    assert popped(queue) == ["0", "2", "3"]
    assert not queue.lines
    assert not queue.remove(waiters[0])


def test_the_last_of_the_lowest_priority_makes_room() -> None:
    first, second, third = (Waiter(name, Priority.LOW) for name in "abc")
    high, bulk = Waiter("high", Priority.HIGH), Waiter("bulk", Priority.BULK)
    queue = filled(first, high, second, bulk, third)
    assert queue.displace(Priority.BULK) is None
    assert queue.displace(Priority.LOW) is bulk
    assert queue.displace(Priority.LOW) is None
    assert queue.displace(Priority.NORMAL) is third
    assert queue.displace(Priority.CRITICAL) is second
    # Only the oldest is of a low priority now: it stays, and another one goes.
    assert queue.displace(Priority.NORMAL) is None
    assert queue.displace(Priority.HIGH) is None
    assert queue.displace(Priority.CRITICAL) is high
    assert queue.displace(Priority.CRITICAL) is None
    assert popped(queue) == ["a"]


@pytest.mark.parametrize(("comes", "waits"), list(product(Priority, Priority)))
def test_only_a_lower_priority_makes_room(comes: Priority, waits: Priority) -> None:
    last = Waiter("last", waits)
    queue = filled(Waiter("oldest", waits), last)
    assert queue.displace(comes) is (last if comes.value < waits.value else None)
