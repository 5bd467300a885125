"""Preludes that were received: what the fragments of many values have in common.

Thread: whoever unpickles fragments.
Guarantees: what cannot be found here fails only those fragments that refer to it.
"""

from __future__ import annotations

import functools
import io
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

#: How many preludes are remembered.
_MOST = 100

BEGINNING = b"\x80\x03"  # of a pickle of protocol 3
POP = b"0"
_STOP = b"."


def is_found(thing: Any) -> bool:
    """Whether a class or function is what its name refers to."""
    found: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is thing


class _Missing:
    """Stands for a thing that cannot be found here; only those fragments fail that refer to it."""

    def __init__(self, find: Callable[[], Any]) -> None:
        #: Raises why.
        self.find = find


class _Opener(pickle.Unpickler):
    """Unpickles a prelude."""

    def find_class(self, module: str, name: str) -> Any:
        """For the base class."""
        if (module, name) == ("builtins", "getattr"):
            return self._member
        return _found(functools.partial(super().find_class, module, name))

    def _member(self, owner: Any, name: str) -> Any:
        find = (
            owner.find if isinstance(owner, _Missing) else functools.partial(getattr, owner, name)
        )
        return _found(find)


def _found(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except Exception:
        return _Missing(find)


class _Prelude(pickle.Unpickler):
    """A prelude that was received: an unpickler with its things in the memo, for others to copy."""

    def __init__(self, prelude: bytes) -> None:
        first: Any = _Opener(io.BytesIO(prelude[: -len(POP)] + _STOP))
        named = [thing for thing in first.load() if type(thing) is not str]
        self._things: dict[int, Any] = first.memo.copy()
        #: What is not found, by place.
        self.missing = {
            place: thing for place, thing in self._things.items() if isinstance(thing, _Missing)
        }
        self._named = [thing for thing in named if not isinstance(thing, _Missing)]
        # An unpickler's memo takes no dict; so it is filled by a pickle: get this thing, put it
        # there, drop it.
        steps = [
            struct.pack("<ciccic", b"J", place, b"Q", b"r", place, POP)
            for place in self._things.keys() - self.missing.keys()
        ]
        super().__init__(io.BytesIO(b"".join((BEGINNING, *steps, b"N."))))
        self.load()

    def persistent_load(self, place: int) -> Any:
        """What belongs there; for the base class."""
        thing = self._things[place]
        # Texts become the objects that code and other preludes have: who packs values that come
        # from here finds them.
        return sys.intern(thing) if type(thing) is str else thing

    @property
    def holds(self) -> bool:
        """Whether the names still stand for the same."""
        return all(map(is_found, self._named))


_received: dict[bytes, _Prelude] = {}


def opened(prelude: bytes) -> _Prelude:
    """What is in a prelude."""
    received = _received.get(prelude)
    if received is None or not received.holds:
        if len(_received) >= _MOST:
            _received.clear()
        received = _received[prelude] = _Prelude(prelude)
    return received


def forget(prelude: bytes) -> None:
    """Find out anew what is in it."""
    _received.pop(prelude, None)
