"""The base of the public classes: ``ProcessPoolExecutor``.

Thread: the one that imports them; before that, a worker's main thread calls :func:`postpone`.
Guarantees: code that can name ``ProcessPoolExecutor`` finds that they derive from it.

Most scripts import ``HybridExecutor`` at their top, and workers import the script. The base's
module imports much of multiprocessing, which would delay a worker's start, and so the first result.
So in a worker, the classes get their base only when something imports that module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

_HOME = "concurrent.futures.process"

# In a worker: calls a function with a module when that is imported.
_after_import: Callable[[str, Callable[[Any], object]], object] | None = None


def postpone(after_import: Callable[[str, Callable[[Any], object]], object]) -> None:
    """From now on, have classes derive only when ``after_import`` reports that the base's module
    was imported."""
    global _after_import
    _after_import = after_import


def first_base() -> type[Executor]:
    """What a class derives from at first; :func:`derive` must be called with it then."""
    if _after_import is None:
        from concurrent.futures.process import ProcessPoolExecutor

        return ProcessPoolExecutor
    from concurrent.futures import Executor

    return Executor


def derive(made: type) -> None:
    """Have ``made`` derive from the base, now or later."""

    def join(module: Any) -> None:
        made.__bases__ = (module.ProcessPoolExecutor,)

    if _after_import is not None:
        _after_import(_HOME, join)
