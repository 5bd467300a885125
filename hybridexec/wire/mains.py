"""Functions that pickles of a ``__main__`` refer to which workers cannot import.

Thread: the one that unpickles, mostly in the worker; results that hold instances of sent classes
are unpickled to the parent's own classes.
Guarantees: a class that was sent is one class in each process, however often it is sent.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Classes that travel between processes, by the key that both sides know them by.
_classes: dict[str, type] = {}
_ids: dict[type, str] = {}
_numbers = itertools.count(1)


# Other namespaces, by number: pdb and code.interact() may give functions a copy of ``__main__``'s
# globals.
_others: dict[int, dict[str, Any]] = {}


def namespace(number: int = 0) -> dict[str, Any]:
    """The globals of this process's ``__main__``, or the namespace with another number."""
    if not number:
        return vars(sys.modules["__main__"])
    return _others.setdefault(number, {"__name__": "__main__"})


def namespaces() -> list[tuple[int, dict[str, Any]]]:
    """All namespaces, by number."""
    return [(0, namespace()), *_others.items()]


def number_of(names: dict[str, Any]) -> int:
    """The number of a namespace, which gets one if it has none."""
    for number, each in namespaces():
        if each is names:
            return number
    number = (os.getpid() << 16) + len(_others) + 1
    _others[number] = names
    return number


def key(number: int, name: str) -> str:
    """The key of a name in the namespace with that number."""
    return f"{number}:{name}" if number else name


def find(key: str) -> tuple[dict[str, Any], str]:
    """The namespace of a key, and the name in it."""
    number, _, name = key.rpartition(":")
    return namespace(int(number or 0)), name


def attribute(key: str) -> Any:
    """The value of a key's name."""
    names, name = find(key)
    return names[name]


def library(name: str) -> dict[str, Any]:
    """The globals of a module that can be imported."""
    return vars(importlib.import_module(name))


def define(key: str, kind: type) -> type:
    """Register the class ``kind`` under ``key``."""
    _classes[key] = kind
    _ids[kind] = key
    return kind


def key_for(kind: type) -> str:
    """The key of a class, which gets one if it has none."""
    key = key_of(kind)
    if key is None:
        key = f"{os.getpid()}-{next(_numbers)}"
        define(key, kind)
    return key


def key_of(kind: type) -> str | None:
    """The key of a class; None if it has none."""
    try:
        return _ids.get(kind)
    except TypeError:  # its metaclass makes it unhashable
        return None


def known_class(key: str) -> type:
    """The class with that key."""
    return _classes[key]


class _Never(Exception):
    """An exception that is never raised."""


def perhaps_known(key: str) -> type:
    """The class with that key, to compare errors with: a class that is not known here was not
    raised here, so one that is never raised stands for it."""
    return _classes.get(key, _Never)


class Absent:
    """Stands for a global that cannot be pickled."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return Absent, (self.reason,)


class Missing(TypeError):
    """The error of a call that needs a global which could not be pickled."""

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return TypeError, self.args


def cached(
    function: Callable[..., Any], maxsize: int | None, typed: bool, attributes: Mapping[str, Any]
) -> Any:
    """A function with ``functools.lru_cache``, and a cache of its own."""
    made = functools.lru_cache(maxsize, typed)(function)
    vars(made).update(attributes)
    return made


def dispatching(
    function: Callable[..., Any],
    registry: Iterable[tuple[type, Callable[..., Any]]],
    attributes: Mapping[str, Any],
) -> Any:
    """A function with ``functools.singledispatch``."""
    made = functools.singledispatch(function)
    for kind, implementation in registry:
        made.register(kind, implementation)
    vars(made).update(attributes)
    return made
