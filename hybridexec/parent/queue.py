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

from .. import native
from . import bundles, exits
from .batch import Batch
from .futures import CallFuture
from .pool import Pool

#: Events handled before the pipes are looked at again.
_MAX_EVENTS = 10_000


class Queue:
    """Two deques, and a pipe that wakes the I/O thread."""

    def __init__(self) -> None:
        # New calls come before events: none comes after a shutdown, or after its own cancellation.
        self.submitted: deque[Batch | CallFuture[Any]] = deque()
        self.events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        # Invariant: set only while the I/O thread is, or is about to be, waiting in poll.
        self.asleep = False
        #: What becomes readable when the thread is to wake up.
        self.fd = -1
        self._wake_fd = -1
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
        """Have ``poller`` wait for it; on the thread that starts the I/O thread."""
        self.fd, self._wake_fd = os.pipe()
        for fd in (self.fd, self._wake_fd):
            os.set_blocking(fd, False)
        exits.keep_from_children(self.fd, self._wake_fd)
        poller.register(self.fd, native.Poller.READABLE)

    def awake(self) -> None:
        """The thread has been woken: it can be woken again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def handle(self, pool: Pool) -> None:
        """Tell the pool of new calls, and handle events."""
        submitted, events = self.submitted, self.events
        # Only those: one that comes after the last look at what was submitted may be about a call
        # that came after it, too.
        count = min(len(events), _MAX_EVENTS)
        end = len(submitted) - _MAX_EVENTS
        while submitted and len(submitted) > end:
            pool.submit(bundles.take_batch(submitted))
        for _ in range(0 if submitted else count):
            event, arguments = events.popleft()
            event(*arguments)

    def close(self) -> None:
        """The thread ends."""
        wake_fd, self._wake_fd = self._wake_fd, -1
        exits.close(self.fd, wake_fd)
