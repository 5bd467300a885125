"""The helper thread: it reads and writes a worker's pipes while a call keeps the main thread from
doing so.

Thread: its own, a native one even where gevent has patched threading.
Guarantees: while a call hogs the CPU, results leave and a cancellation is heard within some
milliseconds; no user code runs in this thread; the end of the bell, which means that the parent is
gone, ends the process at once.

It sleeps most of the time: the main thread reads and writes without it, and waking two threads for
each frame would only slow both down. The parent wakes it by the bell, when it has sent something
urgent, and the main thread does when it leaves something to be written. After that it looks every
few milliseconds for a while, because more of the kind is likely to follow.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import native
from .inbound import Inbound
from .outbox import Outbox

if TYPE_CHECKING:
    from .lane import Lane

#: Milliseconds between two looks while there may be something to do.
_TICK_MS = 8
#: Seconds for which it goes on looking after there was something.
_LINGER = 0.05
#: Seconds after which the lane insists again on stopping what keeps the main thread.
_INSIST_SECONDS = 0.05

_READABLE = 1  # select.POLLIN


class Helper:
    """Reads and writes what the main thread does not get to."""

    def __init__(self, bell_fd: int) -> None:
        self._bell_fd = bell_fd
        self._called_fd, self._call_fd = os.pipe()
        for fd in (self._called_fd, self._call_fd):
            os.set_blocking(fd, False)
        self._sleeps = False

    def call(self) -> None:
        """Have it look within milliseconds; for any thread."""
        if self._sleeps:
            self._sleeps = False
            os.write(self._call_fd, b"c")

    def run(self, lane: Lane, inbound: Inbound, outbox: Outbox) -> None:
        """Look after the pipes; the thread runs this."""
        poller = native.original("select", "poll")()
        poller.register(self._bell_fd, _READABLE)
        poller.register(self._called_fd, _READABLE)
        awake_until = listen_until = insist_at = 0.0
        while True:
            if native.monotonic() < awake_until:
                ready = poller.poll(_TICK_MS)
            else:
                self._sleeps = True
                # What was put in before that has called nobody.
                busy = outbox.pending or outbox.holding or lane.is_stopping
                ready = poller.poll(_TICK_MS if busy else None)
                self._sleeps = False
            now = native.monotonic()
            lane.end_turn()
            if ready:
                awake_until = now + _LINGER
                if any(fd == self._bell_fd for fd, _ in ready):
                    listen_until = awake_until
            if now < listen_until:
                # Before anything else: to get the GIL back from a call that keeps it takes
                # milliseconds, and each system call here gives it away.
                while inbound.read_aside():
                    listen_until = awake_until = native.monotonic() + _LINGER
            if lane.is_stopping and now >= insist_at:
                insist_at = now + _INSIST_SECONDS
                if lane.insist():
                    listen_until = awake_until = insist_at + _LINGER
            for fd, _ in ready:
                if not os.read(fd, 4096):
                    os._exit(1)  # the parent is gone
            if outbox.holding:
                awake_until = now + _LINGER
                outbox.hurry(now)
            if outbox.pending:
                awake_until = now + _LINGER
                outbox.write()
