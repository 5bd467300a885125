"""How what is data is reduced: as the object's own ``__reduce_ex__`` does it."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import pickle
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest

from hybridexec.wire import payload
from hybridexec.wire.data import Reducers
from hybridexec.wire.fragments import Packer, load

T = TypeVar("T")


@dataclasses.dataclass
class Page:
    url: str
    links: list[Any]


class Mixin:
    __slots__ = ()


class Mixed(Mixin, Page, Generic[T]):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def ask(self) -> None: ...


class Concrete(Abstract):
    def ask(self) -> None: ...


class Cached:
    @functools.cached_property
    def value(self) -> list[int]:
        return [1]


class Slotted:
    __slots__ = ("__dict__", "__weakref__", "left")


class Half(Slotted):
    pass


class Fixed(float):
    pass


class Listed(list[int]):
    pass


class Hidden:
    __dict__ = property(lambda self: {"not": "this"})


class Colour(enum.Enum):
    RED = 1


def told() -> dict[str, int]:
    """Stands for the state of an instance that says so itself."""
    return {"told": 1}


def with_attributes(value: Any, /, **attributes: Any) -> Any:
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


def cached() -> Cached:
    value = Cached()
    assert value.value == [1]
    return value


def odd() -> Cached:
    value = Cached()
    vars(value)[1] = [2]  # type: ignore[index]  # any key will do
    return value


MAKERS: dict[str, Callable[[], Any]] = {
    "attributes": lambda: Page("a", [1]),
    "bases": lambda: Mixed("a", [1]),
    "abstract": lambda: with_attributes(Concrete(), more=1),
    "empty": Cached,
    "cached": cached,
    "odd": odd,
    "more": lambda: with_attributes(Page("a", []), more=[1]),
    "slots": lambda: with_attributes(Slotted(), left=1, right=2),
    "half": lambda: with_attributes(Half(), left=1, right=2),
    "float": lambda: with_attributes(Fixed(1.5), more=1),
    "list": lambda: with_attributes(Listed([1]), more=1),
    "hidden": lambda: with_attributes(Hidden(), more=1),
    "enum": lambda: Colour.RED,
    "told": lambda: with_attributes(Cached(), __getstate__=told),
    "reduced": lambda: with_attributes(Cached(), __reduce_ex__=lambda protocol: (list, ((1, 2),))),
}


def contents(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    slots = [
        getattr(value, name, None) for name in getattr(kind, "__slots__", ()) if name == "left"
    ]
    own = object.__reduce_ex__(value, 5)[2] if kind is not Colour else None
    return kind, slots, own, list(value) if isinstance(value, list) else None


@pytest.mark.parametrize("name", MAKERS)
def test_objects_are_reduced_as_they_do_it_themselves(name: str) -> None:
    value = MAKERS[name]()
    reducer = Reducers()[type(value)]
    expected = value.__reduce_ex__(payload.PROTOCOL)
    found = reducer(value)
    assert found[:2] == expected[:2]
    if len(expected) > 2:
        assert found[2:3] == expected[2:3]
        assert [part and list(part) for part in found[3:]] == [
            part and list(part) for part in expected[3 : len(found)]
        ]


@pytest.mark.parametrize("name", MAKERS)
def test_fragments_of_objects_hold_what_their_pickles_hold(name: str) -> None:
    packer = Packer()
    expected = contents(pickle.loads(payload.dumps(MAKERS[name]())))  # type: ignore[arg-type]
    for _ in range(8):
        prelude = packer.prelude
        fragment = packer.pack(MAKERS[name]())
        assert fragment is not None
        assert contents(load(prelude, fragment)) == expected


def test_what_is_only_attributes_is_reduced_without_its_method() -> None:
    reducers = Reducers()
    own = {name for name, make in MAKERS.items() if reducers[type(make())] is reducers._reduce}
    assert own == {"slots", "half", "float", "list", "hidden", "enum"}
