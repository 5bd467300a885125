"""What is pickled of a ``__main__`` that workers cannot import refers to these functions.

Runs on: whoever unpickles, in the worker mostly; a worker's results lead back to the parent's own
classes.
Guarantees: a class that was sent is one class in each process, however often it is met.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Classes that travel between processes, by what both call them.
_classes: dict[str, type] = {}
_ids: dict[type, str] = {}
_numbers = itertools.count(1)


# Other namespaces of prompts, by number: pdb and code.interact() may give functions a copy of
# ``__main__``'s globals.
_others: dict[int, dict[str, Any]] = {}


def namespace(number: int = 0) -> dict[str, Any]:
    """The globals of this process's ``__main__``, or others."""
    if not number:
        return vars(sys.modules["__main__"])
    return _others.setdefault(number, {"__name__": "__main__"})


def namespaces() -> list[tuple[int, dict[str, Any]]]:
    """All there are."""
    return [(0, namespace()), *_others.items()]


def number_of(names: dict[str, Any]) -> int:
    """The number of a namespace, known by that from now on."""
    for number, each in namespaces():
        if each is names:
            return number
    number = (os.getpid() << 16) + len(_others) + 1
    _others[number] = names
    return number


def key(number: int, name: str) -> str:
    """What a name is called that is in that namespace."""
    return f"{number}:{name}" if number else name


def find(key: str) -> tuple[dict[str, Any], str]:
    """The namespace, and the name in it."""
    number, _, name = key.rpartition(":")
    return namespace(int(number or 0)), name


def attribute(key: str) -> Any:
    """What has that name."""
    names, name = find(key)
    return names[name]


def library(name: str) -> dict[str, Any]:
    """The globals of a module that can be imported."""
    return vars(importlib.import_module(name))


def define(key: str, kind: type) -> type:
    """Know ``kind`` by ``key`` from now on."""
    _classes[key] = kind
    _ids[kind] = key
    return kind


def key_for(kind: type) -> str:
    """What a class of this process is to be known by."""
    key = key_of(kind)
    if key is None:
        key = f"{os.getpid()}-{next(_numbers)}"
        define(key, kind)
    return key


def key_of(kind: type) -> str | None:
    """What a class is known by."""
    try:
        return _ids.get(kind)
    except TypeError:  # its metaclass knows no hash
        return None


def known_class(key: str) -> type:
    """The class that is known by ``key``."""
    return _classes[key]


class _Never(Exception):
    """Nobody raises it."""


def perhaps_known(key: str) -> type:
    """The same, for what errors are compared with: what is not known here was not raised here."""
    return _classes.get(key, _Never)


class Absent:
    """Stands for a global that cannot be pickled."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return Absent, (self.reason,)


class Missing(TypeError):
    """What a call ends with that needs such a global, where there is nothing of that name."""

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
