"""What a call of a function gives: a value, a coroutine that is to be awaited, or items.

Thread: any.
Guarantees: no code of the user's runs; what looks like a function of one style only because of an
attribute that it makes up (a proxy, say) is of none.

As ``inspect`` tells, which is not imported here: the first call would wait for that.
"""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import Any

#: A value; a coroutine; items; items that come asynchronously.
PLAIN, ASYNC, ITEMS, ASYNC_ITEMS = range(4)
#: What an event loop is for, and what is for ``stream`` only.
FOR_LOOPS = frozenset({ASYNC, ASYNC_ITEMS})
STREAMS = frozenset({ITEMS, ASYNC_ITEMS})

# Flags of code: see inspect. A generator that types.coroutine has made one to await has both.
_COROUTINE, _ITERABLE_COROUTINE = 0x80, 0x100
_GENERATOR, _ASYNC_GENERATOR = 0x20, 0x200


def style_of(function: object) -> int:
    """Of which style a callable is: a function, a bound method, a partial of one, or an object by
    its ``__call__``."""
    found = _style_of(function)
    if found == PLAIN and not isinstance(function, type):
        inner = _inner(function)
        if not isinstance(inner, (FunctionType, type)):
            return _style_of(getattr(type(inner), "__call__", None))  # noqa: B004  # which
    return found


def _style_of(function: object) -> int:
    if _is_marked(function):
        return ASYNC
    inner = _inner(function)
    if _is_marked(inner):
        return ASYNC
    # Functions of Cython's have code, too.
    code: Any = getattr(type(inner), "__code__", None) and getattr(inner, "__code__", None)
    flags = getattr(code, "co_flags", 0)
    if not isinstance(flags, int):
        return PLAIN
    if flags & (_COROUTINE | _ITERABLE_COROUTINE):
        return ASYNC
    if flags & _ASYNC_GENERATOR:
        return ASYNC_ITEMS
    return ITEMS if flags & _GENERATOR else PLAIN


def _inner(function: Any) -> object:
    """What is called in the end."""
    while True:
        if isinstance(function, (functools.partial, functools.partialmethod)):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        else:
            return function


def _is_marked(function: object) -> bool:
    """Whether ``inspect.markcoroutinefunction`` has marked it (Python 3.12's)."""
    try:
        names = object.__getattribute__(function, "__dict__")
    except AttributeError:
        return False
    return isinstance(names, dict) and "_is_coroutine_marker" in names
