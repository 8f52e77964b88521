"""The slots of a bulkhead: the pure state machine."""

import pytest

from resilience import AdaptiveLimit, Priority
from resilience._bulkhead_slots import FixedLimit, Permit, QueuedPermit, Slots


def slots_of(limit: int, *, straight: bool = False) -> Slots[QueuedPermit]:
    return Slots(FixedLimit(limit), straight=straight)


def taken(slots: Slots[QueuedPermit], now: float = 0.0) -> Permit | None:
    permit = Permit(slots)
    return permit if slots.take(permit, now) else None


def test_no_more_than_the_limit_have_a_slot() -> None:
    slots = slots_of(2)
    first, second = taken(slots), taken(slots)
    assert first is not None
    assert second is not None
    assert (first.granted, first.in_flight, second.in_flight) == (True, 1, 2)
    assert taken(slots) is None
    assert slots.in_flight == 2
    slots.give_back(first, 0, overloaded=None)
    assert taken(slots) is not None


def test_t53_a_newcomer_gets_no_slot_while_somebody_waits() -> None:
    slots = slots_of(1)
    first = taken(slots)
    assert first is not None
    waiter = QueuedPermit(slots, Priority.BULK)
    slots.queue.add(waiter)
    assert slots.next() is None
    slots.give_back(first, 0, overloaded=None)
    assert taken(slots) is None
    assert slots.next() is waiter
    assert slots.next() is None


def test_who_waits_gives_back_its_place_and_no_slot() -> None:
    slots = slots_of(1)
    assert taken(slots) is not None
    waiter = QueuedPermit(slots, Priority.HIGH)
    slots.queue.add(waiter)
    slots.give_back(waiter, 0, overloaded=None)
    slots.give_back(waiter, 0, overloaded=None)
    assert (slots.in_flight, len(slots.queue)) == (1, 0)


def test_the_straight_path_is_open_only_while_nobody_waits() -> None:
    slots = slots_of(3, straight=True)
    assert slots.admits == 3
    slots.admits = 0
    slots.queue.add(QueuedPermit(slots, Priority.LOW))
    slots.open()
    assert slots.admits == 0
    slots.queue.pop()
    slots.open()
    assert slots.admits == 3
    assert slots_of(3).admits == 0


class Learner(FixedLimit):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.records: list[tuple[float, float, int, bool]] = []

    def record(self, started: float, now: float, in_flight: int, *, overloaded: bool) -> None:
        self.records.append((started, now, in_flight, overloaded))


def test_the_limit_learns_from_how_calls_end() -> None:
    limit = Learner(3)
    slots: Slots[QueuedPermit] = Slots(limit, straight=False)
    permits = [taken(slots, now) for now in (1.0, 2.0, 3.0)]
    for permit, overloaded in zip(permits, (True, None, False), strict=True):
        assert permit is not None
        slots.give_back(permit, 5.0, overloaded=overloaded)
    assert limit.records == [(1.0, 5.0, 1, True), (3.0, 5.0, 3, False)]


def test_b20_after_a_reset_older_calls_teach_the_new_limit_nothing() -> None:
    old, new = Learner(2), Learner(1)
    slots: Slots[QueuedPermit] = Slots(old, straight=False)
    slots.rejected = 7
    older = taken(slots, 1.0)
    slots.reset(new)
    assert (slots.in_flight, slots.rejected, slots.limit.limit) == (1, 0, 1)
    assert older is not None
    assert taken(slots, 2.0) is None
    slots.give_back(older, 3.0, overloaded=True)
    newer = taken(slots, 4.0)
    assert newer is not None
    slots.give_back(newer, 5.0, overloaded=False)
    assert (old.records, new.records) == ([(1.0, 3.0, 1, True)], [(4.0, 5.0, 1, False)])


def test_one_who_waited_through_a_reset_teaches_the_new_limit() -> None:
    slots: Slots[QueuedPermit] = Slots(Learner(1), straight=False)
    first = taken(slots)
    waiter = QueuedPermit(slots, Priority.LOW)
    slots.queue.add(waiter)
    new = Learner(1)
    slots.reset(new)
    assert first is not None
    slots.give_back(first, 1.0, overloaded=False)
    assert slots.next() is waiter
    slots.grant(waiter, 2.0)
    slots.give_back(waiter, 3.0, overloaded=False)
    assert new.records == [(2.0, 3.0, 1, False)]


def test_a_limit_that_shrinks_waits_for_calls_to_end() -> None:
    limit = FixedLimit(3)
    slots: Slots[QueuedPermit] = Slots(limit, straight=False)
    permits = [taken(slots) for _ in range(3)]
    slots.queue.add(QueuedPermit(slots, Priority.LOW))
    limit.limit = 1
    for permit, expected in zip(permits, (2, 1, 0), strict=True):
        assert slots.next() is None
        assert permit is not None
        slots.give_back(permit, 0, overloaded=None)
        assert slots.in_flight == expected
    assert slots.next() is not None


def test_b16_idle_is_what_a_new_object_would_do_as_well() -> None:
    slots = slots_of(1)
    assert slots.is_idle(0)
    permit = taken(slots)
    assert not slots.is_idle(0)
    assert permit is not None
    slots.give_back(permit, 0, overloaded=None)
    assert slots.is_idle(0)
    adaptive: Slots[QueuedPermit] = Slots(AdaptiveLimit(10).new_state(), straight=False)
    assert adaptive.is_idle(0)
    permit = taken(adaptive, 1.0)
    assert permit is not None
    adaptive.give_back(permit, 2.0, overloaded=True)
    assert adaptive.limit.limit == 9
    assert not adaptive.is_idle(3), "an eviction would forgive the overload"


def test_a_fixed_limit_learns_nothing() -> None:
    limit = FixedLimit(4)
    limit.record(0, 1, 1, overloaded=True)
    assert limit.limit == 4


@pytest.mark.parametrize("waiting", [0, 2])
def test_the_figures(waiting: int) -> None:
    slots = slots_of(1)
    assert taken(slots) is not None
    for _ in range(waiting):
        slots.queue.add(QueuedPermit(slots, Priority.LOW))
    slots.rejected = 3
    assert slots.snapshot() == {"max_concurrent": 1, "in_flight": 1, "queued": waiting, "rejected": 3}
