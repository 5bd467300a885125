"""What is data: objects that are pickled and unpickled without any code of the user's.

Thread: whoever pickles.
Guarantees: what is taken for data is built by the interpreter and a few modules of the standard
library alone, but for what a dict or set calls of its keys, ``__hash__`` and ``__eq__``.
"""

from __future__ import annotations

import copyreg
import operator
import types
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from . import payload

#: The reducers that were registered, by type: all programs', and multiprocessing's.
REGISTERED: dict[type, Callable[[Any], Any]] = copyreg.dispatch_table
EXTRA: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]  # private

#: How many types are remembered.
_MOST = 100
#: Modules whose objects are data, and are rebuilt by these modules' own code.
_DATA = frozenset(
    {
        "builtins",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "ipaddress",
        "pathlib",
        "uuid",
        "zoneinfo",
    }
)
#: What pickling and unpickling call, beside ``__reduce__``.
_HOOKS = {
    "__new__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__getattribute__",
    "__getattr__",
    "__setitem__",
    "append",
    "extend",
    "add",
}

# Its methods are compared with those of its subclasses.
_OBJECT: Any = object


class _Bare:
    """Its instances have a dict and nothing else; other types are compared with it."""


_LAYOUT = ("__basicsize__", "__itemsize__", "__dictoffset__")
#: What an instance is reduced by.
_REDUCING = ("__reduce_ex__", "__reduce__", "__getstate__", "__getattribute__")


class NoData(Exception):
    """An object whose pickle may do more than to hold it."""


class Reducers(dict[type, Callable[[Any], Any]]):
    """How objects are pickled, by type, if they are data."""

    def __init__(self) -> None:
        super().__init__()
        #: How many reducers were registered when this was last looked at.
        self.registered = 0

    _reduce = staticmethod(operator.methodcaller("__reduce_ex__", payload.PROTOCOL))

    def refresh(self) -> None:
        """Find out anew what is data: reducers have been registered since."""
        self.registered = len(REGISTERED) + len(EXTRA)
        self.clear()

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        if issubclass(kind, type):
            raise KeyError(kind)  # a class is named
        if kind is complex:
            return REGISTERED[complex]
        if kind in REGISTERED or kind in EXTRA or not _is_data(kind):
            raise NoData
        if len(self) >= _MOST:
            self.clear()
        reduce = self[kind] = _bare_reducer(kind) if _is_bare(kind) else self._reduce
        return reduce


def _is_data(kind: type) -> bool:
    """Whether objects of a type are pickled and unpickled without code of the user's."""
    if _is_datas(kind.__module__):
        return True
    reduce: Any = kind.__reduce_ex__
    if reduce is _OBJECT.__reduce_ex__:
        if kind.__reduce__ is not _OBJECT.__reduce__:
            return False
    elif getattr(reduce, "__module__", None) != "enum":
        return False
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        found.update(vars(each))
    if not all(_is_librarys(found[hook]) for hook in _HOOKS & found.keys()):
        return False
    # What is in slots is set as attributes, unless __setstate__ does that.
    return (
        "__setstate__" in found
        or kind.__setattr__ is _OBJECT.__setattr__
        or not any("__slots__" in vars(each) for each in kind.__mro__)
    )


def _is_bare(kind: Any) -> bool:
    """Whether instances of a type are what their dict says, to pickle and to the interpreter."""
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        if vars(each).get("__slots__"):
            return False
        found.update(vars(each))
    return (
        all(getattr(kind, each) is getattr(object, each) for each in _REDUCING)
        and found.keys().isdisjoint(("__getnewargs__", "__getnewargs_ex__"))
        and type(found.get("__dict__")) is types.GetSetDescriptorType
        and all(getattr(kind, each) == getattr(_Bare, each) for each in _LAYOUT)
    )


def _bare_reducer(kind: type) -> Callable[[Any], Any]:
    """What does for instances of such a type what their ``__reduce_ex__`` does, in a third of the
    time."""
    make: Any = copyreg.__newobj__  # type: ignore[attr-defined]  # not in its stub
    arguments = (kind,)

    def reduce(value: Any) -> Any:
        state = value.__dict__
        # An instance may have these itself. (Two look-ups take less time than sets do.)
        if not state or "__getstate__" in state or "__reduce_ex__" in state:
            return value.__reduce_ex__(payload.PROTOCOL)
        return make, arguments, state

    return reduce


def _is_datas(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _DATA


def _is_librarys(hook: Any) -> bool:
    """Whether a method is the interpreter's, or made by one of those modules."""
    if isinstance(hook, staticmethod):
        hook = hook.__func__
    if isinstance(hook, types.FunctionType):
        module = hook.__module__ or ""
        return _is_datas(module) or module.startswith("namedtuple_")
    owner = getattr(hook, "__objclass__", None) or getattr(hook, "__self__", None)
    return _is_datas(getattr(owner, "__module__", None))
