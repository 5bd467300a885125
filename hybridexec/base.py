"""What the public classes derive from: ``ProcessPoolExecutor``.

Runs on: whatever imports them; a worker's main thread, before that.
Guarantees: whoever can name ``ProcessPoolExecutor`` finds that they derive from it.

Most scripts import ``HybridExecutor`` at their top, and so do workers, which import the script. The
base's module loads a good part of multiprocessing, for which a worker's start would wait, and with
it the first result. So in a worker the classes get their base when somebody imports that module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

_HOME = "concurrent.futures.process"

# In a worker: has a function called with a module as soon as that is imported.
_after_import: Callable[[str, Callable[[Any], object]], object] | None = None


def postpone(after_import: Callable[[str, Callable[[Any], object]], object]) -> None:
    """From now on, have classes derive when the base's module is imported, which ``after_import``
    tells."""
    global _after_import
    _after_import = after_import


def first_base() -> type[Executor]:
    """What a class is to derive from to begin with; then :func:`derive` is due."""
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
