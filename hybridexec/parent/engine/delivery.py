"""What the I/O thread has to tell: how calls ended, what is to be logged, and that it ends.

Runs on: the I/O thread, and whoever takes the engine's turn in its place.
Guarantees: what is told may run code of the user's, and takes no lock of gevent's on a native
thread: in a process that gevent has patched, it is told in a greenlet (:mod:`.gevent_parent`).
"""

from __future__ import annotations

import functools
import logging
import threading

from ..work.batch import Delivery, deliver_all
from .gevent_parent import Hubs
from .hub_monitor import Record

_logger = logging.getLogger("hybridexec")


class Deliverer:
    """Tells it here and now, or by way of ``hubs``."""

    def __init__(self, hubs: Hubs | None) -> None:
        self._hubs = hubs

    def outcomes(self, outcomes: list[Delivery]) -> None:
        """Give each sink its outcomes."""
        if self._hubs is None:
            deliver_all(outcomes)
        elif outcomes:
            self._hubs.call(functools.partial(deliver_all, outcomes))

    def log(self, records: list[Record]) -> None:
        """Log these."""
        if self._hubs is None:
            _log(records)
        elif records:
            self._hubs.call(functools.partial(_log, records))

    def end(self, ended: threading.Event) -> None:
        """Set ``ended``, after everything else."""
        if self._hubs is None:
            ended.set()
        else:
            self._hubs.call(ended.set)
            self._hubs.release()


class Told:
    """A sink that only notes that it was told."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def deliver(self, ended: object) -> None:
        """Note it."""
        self._event.set()


def _log(records: list[Record]) -> None:
    for level, message, arguments in records:
        _logger.log(level, message, *arguments)
