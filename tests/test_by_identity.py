"""What is kept for an object by its identity: made once, for as long as the object lives."""

import gc

import pytest

from resilience._by_identity import ByIdentity


class Thing:
    """Equal to every other one."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_what_belongs_to_an_object_is_made_once_however_equal_others_are() -> None:
    made: list[int] = []
    table = ByIdentity[int](lambda owner: made.append(id(owner)) or len(made))
    one, other = Thing(), Thing()
    assert [table.of(each) for each in (one, one, other, one, other)] == [1, 1, 2, 1, 2]
    assert made == [id(one), id(other)]
    assert len(table) == 2


def test_it_is_forgotten_with_the_object_and_told() -> None:
    gone: list[str] = []
    table = ByIdentity[str](lambda owner: "its own", gone.append)
    thing = Thing()
    table.of(thing)
    assert (len(table), gone) == (1, [])
    del thing
    gc.collect()
    assert (len(table), gone) == (0, ["its own"])


def test_what_cannot_be_weakly_referenced_is_refused() -> None:
    with pytest.raises(TypeError):
        ByIdentity[int](lambda owner: 1).of(5)
