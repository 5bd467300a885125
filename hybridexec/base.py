"""The standard library's classes that the public ones derive from.

Thread: the one that imports them; before that, a worker's main thread calls :func:`postpone`.
Guarantees: code that can name ``ProcessPoolExecutor``, or ``multiprocessing.pool.Pool``, finds that
ours derive from it.

Most scripts import ``HybridExecutor`` or ``Pool`` at their top, and workers import the script. The
base's module imports much of multiprocessing, which would delay a worker's start, and so the first
result. So in a worker, a class gets its base only when something imports that module, and is an
executor only when something imports ``concurrent.futures``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

#: Modules of bases, with that of the base's own base, which is imported by some that do not import
#: the base, and its name.
_BEFORE = {"concurrent.futures.process": ("concurrent.futures._base", "Executor")}

# In a worker: calls a function with a module when that is imported.
_after_import: Callable[[str, Callable[[Any], object]], object] | None = None


def postpone(after_import: Callable[[str, Callable[[Any], object]], object]) -> None:
    """From now on, have classes derive only when ``after_import`` reports that the base's module
    was imported, or that of the base's own base."""
    global _after_import
    _after_import = after_import


class _NoBase:
    """What a class derives from before it can have a base: one that is like it in memory."""


def first_base(module: str, name: str) -> type:
    """What a class derives from at first that is to derive from the class of that module and name;
    :func:`derive` must be called with it then."""
    if _after_import is None:
        base: type = getattr(importlib.import_module(module), name)
        return base
    return _NoBase


def derive(made: type, module: str, name: str) -> None:
    """Have ``made`` derive from that base, now or later."""
    if _after_import is not None:
        if module in _BEFORE:
            _rebase(made, *_BEFORE[module])
        _rebase(made, module, name)  # which imports the other first


def _rebase(made: type, module: str, name: str) -> None:
    def rebase(imported: Any) -> None:
        made.__bases__ = (getattr(imported, name),)

    assert _after_import is not None
    _after_import(module, rebase)
