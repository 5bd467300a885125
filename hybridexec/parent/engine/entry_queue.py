"""What other threads want of the I/O thread: new calls, and events for it to handle.

Runs on: any thread puts in; the I/O thread takes out, and sleeps until there is something.
Guarantees: putting in never blocks, and wakes the thread only if it sleeps; what was put in is
seen. For the thread says that it sleeps before it looks whether there is anything: if it has found
nothing, whoever puts something in after that finds it asleep.
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
        # No event comes before the calls that were submitted before it: no call comes after a
        # shutdown, or its own cancellation. But events do not wait for calls that come later.
        self.submitted: deque[Batch | CallFuture[Any]] = deque()
        self.events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        # How many of the events are due, and of what was submitted, how much comes before them.
        self._due = self._before_due = 0
        # Invariant: set only while the I/O thread is, or is about to be, waiting in poll.
        self.asleep = False
        #: What becomes readable when the thread is to wake up.
        self.fd = -1
        self._wake_fd = -1
        # A reentrant one: what interrupts its holder may put something in.
        self._waking = native.new_lock()
        self._inert = False

    def submit(self, calls: Batch | CallFuture[Any]) -> None:
        """Put in new calls, or one."""
        self.submitted.append(calls)
        if self.asleep:
            self._wake()

    def post(self, event: Callable[..., None], *arguments: Any) -> None:
        """Have the I/O thread call ``event``."""
        if not self._inert:
            self.events.append((event, arguments))
            if self.asleep:
                self._wake()

    def _wake(self) -> None:
        self.asleep = False
        try:
            with self._waking:
                os.write(self._wake_fd, b"w")
        except OSError:
            pass  # the pipe is full, or closed
        except BaseException:
            self.asleep = True  # Ctrl-C: it may sleep on, for the next one to wake
            raise

    def become_inert(self) -> None:
        """This process is a fork: nobody takes anything out."""
        self._inert = True
        self.submitted.clear()
        self.events.clear()

    # -- on the I/O thread --------------------------------------------------------------------

    def open(self, poller: native.Poller) -> None:
        """Have ``poller`` wait for it; on the thread that starts the I/O thread, again if that was
        interrupted before."""
        self.close()
        self.fd, self._wake_fd = os.pipe()
        lifecycle.keep_from_children(self.fd, self._wake_fd)
        for fd in (self.fd, self._wake_fd):
            os.set_blocking(fd, False)
        poller.register(self.fd, native.Poller.READABLE)

    def awake(self) -> None:
        """The thread has been woken: it can be woken again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def handle(self, pool: Pool) -> None:
        """Tell the pool of new calls, and handle events."""
        submitted, events = self.submitted, self.events
        if not self._due:
            # In this order: what one of these events is about was submitted before it.
            self._due = len(events)
            self._before_due = len(submitted)
        left = _MAX_CALLS
        while submitted and left > 0:
            first = submitted[0]
            batch = coalescing.take_batch(submitted)
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

    def close(self) -> None:
        """Nothing wakes the thread any more."""
        fd, self.fd = self.fd, -1
        # Not while another thread is writing to it: the number may be another file's right after.
        with self._waking:
            wake_fd, self._wake_fd = self._wake_fd, -1
            lifecycle.close(fd, wake_fd)
