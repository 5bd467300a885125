"""Gives each call a wakeup descriptor of its own: ``signal.set_wakeup_fd``.

Thread: main, as part of :mod:`.signals`; loaded when a call first sets one.
Guarantees: a call that has set a descriptor reads from it the numbers of the signals that its
handlers get, and of those that are handled for the process; several calls can do so at once.

The event loops of asyncio and trio learn of signals that way. A process has one such descriptor, so
of several loops the last one would get it, and trio warns when it finds another's.
"""

from __future__ import annotations

import os

from .signals import Owner, Signals
from .signals import set_wakeup_fd as _set


class Wakeups:
    """The descriptors of a worker's calls."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._fds: dict[Owner | None, int] = {}

    def set_fd(self, fd: int, warn_on_full_buffer: bool) -> int:
        """As ``signal.set_wakeup_fd``."""
        self._forget_ended()
        # It refuses what is wrong.
        before = _set(fd, warn_on_full_buffer=warn_on_full_buffer)
        _set(-1)
        if before != -1:  # from before there were calls
            self._fds.setdefault(None, before)
        owner = self._signals.owner()
        before = self._fds.pop(owner, -1)
        if fd != -1:
            self._fds[owner] = fd
        return before

    def wake(self, owner: Owner | None, number: int) -> None:
        """A handler of this call is about to get a signal, or the process's."""
        self._forget_ended()
        for who in list(self._fds):
            if owner is not None and who != (owner if owner in self._fds else None):
                continue
            try:
                os.write(self._fds[who], bytes([number]))
            except OSError:
                pass  # it is full, then its reader looks; or closed

    def _forget_ended(self) -> None:
        for who in [who for who in self._fds if who is not None and not self._signals.runs(who)]:
            del self._fds[who]
