"""State per key: bounded, and no penalty is ever forgiven by eviction."""

import random
import tracemalloc

import pytest

from resilience._keys import KeyTable
from tests.measure_keys import FLOODS, Flood, check, drive


class State:
    def __init__(self) -> None:
        self.idle = True

    def is_idle(self, now: float) -> bool:
        return self.idle


def test_each_key_has_one_state_also_the_falsy_ones() -> None:
    table = KeyTable(State, 10)
    keys = [None, 0, "", (), False, 0.0, b""]
    states = [table.at(key, 0) for key in keys]
    assert [table.at(key, 0) for key in keys] == states
    # 0, 0.0 and False are one key, as in every dict
    assert len({id(state) for state in states}) == len(table) == 5
    assert table.peek("never seen") is None
    assert table.peek("") is states[2]


def test_the_least_recently_used_idle_state_goes_first() -> None:
    table = KeyTable(State, 3)
    first, second, third = (table.at(key, 0) for key in "abc")
    table.at("a", 0)
    table.at("d", 0)
    assert [key for key, _ in table.items()] == ["c", "a", "d"]
    assert table.at("a", 0) is first
    assert table.at("c", 0) is third
    assert table.at("b", 0) is not second


def test_a_touch_is_a_use_and_a_peek_is_none() -> None:
    table = KeyTable(State, 2)
    first, _ = table.at("a", 0), table.at("b", 0)
    table.touch("a")
    assert table.peek("b") is not None
    table.at("c", 0)
    assert [key for key, _ in table.items()] == ["a", "c"]
    assert table.peek("a") is first


def test_a_state_is_asked_whether_it_is_idle_now() -> None:
    class Busy(State):
        def is_idle(self, now: float) -> bool:
            return now >= 5

    table = KeyTable(Busy, 1)
    table.at("a", 0)
    table.at("b", 4.9)
    assert [key for key, _ in table.items()] == ["a"]
    table.at("b", 5)
    assert [key for key, _ in table.items()] == ["b"]


def test_b16_busy_states_are_never_dropped() -> None:
    table = KeyTable(State, 8)
    busy = {key: table.at(key, 0) for key in range(8)}
    for state in busy.values():
        state.idle = False
    overflow = table.at("new", 0)
    assert table.at("another", 0) is overflow
    assert all(table.at(key, 0) is state for key, state in busy.items())
    assert len(table) == 8
    assert set(table) == {*busy.values(), overflow}
    busy[5].idle = True
    own = table.at("new", 0)
    assert own is not overflow
    assert table.peek(5) is None


def test_busy_states_get_a_second_chance_and_only_eight_are_looked_at() -> None:
    table = KeyTable(State, 20)
    states = [table.at(key, 0) for key in range(20)]
    for state in states[:10]:
        state.idle = False
    overflow = table.at("x", 0)
    assert overflow not in {table.peek(key) for key in range(20)}
    assert [key for key, _ in table.items()] == [*range(8, 20), *range(8)]
    assert table.at("x", 0) is not overflow  # 8 and 9 are passed over, 10 goes
    assert table.peek(10) is None


def test_a_key_attack_cannot_forgive_a_penalty() -> None:
    rng = random.Random(1)
    table = KeyTable(State, 50)
    punished = [table.at(("bad", n), 0) for n in range(10)]
    for state in punished:
        state.idle = False
    for _ in range(5000):
        table.at(("new", rng.random()), 0)
        assert len(table) <= 50
    assert [table.at(("bad", n), 0) for n in range(10)] == punished


def test_a_key_whose_hash_changed_is_still_dropped_in_its_turn() -> None:
    class Changing:
        value = 0

        def __hash__(self) -> int:
            return self.value

    changed, busy = Changing(), Changing()
    table = KeyTable(State, 2)
    table.at(busy, 0).idle = False
    table.at(changed, 0)
    changed.value = busy.value = 1
    assert table.at("new", 0) is not table.at("newer", 0)
    assert len(table) == 2
    assert sum(not state.idle for state in table) == 1, "the busy one is kept"


def test_what_holds_for_a_key_is_found_and_nothing_is_made() -> None:
    table = KeyTable(State, 1)
    assert table.find("a") is None
    own = table.at("a", 0)
    assert (table.find("a"), table.find("b")) == (own, None)
    own.idle = False
    shared = table.at("b", 0)
    assert (table.find("a"), table.find("b"), table.find("c")) == (own, shared, shared)
    assert len(table) == 1


def test_clear_forgets_the_overflow_too() -> None:
    table = KeyTable(State, 1)
    table.at("a", 0).idle = False
    overflow = table.at("b", 0)
    table.clear()
    assert list(table) == []
    table.at("a", 0).idle = False
    assert table.at("b", 0) is not overflow


def test_an_unhashable_key_says_what_is_wrong() -> None:
    with pytest.raises(TypeError, match="key= must return a hashable value, got a list"):
        KeyTable(State, 1).at([], 0)


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_b16_a_flood_of_keys_neither_forgives_a_penalty_nor_grows(flood: Flood) -> None:
    tracemalloc.start()
    try:
        check(drive(flood, 25_000))
    finally:
        tracemalloc.stop()
