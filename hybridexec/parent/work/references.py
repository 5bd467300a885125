"""Pickles functions and classes of a ``__main__`` that workers cannot import, as references.

Thread: as :mod:`.session`, while it pickles something.
Guarantees: the session learns of all that is referred to, and of the globals that functions use.
"""

from __future__ import annotations

import pickle
import sys
import threading
import types
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, NamedTuple

from ...wire import mains, payload, prompt

#: Names that each module has of its own.
_OWN = frozenset({"__builtins__", "__loader__", "__name__", "__spec__"})

_LOCKS = (type(threading.Lock()), type(threading.RLock()))

#: What a piece is for: a global's name, or a class.
Key = str | type


class Pickled(NamedTuple):
    """What a pickler has written, what must be there before that is unpickled, and what it uses
    later; each with the name of its user."""

    pieces: list[bytes]
    buffers: list[pickle.PickleBuffer]
    first: dict[Key, str]
    uses: dict[Key, str]


class Definition:
    """A class, pickled by value."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return mains.define, (mains.key_of(self._kind), self._kind)


class References:
    """What a pickler is told of ``__main__``; see :class:`.byvalue.Main`."""

    def __init__(self, inside: Iterable[Key] = (), is_global: bool = False) -> None:
        """
        Args:
            inside: what is being pickled, and so must not be referred to.
            is_global: whether that is the value of a global, or a class.
        """
        self.first: dict[Key, str] = {}
        self.uses: dict[Key, str] = {}
        self._inside = frozenset(inside)
        self._is_global = is_global

    def refer(self, value: Any) -> tuple[Any, ...] | None:
        """See :meth:`.byvalue.Main.refer`."""
        if not payload.goes_by_value(value):
            return None
        if isinstance(value, type):
            return self._refer_to_class(value) if value.__module__ == "__main__" else None
        name: str = value.__qualname__
        owner, _, last = name.rpartition(".")
        for number, names in mains.namespaces():
            key = mains.key(number, name)
            if names.get(name) is value and key not in self._inside:
                self.first[key] = name
                return mains.attribute, (key,)
            found = names.get(owner)
            if isinstance(found, type) and vars(found).get(last) is value:
                return None if found in self._inside else (getattr, (found, last))
        return None

    def _refer_to_class(self, value: type) -> tuple[Any, ...] | None:
        if value in self._inside:
            return None
        if mains.key_of(value) is None:
            name = value.__qualname__
            if not any(names.get(name) is value for _, names in mains.namespaces()):
                return None
        self.first[value] = value.__qualname__
        return mains.known_class, (mains.key_for(value),)

    def namespace_of(self, function: types.FunctionType) -> int | None:
        """See :meth:`.byvalue.Main.namespace_of`."""
        names = function.__globals__
        if names is mains.namespace():
            return 0
        name = names.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if (module is not None and vars(module) is names) or not prompt.entered(function):
            return None
        return mains.number_of(names)

    def use(self, number: int, names: Iterable[str], function: str) -> None:
        """See :meth:`.byvalue.Main.use`."""
        for name in names:
            if name not in _OWN:
                self.uses[mains.key(number, name)] = function

    def make_anew(self, value: Any) -> tuple[Any, ...] | None:
        """See :meth:`.byvalue.Main.make_anew`."""
        reference = self._refer_to_variable(value) if type(value) is ContextVar else None
        if reference is not None or not self._is_global:
            return reference
        from ...wire import anew

        return anew.reduce(value)

    def _refer_to_variable(self, value: ContextVar[Any]) -> tuple[Any, ...] | None:
        for number, names in mains.namespaces():
            for name, each in list(names.items()):
                key = mains.key(number, name)
                if each is value and key not in self._inside:
                    self.first[key] = name
                    return mains.attribute, (key,)
        return None


class WithLocks(References):
    """Also takes threads' locks among an initializer's arguments: each worker makes new ones."""

    def make_anew(self, value: Any) -> tuple[Any, ...] | None:
        """See :meth:`.byvalue.Main.make_anew`."""
        from ...wire import anew

        return anew.reduce(value) if type(value) in _LOCKS else super().make_anew(value)


class ToKnownTypes(References):
    """Refers to classes of ``__main__`` without having them sent; functions go by value."""

    def refer(self, value: Any) -> tuple[Any, ...] | None:
        """See :meth:`.byvalue.Main.refer`."""
        return super().refer(value) if isinstance(value, type) else None

    def namespace_of(self, function: types.FunctionType) -> int | None:
        """See :meth:`.byvalue.Main.namespace_of`."""
        return None

    def _refer_to_class(self, value: type) -> tuple[Any, ...] | None:
        reference = super()._refer_to_class(value)
        return None if reference is None else (mains.perhaps_known, *reference[1:])


def pickled(value: object, references: References) -> Pickled:
    """Pickle ``value``.

    Raises:
        Whatever pickling it raised.
    """
    pieces, buffers = payload.Pieces(), list[pickle.PickleBuffer]()
    payload.value_pickler()(pieces, buffers.append, references).dump(value)
    return Pickled(pieces, buffers, references.first, references.uses)
