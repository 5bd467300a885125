"""Shows the progress of calls while they run, from a thread of its own.

Thread: :meth:`Reporter.begin` and :meth:`Reporter.end` on the consumer's; in a process that gevent
has patched, the thread is a greenlet of the consumer's hub.
Guarantees: a display is made in the consumer's thread, and then shown to by this thread only, at
most ten times a second and once more at the end, whichever way that comes; what it raises is
logged, and it is left alone after that. To the calls this costs a fiftieth of a processor at most,
however long it takes.

So something moves while the consumer waits, and while it computes between two results.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from .. import native
from .meter import Meter

if TYPE_CHECKING:
    from ..parent.client.counted import Source
    from ..progress import Progress

#: Seconds between two looks.
_PAUSE = 0.1
#: What looking may take of a processor's time.
_SHARE = 0.02
#: Seconds that a finalizer, or Ctrl-C, waits for the last look.
_PATIENCE = 2.0

_logger = logging.getLogger("hybridexec")


class Display(Protocol):
    """Something that shows progress."""

    def show(self, progress: Progress, last: bool) -> None:
        """Show it; ``last``: nothing follows."""


class Reporter:
    """Shows the progress of one stream, or of some futures."""

    def __init__(
        self,
        make: Callable[[int | None], Display],
        expected: int | None,
        clock: Callable[[], float] = native.monotonic,
    ) -> None:
        """
        Args:
            make: makes the display for so many calls, when the first were made.
            expected: how many calls there are to be; None if that is not known.
        """
        self._make = make
        self._expected = expected
        self._clock = clock
        self._stop = threading.Event()
        # Once it has started.
        self._thread: threading.Thread | None = None
        # Of the process that has the thread: a fork of it has none.
        self._pid: int | None = None
        # The iterator of the results, as long as somebody has it.
        self._results: Callable[[], object] = lambda: True

    def begin(self, source: Source) -> None:
        """Begin to show what ``source`` counts."""
        meter = Meter(self._expected, self._clock())
        run = contextvars.copy_context().run  # so that a notebook knows whose output it is
        self._pid = os.getpid()
        atexit.register(self.end, _PATIENCE)
        try:
            # Not a native thread: what it shows to may take locks that gevent has patched.
            thread = threading.Thread(
                target=run,
                args=(self._run, source, meter, self._make(self._expected)),
                name="hybridexec-progress",
                daemon=True,
            )
            thread.start()
        except Exception:  # the display's own, or there can be no more threads
            _logger.exception("the progress of calls cannot be shown")
            atexit.unregister(self.end)
        else:
            self._thread = thread

    def tie(self, results: object) -> None:
        """End when ``results`` is dropped, unless all calls were made by then: these go on."""
        self._results = weakref.ref(results)

    def end(self, patience: float | None = None) -> None:
        """Show for the last time, if that has not happened; returns after that, or ``patience``
        seconds."""
        if self._pid != os.getpid():
            return
        self._stop.set()
        thread = self._thread
        if thread is None or not _may_wait(thread):
            return
        if patience is None and isinstance(sys.exception(), GeneratorExit | KeyboardInterrupt):
            patience = _PATIENCE
        native.wait(partial(_joined, thread), patience)

    # -- on the thread ------------------------------------------------------------------------

    def _run(self, source: Source, meter: Meter, display: Display) -> None:
        pause = _PAUSE
        try:
            while not self._stop.wait(pause):
                began = time.thread_time()
                counts = source.counts()
                if counts.over or (counts.total is None and self._results() is None):
                    break
                display.show(meter.progress(counts, self._clock()), last=False)
                pause = max(_PAUSE, (time.thread_time() - began) / _SHARE)
            display.show(meter.progress(source.counts(), self._clock(), last=True), last=True)
        except BaseException:
            _logger.exception("what was to show the progress of calls failed, and is left alone")
        finally:
            atexit.unregister(self.end)


def _may_wait(thread: threading.Thread) -> bool:
    """Whether the caller, perhaps a finalizer, may wait for the thread."""
    if threading.current_thread() is thread:
        return False
    if not native.is_patched("threading"):
        return True
    gevent = sys.modules["gevent"]
    return bool(gevent.getcurrent() is not gevent.get_hub())


def _joined(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive()
