"""``executor.live()``: a picture of the executor that is redrawn while a block runs.

Thread: the block's enters and leaves; a thread of its own draws in between. (In a process that
gevent has patched, that is a greenlet.)
Guarantees: when the block has ended, however it did, the thread has, too, and the last state is
shown and stays; what fails while drawing ends the drawing, is logged, and hurts nobody else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType

from rich.console import Console

from .. import native
from .screens import Screen, screen_for
from .view import View

_logger = logging.getLogger("hybridexec")
#: For how many seconds the end waits for a picture that is being drawn.
_PATIENCE = 5.0


class Live:
    """A context manager that shows an executor meanwhile."""

    def __init__(self, view: Callable[[], View], console: Console | None) -> None:
        """
        Args:
            view: what there is to show now.
            console: where to show it; standard error if it is None.
        """
        self._view = view
        self._console = console
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._screen: Screen | None = None

    def __enter__(self) -> Live:
        if self._thread is not None:
            raise RuntimeError("what live() returns can be entered only once")
        screen = self._screen = screen_for(self._console or Console(stderr=True))
        screen.open(self._view())
        self._thread = threading.Thread(
            target=self._run, args=(screen,), name="hybridexec-live", daemon=True
        )
        try:
            self._thread.start()
        except BaseException:
            screen.close(self._view())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        screen, thread = self._screen, self._thread
        assert screen is not None
        assert thread is not None
        try:
            self._over.set()
            native.wait(partial(_joined, thread), _PATIENCE)
        finally:  # at a second Ctrl-C, too: the terminal needs its cursor
            screen.close(self._view())

    def _run(self, screen: Screen) -> None:
        try:
            while not self._over.wait(screen.seconds):
                screen.show(self._view())
        except Exception:
            _logger.exception("the executor is not shown any more, because drawing it failed")


def _joined(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive()
