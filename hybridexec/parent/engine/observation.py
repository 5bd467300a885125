"""An observer of an executor, and the thread that calls it.

Thread: the I/O thread puts events in; a thread of the observer's own, which the first event
starts, takes them out. (In a process that gevent has patched, that is a greenlet.)
Guarantees: putting in never waits for the observer, and what would be kept beyond a bound is
counted and dropped; the observer gets its events in order, one at a time; what it raises is logged
once and hurts nobody.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ... import native

if TYPE_CHECKING:
    from ...events import Event

#: Events that may wait for an observer.
_MOST = 10_000
#: How long, in seconds, the end of an executor waits for an observer.
PATIENCE = 5.0

_logger = logging.getLogger("hybridexec")


class Observation:
    """What ``executor.observe()`` returns: an observer, and the events that wait for it."""

    def __init__(self, observer: Callable[[Event], object]) -> None:
        self._observer = observer
        self._events: deque[Event] = deque()
        # Guards what follows, and _events.
        self._changed = threading.Condition()
        self._ended = False  # there will be no more
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._failed = False
        self._cease: Callable[[], None] = self.end

    @property
    def dropped(self) -> int:
        """How many events were dropped, because the observer had not dealt with ten thousand that
        came before."""
        return self._dropped

    def close(self) -> None:
        """Observe no longer. Returns when the observer has had the events so far, after some
        seconds at most. If the observer itself or a future's callback calls this, it returns at
        once, and the observer gets them afterwards."""
        self._cease()
        if self._ended:  # else this is the thread that has to tell what is left
            self.join(PATIENCE)

    # -- for who tells ----------------------------------------------------------------------------

    def cease_with(self, cease: Callable[[], None]) -> None:
        """Have :meth:`close` call ``cease``, which calls :meth:`end` in its turn when all has been
        put in that has happened until then."""
        self._cease = cease

    def put(self, events: list[Event]) -> None:
        """Have the observer called with these."""
        with self._changed:
            if self._ended:
                return
            room = max(0, _MOST - len(self._events))
            self._dropped += max(0, len(events) - room)
            self._events += events[:room]
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="hybridexec-observer", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # there are too many, or the interpreter is exiting
                    return  # who waits for the end calls the observer
                self._thread = thread
            self._changed.notify()

    def end(self) -> None:
        """There will be no more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait until the observer has had all its events, for so many seconds at most; not if it
        is the observer that waits."""
        thread = self._thread
        if thread is None:
            if self._ended:
                self._run()  # what waits because no thread could be started
        elif thread is not threading.current_thread():
            native.wait(partial(_joined, thread), seconds)

    def become_inert(self) -> None:
        """This process is a fork, without the thread."""
        self._changed = threading.Condition()  # it may have been held
        self._ended = True

    # -- on the observer's thread -----------------------------------------------------------------

    def _run(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._observer(event)
            except BaseException:
                if not self._failed:
                    self._failed = True
                    _logger.exception("the observer %r failed; that is logged once", self._observer)

    def _next(self) -> Event | None:
        with self._changed:
            while not self._events:
                if self._ended:
                    return None
                self._changed.wait()
            return self._events.popleft()


def _joined(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive()
