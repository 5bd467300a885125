"""What ``progress=`` asks for.

Thread: callers' threads.
Guarantees: tqdm and rich are imported only if they are to be used. Whether something was made by
one of them is seen without importing it: then it is loaded.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard

from .bars import Bar, Task
from .reporter import Display
from .texts import Line, Told

_ALLOWED = (
    "progress must be True, a tqdm bar, a rich.progress.Progress, or a callable that takes a "
    "hybridexec.Progress (False or None shows nothing), not "
)


#: Makes a display for so many calls; None if that is not known.
Maker = Callable[[int | None], Display]


def maker(progress: object, name: str) -> Maker | None:
    """What makes the display that ``progress`` asks for; None if there is to be none.

    Args:
        name: what the calls are, in a word or two.

    Raises:
        TypeError: it is nothing that can show progress.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return partial(_automatic, name) if _is_seen() else None
    tqdm = _loaded("tqdm.std", "tqdm")
    if tqdm is not None and isinstance(progress, tqdm):
        return lambda total: Bar(progress, ours=False)
    if tqdm is not None and isinstance(progress, type) and issubclass(progress, tqdm):
        return partial(_own_bar, progress, name)
    rich = _loaded("rich.progress", "Progress")
    if rich is not None and isinstance(progress, rich):
        return partial(Task, progress, name)
    if _is_callable(progress):
        return lambda total: Told(progress)
    raise TypeError(_ALLOWED + _what_it_is(progress))


def _loaded(module: str, name: str) -> Any:
    """A class of a module that may not be loaded; None then."""
    return getattr(sys.modules.get(module), name, None)


def _is_callable(progress: object) -> TypeGuard[Callable[[object], object]]:
    return callable(progress) and not inspect.iscoroutinefunction(progress)


def _what_it_is(progress: object) -> str:
    if inspect.iscoroutinefunction(progress):
        return f"{progress.__qualname__}, which would only make a coroutine"
    return type(progress).__name__


def _is_seen() -> bool:
    """Whether somebody sees what is written to standard error: at a terminal, or in a notebook."""
    try:
        return sys.stderr.isatty() or _is_notebook()
    except (AttributeError, ValueError):  # it is None, or something else without it, or closed
        return False


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _automatic(name: str, total: int | None) -> Display:
    """A bar if tqdm is installed, else a line."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Line(sys.stderr, name)
    return _own_bar(tqdm, name, total)


def _own_bar(tqdm: Any, name: str, total: int | None) -> Display:
    class Ours(tqdm):  # type: ignore[misc]  # known at run time only
        # It is redrawn often enough without tqdm's own thread, which would never end.
        monitor_interval = 0

    bar = Ours(desc=name or None, total=total, unit="call", mininterval=0, dynamic_ncols=True)
    return Bar(bar, ours=True)
