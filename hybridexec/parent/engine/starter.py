"""Start workers on threads where that holds up nobody.

Thread: turn holder. Each start runs on a short-lived thread of its own, a few at once; with
``fork``, on the thread that wants the worker; and on the I/O thread if no thread can be started.
Guarantees: each requested start is answered, by an event for the I/O thread. If the I/O thread has
to wait for a slow fork server itself, it handles events first whenever there are any.

Threads are refused where there are too many of them, and Python 3.12.0 and 3.12.1 refuse them as
soon as the script's last line has run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ... import native
from ..launch.process import StartPostponed
from .entry_queue import EntryQueue
from .link import Launcher

#: How many are under way at once: each takes some descriptors more than a worker that runs.
_AT_ONCE = 8


class Starter:
    """Has a launcher start workers, and reports the results."""

    def __init__(
        self,
        launcher: Launcher,
        queue: EntryQueue,
        started: Callable[[int, Any], None],
        failed: Callable[[int, BaseException], None],
    ) -> None:
        """
        Args:
            queue: the I/O thread's.
            started, failed: called on the I/O thread, with the worker's number and the result: what
                the launcher has returned, or its error.
        """
        self._launcher = launcher
        self._queue = queue
        self._started = started
        self._failed = failed
        #: How many starts are not answered yet.
        self.under_way = 0
        # Each with its lane. These wait for others to be answered.
        self._waiting: deque[tuple[int, str]] = deque()
        # Starts that the I/O thread runs itself, when it has nothing else to do.
        self._left: deque[tuple[int, str]] = deque()

    def start(self, number: int, lane: str) -> None:
        """Start a worker of a lane."""
        self.under_way += 1
        if self._launcher.method == "fork":
            self._run(number, lane)
        else:
            self._waiting.append((number, lane))
            self._start_threads()

    def _start_threads(self) -> None:
        waiting, left = self._waiting, self._left
        while waiting and self.under_way - len(waiting) - len(left) < _AT_ONCE:
            worker = waiting.popleft()
            try:
                native.start_thread(partial(self._run, *worker), "hybridexec-start")
            except RuntimeError:
                left.append(worker)

    def fail(self, number: int, error: BaseException) -> None:
        """Answer that a worker is not started, because of ``error``."""
        self.under_way += 1
        self._queue.post(self._answer, self._failed, number, error)

    def start_left(self) -> None:
        """Start the workers for which no thread could be started; called on the I/O thread when it
        is about to sleep."""
        events = self._queue.events
        while self._left and not events:
            try:
                self._run(*self._left[0], lambda: bool(events))
            except StartPostponed:
                return
            self._left.popleft()

    def _run(self, number: int, lane: str, pressed: Callable[[], bool] | None = None) -> None:
        try:
            started = self._launcher.start(number, lane, pressed)
        except StartPostponed:
            raise
        except BaseException as error:
            self._queue.post(self._answer, self._failed, number, error)
            if not isinstance(error, Exception):
                raise  # Ctrl-C, where this is the caller's own thread
        else:
            self._queue.post(self._answer, self._started, number, started)

    def _answer(self, tell: Callable[..., None], *what: object) -> None:
        self.under_way -= 1
        self._start_threads()
        tell(*what)
