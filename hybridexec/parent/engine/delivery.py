"""Deliver what may run user code: outcomes (callbacks) and events (listeners); and the end.

Thread: the I/O thread, and whoever takes a turn in its place.
Guarantees: no lock of gevent's is taken on a native thread: in a process that gevent has patched,
delivery is done in a greenlet (:mod:`.gevent_parent`).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..work.batch import Delivery, deliver_all
from .gevent_parent import Hubs
from .listeners import tell_all
from .worker_logs import WorkerLogs

if TYPE_CHECKING:
    from .listeners import News


class Deliverer:
    """Delivers on the calling thread, or by way of ``hubs``."""

    def __init__(self, hubs: Hubs | None, worker_logs: bool) -> None:
        self._hubs = hubs
        #: What workers log; None if that is not wanted.
        self.logs = WorkerLogs(hubs) if worker_logs else None

    def outcomes(self, outcomes: list[Delivery]) -> None:
        """Give each sink its outcomes."""
        if self._hubs is None:
            deliver_all(outcomes)
        elif outcomes:
            self._hubs.call(functools.partial(deliver_all, outcomes))

    def events(self, news: list[News]) -> None:
        """Give each listener its events."""
        if self._hubs is None:
            tell_all(news)
        elif news:
            self._hubs.call(functools.partial(tell_all, news))

    def is_logging(self) -> bool:
        """Whether the caller is a handler of a worker's log record: the end waits for it."""
        return self.logs is not None and self.logs.is_current()

    def end(self, ended: Callable[[], None]) -> None:
        """Call ``ended``, after everything else was delivered."""
        if self.logs is None:
            self._end(ended)
        else:
            self.logs.finish(functools.partial(self._end, ended))

    def _end(self, ended: Callable[[], None]) -> None:
        if self._hubs is None:
            ended()
        else:
            self._hubs.call(ended)
            self._hubs.release()


class Told:
    """A sink that only sets an event when it is delivered to."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def deliver(self, ended: object) -> None:
        """Set the event."""
        self._event.set()
