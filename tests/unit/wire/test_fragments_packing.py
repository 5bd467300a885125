"""Packers: what they pack, what they refuse, and who may use them."""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import pickle
import sys
import threading
import weakref
from typing import Any

import pytest

from hybridexec.wire import fragments, payload
from hybridexec.wire.fragments import Packer


@dataclasses.dataclass
class Page:
    url: str
    links: list[Any]
    inner: Any = None


class Reduced:
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, ()


class Restored:
    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Told:
    def __getstate__(self) -> dict[str, Any]:
        return {}


class Made:
    def __new__(cls) -> Made:
        return object.__new__(cls)


class Grows(list[int]):
    def append(self, value: int) -> None:
        super().append(value + 1)


class Sets:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


class Mine(Exception):
    pass


class Registered:
    pass


def rebuilt() -> Registered:
    return Registered()


@pytest.mark.parametrize(
    "value",
    [
        Reduced(),
        Restored(),
        Told(),
        Made(),
        Grows([1]),
        Sets(),
        Mine("no data"),
        KeyError("the interpreter's own"),
        lambda: None,
        functools.partial(len, "ab"),
        threading.Lock(),
        pickle.PickleBuffer(b"buffer"),
        "x" * payload.INLINE_LIMIT,
        "x" * 200_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_runs_code_or_is_large_or_cannot_be_pickled_is_no_fragment(value: Any) -> None:
    packer = Packer()
    # The interpreter makes these, unless somebody has registered how: Dask does.
    expected = type(value) is KeyError and KeyError not in copyreg.dispatch_table
    for one in (value, [value], {"it": value}):
        assert (packer.pack(one) is not None) == expected
    alone, first, last = packer.pack_all([{"it": value}, {"a": 1}, {"b": 2}])
    assert (alone is not None) == expected
    assert fragments.load_all(packer.prelude, [each for each in (first, last) if each]) == [
        {"a": 1},
        {"b": 2},
    ]


def test_a_reducer_that_is_registered_later_counts() -> None:
    packer = Packer()
    assert packer.pack_all([Registered()])[0] is not None
    copyreg.pickle(Registered, lambda value: (rebuilt, ()))
    try:
        assert packer.pack_all([Registered(), 1]) == [None, packer.pack(1)]
    finally:
        del copyreg.dispatch_table[Registered]


def test_a_class_that_is_defined_anew_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    packer = Packer()
    made = [packer.pack(Page("", [])) for _ in range(fragments.SAMPLE)]
    prelude, fragment = packer.prelude, packer.pack(Page("", []))
    assert made[0] is not None
    assert fragment is not None
    assert type(fragments.load_all(prelude, [fragment])[0]) is Page
    another = dataclasses.make_dataclass("Page", ["url", "links", "inner"])
    monkeypatch.setattr(sys.modules[__name__], "Page", another)
    assert type(fragments.load_all(prelude, [fragment])[0]) is another
    assert packer.pack({}) is None


def test_what_belongs_to_a_main_that_travels_by_value_is_no_fragment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = type("Entered", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Entered", kind, raising=False)
    assert Packer().pack(kind()) is not None
    packer = Packer(by_value=True)
    for _ in range(fragments.SAMPLE):
        packer.pack({"it": kind})
    for value in (kind(), {"it": [kind]}, kind):
        assert packer.pack(value) is None
        assert packer.pack_all([value]) == [None]
    assert packer.pack({"it": 1}) is not None


def test_a_packer_that_always_fails_gives_up_and_one_that_sometimes_does_goes_on() -> None:
    packer = Packer()
    for _ in range(200):
        assert packer.pack(Reduced()) is None
        assert packer.pack([1]) is not None
    packer.pack_all([Reduced()] * 1000 + [1])
    assert packer.pack([1]) is not None
    packer.pack_all([Reduced()] * 100)
    assert packer.pack([1]) is None
    assert packer.pack_all([[1], [2]]) == [None, None]


def test_nothing_that_was_packed_is_kept_alive() -> None:
    packer = Packer()
    pages = [Page("", []) for _ in range(2 * fragments.SAMPLE)]
    gone = [weakref.ref(page) for page in pages]
    for page in pages:
        packer.pack(page)
    packer.pack_all(pages)
    packer.pack_all([*pages, Reduced()])
    del page, pages
    assert not any(each() for each in gone)


def test_threads_share_a_packer() -> None:
    packer = Packer()
    wrong: list[Any] = []

    def pack(number: int) -> None:
        for _ in range(3000):
            prelude = packer.prelude
            value = {"number": number, "list": [number]}
            fragment = packer.pack(value)
            if fragment is None or packer.prelude is not prelude:
                continue
            if fragments.load(prelude, fragment) != value:
                wrong.append(fragment)

    threads = [threading.Thread(target=pack, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert packer.pack([1]) is not None


def test_a_packer_is_not_used_by_what_interrupts_it() -> None:
    packer = Packer()
    inside: list[Any] = []

    class Nosy(dict[str, Any]):
        def items(self) -> Any:
            inside.append(packer.pack([1]))
            return super().items()

    Nosy.__module__ = "collections"  # or it would be refused
    packer.pack(Nosy(a=1))
    assert inside == [None]
    assert packer.pack([1]) is not None


def test_one_that_was_interrupted_is_used_again() -> None:
    packer = Packer()
    stop = True

    class Slow(dict[str, Any]):
        def items(self) -> Any:
            if stop:
                raise KeyboardInterrupt
            return super().items()

    Slow.__module__ = "collections"
    prelude, press = packer.prelude, packer.press
    with pytest.raises(KeyboardInterrupt):
        press({"a": Slow(b=1)})
    with pytest.raises(StopIteration):
        press([1])
    stop = False
    fragment = packer.pack([{"a": 1}])
    assert fragment is not None
    assert fragments.load(prelude, fragment) == [{"a": 1}]
    assert packer.press([{"a": 1}]) == fragment
