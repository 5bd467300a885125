"""The base of the public classes: ``ProcessPoolExecutor``.

Thread: the one that imports them; before that, a worker's main thread calls :func:`postpone`.
Guarantees: code that can name ``ProcessPoolExecutor`` finds that they derive from it.

Most scripts import ``HybridExecutor`` at their top, and workers import the script. The base's
module imports much of multiprocessing, which would delay a worker's start, and so the first result.
So in a worker, the classes get their base only when something imports that module, and are
executors only when something imports ``concurrent.futures``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_EXECUTOR, _BASE = "concurrent.futures._base", "concurrent.futures.process"

# In a worker: calls a function with a module when that is imported.
_after_import: Callable[[str, Callable[[Any], object]], object] | None = None


def postpone(after_import: Callable[[str, Callable[[Any], object]], object]) -> None:
    """From now on, have classes derive only when ``after_import`` reports that the base's module
    was imported, or that of the base's own base."""
    global _after_import
    _after_import = after_import


class _NoBase:
    """What a class derives from before it can have a base: one that is like it in memory."""


def first_base() -> type:
    """What a class derives from at first; :func:`derive` must be called with it then."""
    if _after_import is None:
        from concurrent.futures.process import ProcessPoolExecutor

        return ProcessPoolExecutor
    return _NoBase


def derive(made: type) -> None:
    """Have ``made`` derive from the base, now or later."""

    def be_executor(module: Any) -> None:
        made.__bases__ = (module.Executor,)

    def join(module: Any) -> None:
        made.__bases__ = (module.ProcessPoolExecutor,)

    if _after_import is not None:
        _after_import(_EXECUTOR, be_executor)
        _after_import(_BASE, join)  # which imports the other first
