"""Keeps the hub running until the parent says stop.

Thread: main, in the hub; :meth:`Service.wake` and :meth:`Service.stop` on any thread.
Guarantees: after each :meth:`Service.wake`, the hub looks; its heartbeat goes on unless a call
keeps the hub.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
from gevent.exceptions import LoopExit

from ..vitals import BEAT_SECONDS


class Service:
    """The hub's watchers."""

    def __init__(self, look: Callable[[], None], beat: Callable[[], None]) -> None:
        """
        Args:
            look: sees to what has come; it must take :attr:`woken` back, and call :meth:`end` if it
                finds :attr:`stopping`.
            beat: shows that the hub runs.
        """
        self._look = look
        self._beat = beat
        self._loop = gevent.get_hub().loop
        self._async = self._loop.async_()
        self._watchers: list[Any] = [self._async]
        self._ended = gevent.event.Event()
        #: Whether the hub was told to look and has not done so yet.
        self.woken = False
        #: Whether the parent has said stop.
        self.stopping = False

    def run(self, calls_fd: int, on_readable: Callable[[], None]) -> None:
        """Have the hub look when it is told to, and call ``on_readable`` when ``calls_fd`` is
        readable, until :meth:`end`."""
        self._async.start(self._look)
        arrivals = self._loop.io(calls_fd, 1)
        arrivals.start(on_readable)
        heartbeat = self._loop.timer(0, BEAT_SECONDS, ref=False)
        heartbeat.start(self._beat, update=True)
        self._watchers += [arrivals, heartbeat]
        # For what arrived before the watchers were started. Not wake(): it thinks that the hub has
        # been told already, but nobody was there to hear it.
        self._loop.run_callback(self._look)
        while not self._ended.is_set():
            try:
                self._ended.wait()
            except LoopExit:
                raise  # there is no loop any more
            except BaseException:
                # The end of a greenlet of the user's, whose parent is the main one: it is nobody's.
                traceback.print_exc()
        for watcher in self._watchers:
            watcher.close()

    def wake(self) -> None:
        """Have the hub look."""
        if not self.woken:
            self.woken = True
            self._async.send()

    def stop(self) -> None:
        """The parent says stop; the hub must look."""
        self.stopping = True

    def end(self) -> None:
        """End :meth:`run`; on the hub."""
        self._ended.set()
