"""Handles the log records that workers send, as if they had been made here.

Thread: the turn holder receives and looks; a native thread of its own handles, which is started by
the first records; in a process that gevent has patched, greenlets do, one after another.
Guarantees: handlers are the user's and may take their time: neither the I/O thread nor workers wait
for them. Records of a worker are handled in the order in which they were made, and all that were
received have been handled when the engine's end is told. What is too much is dropped, counted, and
reported in the log.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from ... import native
from ...wire.log_ring import records
from ...wire.log_tree import Tree, describe
from .gevent_parent import Hubs

_logger = logging.getLogger("hybridexec")
#: Bytes of records that may wait here for handlers: some hundred thousand.
_MOST_WAITING = 32 * 1024 * 1024
#: How often, in seconds, it is checked whether this process's logging has changed.
_LOOK_SECONDS = 1.0
#: How often, in seconds, it is reported how many records were dropped.
_REPORT_SECONDS = 5.0
#: How many records are handled before other greenlets may run.
_SOME = 100


class WorkerLogs:
    """The log records of one executor's workers."""

    def __init__(self, hubs: Hubs | None) -> None:
        self._hubs = hubs
        self._thread: _Thread | None = None
        #: The worker's number, its node, and its records.
        self._waiting: deque[tuple[int, str, bytes]] = deque()
        # Bytes that were received, and handled; each is written by one thread.
        self._received = self._handled = 0
        #: How many records were dropped, here and in workers.
        self.dropped = 0
        self._dropped_there: dict[int, int] = {}
        self._reported, self._report_at = 0, -math.inf
        self._busy = False
        self._tree: Tree | None = None
        self._look_at = 0.0
        #: What this process's logging is like, if that has changed since the engine began.
        self.changed: Tree | None = None

    # -- turn holder ------------------------------------------------------------------------------

    def look(self, now: float) -> Tree | None:
        """What this process's logging is like, if that has changed; looked at now and then."""
        if now < self._look_at:
            return None
        self._look_at = now + _LOOK_SECONDS
        tree = describe()
        if tree == self._tree:
            return None
        if self._tree is not None:
            self.changed = tree
        self._tree = tree
        return self.changed

    def receive(self, worker: int, data: bytes, dropped: int, node: str = "") -> None:
        """Have records handled.

        Args:
            data: as :func:`.log_ring.records` takes it.
            dropped: how many the worker has dropped so far.
            node: the name of its machine; empty if that is this one.
        """
        news = dropped - self._dropped_there.get(worker, 0)
        if news:
            self._dropped_there[worker] = dropped
        if data and self._received - self._handled > _MOST_WAITING:
            news += _count(data)
        elif data:
            self._received += len(data)
            self._waiting.append((worker, node, data))
        self.dropped += news
        if data or news:
            self._call(self._drain)

    def finish(self, then: Callable[[], object]) -> None:
        """Call ``then`` when all records have been handled."""
        if self._hubs is None and self._thread is None:
            self._end(then)  # here, what waits because there was no thread
        else:
            self._call(lambda: self._end(then))

    def _call(self, function: Callable[[], None]) -> None:
        """Have ``function`` called where records are handled. If no thread can be started, as when
        the interpreter is exiting (Python 3.12), what waits is handled by :meth:`finish`."""
        if self._hubs is not None:
            self._hubs.call(function)
            return
        if self._thread is None:
            try:
                self._thread = _Thread()
            except RuntimeError:
                return
        self._thread.call(function)

    # -- where records are handled ----------------------------------------------------------------

    def is_current(self) -> bool:
        """Whether the caller is a handler of such a record."""
        if self._hubs is not None:
            return self._busy and self._hubs.is_caller()
        return self._thread is not None and self._thread.ident == native.ident()

    def _drain(self) -> None:
        if self._busy:
            return  # a greenlet waits in a handler, and goes on with the rest
        self._busy = True
        try:
            while self._waiting:
                worker, node, data = self._waiting.popleft()
                try:
                    self._handle(worker, node, data)
                except Exception:  # a call has written over it
                    self.dropped += 1
                self._handled += len(data)
            self._report(native.monotonic())
        finally:
            self._busy = False

    def _handle(self, worker: int, node: str, data: bytes) -> None:
        from ...wire.log_records import unpack  # not before something is logged

        for count, packed in enumerate(records(data)):
            if self._hubs is not None and count % _SOME == _SOME - 1:
                self._hubs.give_way()
            record = unpack(packed, worker, node)
            try:
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
            except BaseException:  # a filter's, say
                logging.Handler().handleError(record)

    def _report(self, now: float) -> None:
        news = self.dropped - self._reported
        if news and now >= self._report_at:
            self._reported += news
            self._report_at = now + _REPORT_SECONDS
            with contextlib.suppress(Exception):  # a handler's, or a filter's
                _logger.warning(
                    "%d log records of workers were dropped: they were made faster than the "
                    "handlers of this process take them",
                    news,
                )

    def _end(self, then: Callable[[], object]) -> None:
        if self._busy:  # in a greenlet that waits; others may run
            self._call(lambda: self._end(then))
            return
        self._drain()
        self._report(math.inf)
        then()
        if self._thread is not None:
            self._thread.end()


def _count(data: bytes) -> int:
    return sum(1 for _ in records(data))


class _Thread:
    """A native thread that calls functions, one after another."""

    def __init__(self) -> None:
        # The one in C, which gevent does not patch.
        self._functions: Any = native.original("_queue", "SimpleQueue")()
        self.ident: int | None = None
        #: Have a function called.
        self.call: Callable[[Callable[[], None]], None] = self._functions.put
        native.start_thread(self._run, "hybridexec-logs")

    def _run(self) -> None:
        self.ident = native.ident()
        while (function := self._functions.get()) is not None:
            function()

    def end(self) -> None:
        """End, after what was to be called."""
        self._functions.put(None)
