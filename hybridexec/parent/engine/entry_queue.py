"""The way in to the I/O thread: new calls, and events for it to handle.

Thread: any thread puts in; the I/O thread takes out, and sleeps while there is nothing.
Guarantees: putting in never blocks, and wakes the I/O thread only if it sleeps. Nothing is missed:
the I/O thread sets ``asleep`` before it checks the deques, so whoever puts something in after that
check finds ``asleep`` set, and wakes it. Whoever puts in calls when the I/O thread may have ended
finds that out afterwards: it has taken them, or they are missed.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from ... import native
from .. import lifecycle
from ..pool.pool import Pool
from ..work.batch import Batch
from ..work.future import CallFuture
from . import coalescing

#: Calls and events handled before the pipes are looked at again, however many come meanwhile.
_MAX_CALLS = _MAX_EVENTS = 10_000


class EntryQueue:
    """Two deques, and a pipe that wakes the I/O thread."""

    def __init__(self) -> None:
        # An event is handled after the calls that were submitted before it, so no call arrives
        # after a shutdown or its own cancellation. Events do not wait for calls submitted later.
        self.submitted: deque[Batch | CallFuture[Any]] = deque()
        self.events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        # How many events are due, and how many of the submitted calls come before them.
        self._due = self._before_due = 0
        # Invariant: set only while the I/O thread is, or is about to be, waiting in poll.
        self.asleep = False
        #: Becomes readable to wake the I/O thread.
        self.fd = -1
        self._wake_fd = -1
        # Reentrant: a signal handler or finalizer that interrupts its holder may put something in.
        self._lock = native.new_lock()
        self._over = False  # nothing is taken any more; guarded by _lock
        self._inert = False

    def submit(self, calls: Batch | CallFuture[Any]) -> None:
        """Put in new calls, or one."""
        self.submitted.append(calls)
        if self.asleep:
            self._wake()

    def has_missed(self, calls: Batch | CallFuture[Any]) -> bool:
        """Whether calls were put in when nothing was taken any more."""
        with self._lock:
            return self._over and calls in self.submitted

    def post(self, event: Callable[..., None], *arguments: Any) -> None:
        """Have the I/O thread call ``event``."""
        if not self._inert:
            self.events.append((event, arguments))
            if self.asleep:
                self._wake()

    def nudge(self) -> None:
        """Have the I/O thread take a turn."""
        self.post(_nothing)

    def _wake(self) -> None:
        self.asleep = False
        try:
            with self._lock:
                os.write(self._wake_fd, b"w")
        except OSError:
            pass  # the pipe is full, or closed
        except BaseException:
            self.asleep = True  # Ctrl-C: it may still sleep, and whoever comes next wakes it
            raise

    def become_inert(self) -> None:
        """This process is a fork, and has no I/O thread: drop everything, and ignore events."""
        self._inert = True
        self.submitted.clear()
        self.events.clear()

    # -- on the I/O thread --------------------------------------------------------------------

    def open(self, poller: native.Poller) -> None:
        """Have ``poller`` wait for the pipe. Called on the thread that starts the I/O thread, and
        again if an earlier start was interrupted."""
        self.close()
        self.fd, self._wake_fd = os.pipe()
        lifecycle.keep_from_children(self.fd, self._wake_fd)
        for fd in (self.fd, self._wake_fd):
            os.set_blocking(fd, False)
        poller.register(self.fd, native.Poller.READABLE)

    def awake(self) -> None:
        """The I/O thread has been woken: empty the pipe, so that it can be woken again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def handle(self, pool: Pool) -> None:
        """Tell the pool of new calls, and handle events."""
        submitted, events = self.submitted, self.events
        if not self._due:
            # In this order: the calls that an event is about were submitted before it.
            self._due = len(events)
            self._before_due = len(submitted)
        left = _MAX_CALLS
        now = native.monotonic() if submitted else 0.0
        while submitted and left > 0:
            first = submitted[0]
            batch = coalescing.take_batch(submitted)
            batch.since = now
            taken = 1 if batch is first else batch.size
            left -= taken
            self._before_due -= taken
            pool.submit(batch)
        if self._before_due > 0:
            return
        for _ in range(min(self._due, _MAX_EVENTS)):
            self._due -= 1
            event, arguments = events.popleft()
            event(*arguments)

    def ends(self) -> bool:
        """Whether nothing is left; if so, nothing is taken any more."""
        with self._lock:
            self._over = not (self.submitted or self.events)
        return self._over

    def close(self) -> None:
        """Close the pipe: nothing wakes the I/O thread any more."""
        fd, self.fd = self.fd, -1
        # Not while another thread is writing: the number may be reused for another file at once.
        with self._lock:
            wake_fd, self._wake_fd = self._wake_fd, -1
            lifecycle.close(fd, wake_fd)


def _nothing() -> None:
    pass
