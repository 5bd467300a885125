"""Fragments: what a packer makes is what pickles of single values would be, and is told apart."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pickle
import sys
import uuid
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridexec.wire import fragments, payload
from hybridexec.wire.fragments import Packer


@dataclasses.dataclass
class Page:
    url: str
    links: list[Any]
    inner: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right


class Row(NamedTuple):
    name: str
    value: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Bag(dict[Any, Any]):
    """A subclass that adds nothing."""


ATOMS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([Colour.RED, Colour.BLUE, ..., 1j, int, Page, len, range(3), slice(1, 2)])
    | st.sampled_from([decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=7)])
    | st.datetimes(timezones=st.sampled_from([None, dt.UTC])).map(lambda when: when.replace(fold=1))
    | st.just(PurePosixPath("a/b"))
)
HASHABLE = st.text(max_size=3) | st.integers(0, 9) | st.sampled_from([Colour.RED, Point(1, 2)])


def inner(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(values, max_size=4)
    return (
        several
        | several.map(tuple)
        | several.map(collections.deque)
        | st.dictionaries(HASHABLE, values, max_size=4)
        | st.dictionaries(HASHABLE, values, max_size=3).map(Bag)
        | st.dictionaries(HASHABLE, values, max_size=3).map(collections.OrderedDict)
        | st.frozensets(HASHABLE, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.builds(Page, st.text(max_size=3), several, values)
        | st.builds(Point, values, values)
        | st.builds(Slotted, values, values)
        | st.builds(Row, st.text(max_size=3), values)
        | values.map(lambda value: [value, value])  # the same object twice
        | values.map(in_a_circle)
        | st.binary(max_size=5).map(bytearray)
    )


def in_a_circle(value: Any) -> Any:
    circle: list[Any] = [value]
    circle.append({"me": circle})
    return circle


VALUES = st.recursive(ATOMS, inner, max_leaves=12)


def shape(value: Any) -> Any:
    """What a value consists of, and which of its objects that can change are the same."""
    seen: dict[int, int] = {}
    kept: list[Any] = []

    def walk(each: Any) -> Any:
        kind = type(each)
        if kind in (int, float, bool, str, bytes, type(None), complex) or isinstance(each, type):
            return kind.__name__, repr(each)
        if id(each) in seen and kind not in (tuple, frozenset, Row):
            return "again", seen[id(each)]
        seen[id(each)] = len(seen)
        kept.append(each)
        if isinstance(each, dict):
            return kind.__name__, [(walk(key), walk(item)) for key, item in each.items()]
        if isinstance(each, (set, frozenset)):
            return kind.__name__, sorted(map(repr, each))
        if isinstance(each, (list, tuple, collections.deque)):
            return kind.__name__, [walk(item) for item in each]
        if isinstance(each, Slotted):
            return kind.__name__, walk(each.left), walk(each.right)
        if dataclasses.is_dataclass(each):
            return kind.__name__, [
                walk(getattr(each, field.name)) for field in dataclasses.fields(each)
            ]
        return kind.__name__, repr(each), getattr(each, "fold", None)

    return walk(value)


def packed(values: list[Any]) -> tuple[bytes, list[bytes]]:
    """The prelude and the fragments of values, all of which can be packed."""
    packer = Packer()
    for value in values[:4] * 4:
        packer.pack(value)
    made = [fragment for fragment in packer.pack_all(values) if fragment is not None]
    assert len(made) == len(values)
    return packer.prelude, made


def containers(value: Any, found: dict[int, Any] | None = None) -> dict[int, Any]:
    """The objects in a value that can be changed, by id."""
    found = {} if found is None else found
    if isinstance(value, type) or id(value) in found:
        return found
    if isinstance(value, (list, dict, set, bytearray, collections.deque, Page, Slotted)):
        found[id(value)] = value
    if isinstance(value, dict):
        for key, item in value.items():
            containers(key, found), containers(item, found)
    elif isinstance(value, (list, tuple, collections.deque)):
        for item in value:
            containers(item, found)
    elif isinstance(value, Slotted):
        containers([value.left, value.right], found)
        found.pop(id(value), None), found.setdefault(id(value), value)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            containers(getattr(value, field.name), found)
    return found


# -- the same as pickles of single values ---------------------------------------------------------


@settings(max_examples=300)
@given(st.lists(VALUES, min_size=1, max_size=6))
def test_fragments_hold_what_single_pickles_hold(values: list[Any]) -> None:
    prelude, made = packed(values)
    expected = [shape(pickle.loads(payload.dumps(value))) for value in values]
    assert [shape(value) for value in fragments.load_all(prelude, made)] == expected
    assert [shape(fragments.load(prelude, each)) for each in made] == expected


@settings(max_examples=200)
@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_fragments_share_no_object_that_can_change(values: list[Any], data: st.DataObject) -> None:
    shared = data.draw(st.sampled_from(values))
    values = [*values, shared, [shared], {"it": shared}]
    prelude, made = packed(values)
    loaded = fragments.load_all(prelude, made)
    for number, one in enumerate(loaded):
        for other in loaded[number + 1 :]:
            assert not containers(one).keys() & containers(other).keys()


@given(st.lists(VALUES, min_size=2, max_size=8), st.data())
def test_any_choice_of_fragments_can_be_unpickled_together(
    values: list[Any], data: st.DataObject
) -> None:
    prelude, made = packed(values)
    places = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8))
    loaded = fragments.load_all(prelude, [made[place] for place in places])
    assert [shape(value) for value in loaded] == [
        shape(pickle.loads(payload.dumps(values[place]))) for place in places
    ]


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("sampled", range(fragments.SAMPLE + 1))
@pytest.mark.parametrize("large", [(), ("x" * 100_000,)])
def test_values_that_are_packed_together_have_one_prelude(
    by_value: bool, sampled: int, large: tuple[str, ...]
) -> None:
    packer = Packer(by_value)
    values: list[Any] = [{"key": number, "kind": int} for number in range(8)]
    for value in values[:sampled]:
        packer.pack(value)
    prelude = packer.prelude
    made = packer.pack_all([*values, *large])
    assert fragments.load_all(prelude, [each for each in made if each]) == values


def test_texts_of_a_prelude_are_those_of_code() -> None:
    # So that keys which have come in a fragment are found in the prelude of what is sent back.
    key = "".join(["ke", "y"])
    prelude, made = packed([{key: number} for number in range(4)])
    loaded = fragments.load_all(prelude, made)
    assert all(next(iter(each)) is sys.intern("key") for each in loaded)
