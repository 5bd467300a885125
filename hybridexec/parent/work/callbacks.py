"""Calls the callbacks of futures, and logs those that delay other results.

Thread: the one that ends a future calls them; any that waits for a result calls
:meth:`Callbacks.look`.
Guarantees: each callback is called, whatever the others raise, as in the standard library. One that
takes long on the I/O thread, where no result can arrive meanwhile, is logged once, by name: while
it still runs, if a thread waits for a result, else when it has returned.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ... import native
from ...wire.wording import function_name

#: Seconds from which on a callback counts as slow; with less, it may have waited for the GIL only.
_COUNTED = 0.05
#: A callback is logged once it has taken the first number of seconds within the second one.
_TOO_MANY, _WINDOW = 0.5, 5.0

_logger = logging.getLogger("hybridexec")
#: The standard library's: what a callback raises is logged there.
_base_logger = logging.getLogger("concurrent.futures")

Callback = Callable[[Future[Any]], object]


class Callbacks:
    """Calls the callbacks of one executor's futures."""

    def __init__(self, is_io_thread: Callable[[], bool]) -> None:
        """
        Args:
            is_io_thread: whether the calling thread is the I/O thread.
        """
        self._is_io_thread = is_io_thread
        # The callback that runs on the I/O thread, and since when.
        self._running: tuple[Callback, float] | None = None
        # Slow callbacks by name: when their window began, how many calls and seconds since.
        self._slow: dict[str, tuple[float, int, float]] = {}
        self._told: dict[str, object] = {}

    def call(self, callbacks: Sequence[Callback], future: Future[Any]) -> None:
        """Call the callbacks of ``future``, which has ended."""
        # Callbacks called from within a callback count as its time.
        if self._running is not None or not self._is_io_thread():
            for callback in callbacks:
                _call(callback, future)
            return
        for callback in callbacks:
            began = native.monotonic()
            self._running = callback, began
            try:
                _call(callback, future)
            finally:
                self._running = None
                ended = native.monotonic()
                if ended - began > _COUNTED:
                    self._count(callback, began, ended)

    def look(self) -> None:
        """Log the callback that runs, if it has taken too long. On any thread."""
        running = self._running
        if running is not None:
            seconds = native.monotonic() - running[1]
            if seconds > _TOO_MANY:
                self._tell(_name(running[0]), f"for {seconds:.1f} s")

    def _count(self, callback: Callback, began: float, ended: float) -> None:
        name = _name(callback)
        since, count, seconds = self._slow.get(name, (began, 0, 0.0))
        if began - since > _WINDOW:
            since, count, seconds = began, 0, 0.0
        count, seconds = count + 1, seconds + ended - began
        self._slow[name] = since, count, seconds
        if seconds > _TOO_MANY:
            often = f", in {count} calls" if count > 1 else ""
            self._tell(name, f"for {seconds:.1f} s{often}")

    def _tell(self, name: str, how_long: str) -> None:
        mine = object()
        if self._told.setdefault(name, mine) is mine:
            _logger.warning(
                "the callback %s has kept the thread on which results arrive %s: no other result "
                "of this executor gets through meanwhile. Have it leave what takes time to other "
                "threads, to those of a ThreadPoolExecutor, say",
                name,
                how_long,
            )


def _call(callback: Callback, future: Future[Any]) -> None:
    try:
        callback(future)
    except Exception:
        _base_logger.exception("exception calling callback for %r", future)


def _name(callback: Any) -> str:
    """A callback's qualified name, and its place in the source if it has one."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    name = f"{getattr(callback, '__module__', None)}.{function_name(callback)}"
    if not hasattr(callback, "__code__"):
        callback = getattr(type(callback), "__call__")  # noqa: B004, B009  # its code, not whether
    code = getattr(callback, "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
