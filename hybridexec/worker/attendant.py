"""The worker's native thread: it sees to the pipes while a call keeps the hub from doing so.

Runs on: its own thread, a real one, whatever gevent patched.
Guarantees: while a call hogs the CPU, a result leaves and a cancellation is heard within some
milliseconds; no user code runs in the thread; the end of the bell, which means that the parent is
gone, ends the process at once.

Mostly it sleeps: the hub reads and writes without it, and two threads that woke for each frame
would be in each other's way. It is woken by the parent, which rings the bell when it has sent
something that cannot wait for the hub, and by the hub, when it leaves something to be written. Then
it looks up every few milliseconds for a while, because more of that kind is likely to follow.
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
#: Seconds after which what keeps the hub from a cancellation is interrupted again, if it has not
#: been.
_INSIST_SECONDS = 0.05

_READABLE = 1  # select.POLLIN


class Attendant:
    """Reads and writes what the hub does not."""

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
                ready = poller.poll(_TICK_MS if outbox.pending or lane.is_stopping else None)
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
            if outbox.pending:
                awake_until = now + _LINGER
                outbox.write()
