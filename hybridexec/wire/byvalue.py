"""The pickler for what cannot be pickled by reference: cloudpickle's, for both sides.

Thread: as :mod:`.payload`. Loaded when first needed, because cloudpickle is slow to import.
Guarantees: what the other side can import is pickled by reference, and so is the same object there.
"""

from __future__ import annotations

import copyreg
import functools
import sys
import types
from collections import ChainMap
from collections.abc import Callable
from contextvars import ContextVar
from multiprocessing.reduction import ForkingPickler
from typing import Any, ClassVar, Protocol

import cloudpickle

from . import mains, payload, variables

_CachedFunction = type(functools.lru_cache(lambda: None))
_FUNCTOOLS = vars(functools)
_CLOUD_REDUCERS = cloudpickle.Pickler.dispatch_table
#: What cloudpickle puts in place of a file's name.
_NO_FILE = "<dynamic-code>"


class Main(Protocol):
    """What the parent knows of its ``__main__``, and records while something is pickled."""

    def refer(self, value: Any) -> tuple[Any, ...] | None:
        """How to refer to a function or class of ``__main__``; None if it goes by value."""

    def namespace_of(self, function: types.FunctionType) -> int | None:
        """The number of the namespace of a function's globals; None if they are a module's."""

    def use(self, number: int, names: list[str], function: str) -> None:
        """Record that the function uses globals of these names."""

    def make_anew(self, value: Any) -> tuple[Any, ...] | None:
        """How the worker makes its own of a value that cannot be pickled; None if it cannot."""


class _Namespace:
    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return mains.namespace, (self.number,)


class _Library:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return mains.library, (self.name,)


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    """As cloudpickle does, but with the name of the file, which tracebacks tell. (From 3.1 on it
    leaves that out, so that pickles are the same wherever code was written.)"""
    make, fields = _CLOUD_REDUCERS[types.CodeType](code)
    return make, tuple(code.co_filename if each == _NO_FILE else each for each in fields)


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """cloudpickle with ForkingPickler's reducers, which refers to an importable ``__main__``."""

    dispatch_table: ClassVar = ChainMap(
        {types.CodeType: _reduce_code},
        ForkingPickler._extra_reducers,  # type: ignore[attr-defined]  # private
        *(
            each
            for each in cloudpickle.Pickler.dispatch_table.maps
            if each is not copyreg.dispatch_table
        ),
        payload.Registered(),  # type: ignore[arg-type]  # it is only asked for single types
    )

    def __init__(
        self, file: Any, callback: Callable[[Any], object] | None, main: Main | None = None
    ) -> None:
        super().__init__(file, payload.PROTOCOL, callback)
        self._main = main

    def reducer_override(self, value: Any) -> Any:
        """How to pickle ``value``, if that needs more than pickle's own ways."""
        if isinstance(value, type):
            # cloudpickle copies all of __main__ by value, but a class that the worker can import
            # must stay one class on both sides, or isinstance() fails on results.
            return NotImplemented if payload.travels_by_reference(value) else self._class(value)
        if isinstance(value, types.FunctionType):
            return NotImplemented if payload.travels_by_reference(value) else self._function(value)
        if type(value) is ContextVar:
            reference = variables.reference(value)
            if reference is not None:
                return reference
        main = self._main
        if main is not None:
            if type(value) is _CachedFunction and value.__module__ == "__main__":
                return main.refer(value) or _reduce_cached(value)
            reduced = main.make_anew(value)
            if reduced is not None:
                return reduced
        return super().reducer_override(value)

    def _class(self, value: type) -> Any:
        if self._main is None:
            key = mains.key_of(value)
            reference = None if key is None else (mains.known_class, (key,))
        else:
            reference = self._main.refer(value)
        if reference is not None:
            return reference
        reduced = super().reducer_override(value)
        slots = vars(value).get("__slots__")
        if slots and isinstance(reduced, tuple):
            # cloudpickle makes the class without its slots: its objects would have a __dict__.
            for argument in reduced[1]:
                if type(argument) is dict and "__module__" in argument:
                    argument["__slots__"] = slots
        return reduced

    def _function(self, value: types.FunctionType) -> Any:
        main = self._main
        if main is not None:
            reference = main.refer(value)
            if reference is not None:
                return reference
            if value.__globals__ is _FUNCTOOLS and hasattr(value, "registry"):
                return _reduce_dispatching(value)
        reduced = super().reducer_override(value)
        if main is None or not isinstance(reduced, tuple):
            return reduced
        make, (code, _, *rest), (attributes, fields), *others = reduced
        number = main.namespace_of(value)
        if number is not None:
            main.use(number, list(fields["__globals__"]), value.__qualname__)
            there: Any = _Namespace(number)
        elif value.__module__ == "__main__" and _is_librarys(value.__globals__):
            there = _Library(value.__globals__["__name__"])  # a decorator's
        else:
            return reduced
        fields["__globals__"] = {}
        return make, (code, there, *rest), (attributes, fields), *others


def _is_librarys(names: dict[str, Any]) -> bool:
    """Whether ``names`` are the globals of a module that can be imported."""
    name = names.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) and name != "__main__" else None
    return module is not None and vars(module) is names and names.get("__spec__") is not None


def _reduce_cached(value: Any) -> tuple[Any, ...]:
    how = value.cache_parameters()
    attributes = {name: each for name, each in vars(value).items() if name != "__wrapped__"}
    del attributes["cache_parameters"]
    return mains.cached, (value.__wrapped__, how["maxsize"], how["typed"], attributes)


def _reduce_dispatching(value: Any) -> tuple[Any, ...]:
    made = ("registry", "dispatch", "register", "_clear_cache", "__wrapped__")
    attributes = {name: each for name, each in vars(value).items() if name not in made}
    registry = dict(value.registry)
    default = registry.pop(object)
    return mains.dispatching, (default, list(registry.items()), attributes)
