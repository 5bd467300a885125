"""Who reads a worker's results: the I/O thread, or for a moment the caller that waits for them.

In a program that waits for each of its calls, the I/O thread would be woken twice a call for
nothing. So the caller sends such a call itself (:mod:`.inline_calls`), and the thread that waits
for it, the *leader*, reads the answer.

Thread: turn holder.

States::

    IO_THREAD ──begin──▶ LEADER ──rest──▶ NOBODY
        ▲                  │ ▲──begin──────┤
        └───give_back──────┴───────────────┘

- ``IO_THREAD``: the poller reports all workers' results to the I/O thread.
- ``LEADER``: it does not report those of one worker, the *led* one. A caller waits for these,
  without the turn, for two milliseconds at most.
- ``NOBODY``: it does not report them either, and nobody waits for them just now.

Who moves it:

- The waiter of an inline call, to ``LEADER``, if that is the only unfinished call, and the I/O
  thread sleeps and is watching (wakes up now and then). If it is awake, it may be handling the
  outcome already.
- The leader, when it has read: to ``NOBODY`` if the I/O thread sleeps and nothing is unfinished,
  else to ``IO_THREAD``. If more calls have come meanwhile, it reads nothing.
- The I/O thread, each time it wakes up: to ``IO_THREAD``, unless a leader's time is not up.
- The turn holder that handles the end of the led worker: from ``NOBODY`` to ``IO_THREAD``. (In
  ``LEADER``, the leader finds that out when it reads.)

Why no result is left unread:

- In ``IO_THREAD``, the poller is level-triggered: it reports everything unread, however old.
- In ``LEADER``, the leader moves on within its time. If Ctrl-C ends it before that, the I/O thread
  finds that the time is up: while any worker is led, it wakes up four times a second.
- In ``NOBODY``, no call was unfinished when the state was entered, so what comes later is the
  answer to a call that was sent later. If the I/O thread sent it, it was awake and has moved to
  ``IO_THREAD``. If a caller did, its waiter leads. If it has no waiter, but somebody asks whether
  it is done, or adds a callback, that wakes the I/O thread
  (:meth:`.inline_calls.InlineCalls.follow`); and if nobody asks, the I/O thread wakes up within a
  quarter of a second.
- A leader that finds the I/O thread awake gives back, because that thread may have seen
  ``LEADER`` when it woke up, and may send the led worker a call next. A leader that leaves calls
  unfinished, or the pool about to end, gives back and wakes the I/O thread. Otherwise the I/O
  thread sleeps on: the next call will most likely have a waiter, too.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ... import native
from .link import Link


class Reading(enum.Enum):
    """Who reads the led worker's results. See the module's docstring."""

    IO_THREAD = "the I/O thread"
    LEADER = "a caller"
    NOBODY = "nobody, for now"


class Leader:
    """The state; keeps the poller's registrations in line with it."""

    def __init__(self, connections: Mapping[int, Link]) -> None:
        """
        Args:
            connections: the workers', by number.
        """
        self._connections = connections
        self.reading = Reading.IO_THREAD
        #: The led worker; None in IO_THREAD, and in LEADER if it has ended.
        # Invariant: the one whose results the poller does not report.
        self.worker: int | None = None
        self._until = 0.0  # in LEADER, when the leader's time is up

    def open(self, poller: native.Poller) -> None:
        """Use ``poller``, which the I/O thread waits with."""
        self._poller = poller

    @property
    def led(self) -> bool:
        """Whether some worker's results are left to callers."""
        return self.reading is not Reading.IO_THREAD

    @property
    def connection(self) -> Link | None:
        """The led worker's, if there may be something to read from it."""
        connection = None if self.worker is None else self._connections.get(self.worker)
        return None if connection is None or connection.broken else connection

    def begin(self, worker: int, seconds: float) -> int | None:
        """Have a caller read the worker's results, for ``seconds`` at most.

        Returns:
            The descriptor to wait for; :meth:`rest` or :meth:`give_back` must follow. None if the
            worker has ended or somebody leads already.
        """
        connection = self._connections.get(worker)
        now = native.monotonic()
        if connection is None or connection.broken or self._leads(now):
            return None
        begun = self.worker == worker
        if not begun:
            self.give_back()
        self._until = now + seconds
        self.reading = Reading.LEADER
        self.worker = worker
        if not begun:
            self._poller.modify(connection.results_fd, 0)
        return connection.results_fd

    def rest(self) -> None:
        """The leader has read; the next to read is another one, or the I/O thread when it wakes
        up."""
        self.reading = Reading.IO_THREAD if self.worker is None else Reading.NOBODY

    def give_back(self) -> None:
        """The I/O thread reads all results again."""
        connection = self.connection
        if connection is not None:
            self._poller.modify(connection.results_fd, native.Poller.READABLE)
        self.worker = None
        self.reading = Reading.IO_THREAD  # last: after Ctrl-C before this, all of it is repeated

    def lose(self, worker: int) -> None:
        """A worker has ended."""
        if self.worker == worker:
            self.worker = None
            if self.reading is Reading.NOBODY:
                self.reading = Reading.IO_THREAD

    def awake(self, now: float) -> None:
        """The I/O thread has woken up."""
        if self.led and not self._leads(now):
            self.give_back()

    def _leads(self, now: float) -> bool:
        """Whether a caller is reading, and its time is not up."""
        return self.reading is Reading.LEADER and now <= self._until
