"""What the methods of ``HybridExecutor`` that are written elsewhere are for their users: its own.

Thread: any; at import.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def public(method: Callable[P, T]) -> Callable[P, T]:
    """Give the method the name that its users know it by, for Python's errors."""
    method.__module__ = "hybridexec.executor"
    method.__qualname__ = f"HybridExecutor.{method.__name__}"
    return method


def named(method: Callable[P, T]) -> Callable[P, T]:
    """As :func:`public`, and refuse an unknown keyword argument by naming the known ones."""
    public(method)
    code = method.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]

    @wraps(method)
    def checked(*args: P.args, **named: P.kwargs) -> T:
        for name in named:
            if name not in names:
                raise TypeError(
                    f"{method.__name__}() got an unexpected keyword argument {name!r}; it has "
                    + ", ".join(names)
                )
        return method(*args, **named)

    return checked
