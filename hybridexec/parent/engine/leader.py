"""Who reads a worker's results: the I/O thread, or for a moment the caller that waits for them.

A program that waits for each of its calls would wake the I/O thread twice a call for nothing. So
the caller sends such a call itself (:mod:`.inline_calls`), and the thread that waits for it, the
*leader*, reads the answer.

Thread: the turn holder. (The turn is the engine's lock: see :mod:`.engine`.)

States::

    IO_THREAD ──begin──▶ LEADER ──rest──▶ NOBODY
        ▲                  │ ▲──begin──────┤
        └───give_back──────┴───────────────┘

- ``IO_THREAD``: the poller tells the I/O thread of all results.
- ``LEADER``: it does not tell of one worker's, the led one's. A caller waits for these, without the
  turn, for two milliseconds at most.
- ``NOBODY``: it does not tell of them either, and nobody waits for them just now.

Who moves it:

- The waiter of a call, to ``LEADER``, if its caller has sent that call itself, it is the only
  unfinished one, and the I/O thread sleeps, but looks up now and then. (Awake, the I/O thread may
  have the outcome in hand already.)
- The leader, when it has read: to ``NOBODY`` if the I/O thread sleeps and nothing is unfinished,
  else to ``IO_THREAD``. If more calls have come meanwhile, it reads nothing.
- The I/O thread, each time it wakes up: to ``IO_THREAD``, unless a leader's time is not up.
- Who hears that the led worker has ended: from ``NOBODY`` to ``IO_THREAD``. (A leader finds out.)

Why no result is left unread:

- In ``IO_THREAD``, the poller tells of everything that has come, also of what came before.
- In ``LEADER``, the leader moves on within its time. If Ctrl-C ends it before that, the I/O thread
  finds that the time is up: while anything is led, it looks up four times a second.
- In ``NOBODY``, no call was unfinished when the state was entered, so what comes later is the
  answer to a call that was sent later. If the I/O thread sent it, it was awake and has moved to
  ``IO_THREAD``. If a caller did, its waiter leads. If it has no waiter, but somebody asks whether
  it is done, or has a callback added, that wakes the I/O thread
  (:meth:`.inline_calls.InlineCalls.follow`); and if nobody asks, the I/O thread looks up soon.
- A leader that finds the I/O thread awake gives back, because that thread may have found somebody
  leading when it woke up, and may send the led worker a call next. One that leaves something
  unfinished, or the pool about to end, gives back and wakes the I/O thread. Otherwise the I/O
  thread sleeps on: the next call will most likely have a waiter, too.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ... import native
from .connection import Connection


class Reading(enum.Enum):
    """Who reads the led worker's results. See the module's docstring."""

    IO_THREAD = "the I/O thread"
    LEADER = "a caller"
    NOBODY = "nobody, for now"


class Leader:
    """The state, and what the poller has to know of it."""

    def __init__(self, connections: Mapping[int, Connection]) -> None:
        """
        Args:
            connections: the workers', by number.
        """
        self._connections = connections
        self.reading = Reading.IO_THREAD
        #: The led worker; None in IO_THREAD, and in LEADER if it has ended.
        # Invariant: the one whose results the poller does not tell of.
        self.worker: int | None = None
        self._until = 0.0  # in LEADER, when the leader's time is up

    def open(self, poller: native.Poller) -> None:
        """Have ``poller`` tell of results, or not."""
        self._poller = poller

    @property
    def led(self) -> bool:
        """Whether some worker's results are left to callers."""
        return self.reading is not Reading.IO_THREAD

    @property
    def connection(self) -> Connection | None:
        """The led worker's, if there may be something to read from it."""
        connection = None if self.worker is None else self._connections.get(self.worker)
        return None if connection is None or connection.broken else connection

    def begin(self, worker: int, seconds: float) -> int | None:
        """A caller reads the worker's results, for so many seconds: the descriptor to wait for, or
        None if that cannot be. Then :meth:`rest` must follow, or :meth:`give_back`."""
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
        """The leader has read; the next one will, or the I/O thread when it wakes up."""
        self.reading = Reading.IO_THREAD if self.worker is None else Reading.NOBODY

    def give_back(self) -> None:
        """The I/O thread reads all results again."""
        connection = self.connection
        if connection is not None:
            self._poller.modify(connection.results_fd, native.Poller.READABLE)
        self.worker = None
        self.reading = Reading.IO_THREAD  # last: if Ctrl-C comes before, all this is done again

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
