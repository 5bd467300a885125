"""Sends the log records that are made in a worker to its parent.

Thread: any, and any greenlet; :meth:`Logs.follow` on whichever reads the call pipe.
Guarantees: to log never waits for the parent. A record is in memory that outlives this process when
the logging call returns. What no handler of the parent's would take is not sent. Handlers that the
worker has are called as ever, unless the parent writes the record to the same place. A process that
a call has forked sends nothing: there, logging is as it was.

Records are caught where logging looks for handlers, in ``Logger.callHandlers``, and not by a
handler: with one at the root logger, ``logging.basicConfig`` would do nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import native
from ..wire.log_tree import Outlooks, Tree, adopt, adopt_at_once, changes, describe_handler
from ..wire.messages import Logged

if TYPE_CHECKING:
    from ..wire.log_ring import LogRing
    from .outbox import Outbox

#: After so many bytes, the parent is told at once, not at the end of the hub's turn.
_STEP = 128 * 1024

_call_handlers = logging.Logger.callHandlers
_logs: Logs | None = None


class Logs:
    """The log records of this worker."""

    def __init__(
        self,
        tree: Tree,
        ring: LogRing,
        outbox: Outbox,
        call_helper: Callable[[], None],
        calling: Callable[[], str],
        main: int,
    ) -> None:
        """
        Args:
            tree: the parent's logging.
            ring: where the records go.
            outbox: what the parent is told through.
            call_helper: has the helper thread look, within milliseconds.
            calling: the call that the current thread of control runs, in a few words.
            main: the main thread's number.
        """
        self._outlooks = Outlooks(tree)
        self._ring = ring
        self._outbox = outbox
        self._call_helper = call_helper
        self._calling = calling
        #: The process that is the worker.
        self.pid = os.getpid()
        self._ident: Callable[[], int] = native.original("_thread", "get_ident")
        self._main = main
        # Packed records that whoever holds the lock puts into the ring: nobody waits for it, nor
        # does a signal handler that has interrupted its holder.
        self._packed: deque[bytes] = deque()
        self._lock = native.original("_thread", "allocate_lock")()
        # Handlers that the worker had when it got ready: those of its parent, or of modules that
        # the parent has imported, too.
        self._inherited: set[int] = set()
        # Levels for loggers that do not exist yet.
        self._levels: dict[str, int] = {}
        #: Whether the parent is going to be told, and how far it has been.
        self.telling = False
        self.told = 0

    def install(self) -> None:
        """From now on, send what is logged; the levels of loggers are the parent's."""
        global _logs
        tree = self._outlooks.tree
        adopt(changes(tree))
        if logging.root.manager.disable != tree[0]:
            logging.disable(tree[0])
        for logger in (logging.root, *logging.root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                self._inherited.update(map(id, logger.handlers))
        _logs = self
        logging.Logger.callHandlers = _handle  # type: ignore[assignment,method-assign]  # that is the purpose

    def follow(self, tree: Tree) -> None:
        """The parent's logging is like this now."""
        levels = changes(tree, self._outlooks.tree)
        self._outlooks = Outlooks(tree)
        self._levels |= adopt_at_once(levels, tree[0])

    def handle(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Handle a record that a logger has made and not filtered out."""
        if self._levels:
            levels, self._levels = self._levels, {}
            adopt(levels)
        outlook = self._outlooks.of(logger.name)
        own = _handlers(logger)
        level = record.levelno
        sent = (
            level >= outlook.threshold
            and not (own and outlook.is_last_resort)
            and not any(_forwards(handler) for handler in own if level >= handler.level)
            and self._send(record)
        )
        for handler in own:
            if level >= handler.level and not (
                sent
                and outlook.writes(describe_handler(handler), level, id(handler) in self._inherited)
            ):
                handler.handle(record)

    def _send(self, record: logging.LogRecord) -> bool:
        """Send a record; whether it could be packed."""
        from ..wire.log_records import pack  # not before something is logged: workers start sooner

        try:
            packed = pack(record, self._calling())
        except Exception:
            # As handlers do: it is printed.
            logging.Handler().handleError(record)
            return False
        self._packed.append(packed)
        while self._packed and self._lock.acquire(False):
            try:
                while self._packed:
                    self._ring.put(self._packed.popleft())
            finally:
                self._lock.release()
        self._tell()
        return True

    def _tell(self) -> None:
        on_main = self._ident() == self._main
        if not self.telling:
            self.telling = True
            news = _News(self, self._ring)
            if on_main:
                self._outbox.put(news)
            else:
                self._outbox.add(news)
                self._call_helper()
        elif on_main and self._ring.written - self.told > _STEP:
            self._outbox.flush()


class _News(Logged):
    """Tells how far the ring is filled when it leaves."""

    __slots__ = ("_logs", "_ring")

    def __init__(self, logs: Logs, ring: LogRing) -> None:
        self._logs = logs
        self._ring = ring

    @property
    def head(self) -> tuple[Any, ...]:  # type: ignore[override]  # made when it is asked for
        """The message, as of now."""
        self._logs.telling = False  # first: what is put in from here on is told again
        self._logs.told = end = self._ring.written
        return self.kind, end


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    logs = _logs
    if logs is None or logs.pid != os.getpid():
        _call_handlers(logger, record)
    else:
        logs.handle(logger, record)


def _handlers(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers in this process that are asked to handle a logger's records."""
    found: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        found += at.handlers
        at = at.parent if at.propagate else None
    return found


def _forwards(handler: logging.Handler) -> bool:
    """Whether a handler takes records to another process: most likely the parent, as logging's
    documentation has programs do it."""
    handlers = sys.modules.get("logging.handlers")
    return (
        handlers is not None
        and isinstance(handler, handlers.QueueHandler)
        and type(handler.queue).__module__.startswith("multiprocessing")
    )
