"""Support for a gevent-patched parent: keep its hubs running, and deliver outcomes in one of them.

Thread: threads that submit or wait call :meth:`Hubs.hold`; the I/O thread calls the rest.

A hub whose greenlets all wait, with nothing in its own loop to wait for, raises LoopExit: it cannot
know that a native thread is going to resolve a future. So each such hub gets a watcher in its loop
for as long as the engine runs. And a native thread must not touch gevent's locks, which futures
have in such a process: outcomes are delivered by greenlets of the hub that started the engine.
This module uses the gevent that the parent has loaded, and loads none.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from ... import native


class Hubs:
    """The parent's hubs that wait for one engine."""

    def __init__(self) -> None:
        self._gevent: Any = sys.modules["gevent"]
        self._lock = native.original("_thread", "allocate_lock")()
        # Invariant: guarded by _lock; empty once released.
        self._watchers: dict[Any, Any] = {}
        self._released = False
        self._home: Any = None
        self._calls: deque[Callable[[], None]] = deque()
        self._callers: set[Any] = set()  # the greenlets that run them

    def hold(self) -> None:
        """Keep the calling thread's hub running until :meth:`release`."""
        hub = self._gevent.get_hub()
        with self._lock:
            if self._released or hub in self._watchers:
                return
            self._home = self._home or hub
            watcher = self._watchers[hub] = hub.loop.async_()
            watcher.start(self._woken, watcher)

    def call(self, function: Callable[[], None]) -> None:
        """Have a greenlet of the home hub call ``function``; called on the I/O thread."""
        with self._lock:
            watcher = None if self._home.loop is None else self._watchers.get(self._home)
            if watcher is not None:
                self._calls.append(function)
                watcher.send()
        if watcher is None:  # that hub's thread has ended
            function()

    def give_way(self) -> None:
        """Let other greenlets run; in one that runs such a function."""
        self._gevent.sleep(0)

    def is_caller(self) -> bool:
        """Whether the current greenlet is one that runs such a function."""
        return self._gevent.getcurrent() in self._callers

    def release(self) -> None:
        """Let the hubs go, after the functions that were to be called."""
        with self._lock:
            self._released = True
            watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            watcher.send()  # each is closed by its own hub

    def _woken(self, watcher: Any) -> None:
        if self._gevent.get_hub() is self._home:
            while self._calls:
                self._gevent.spawn(self._run, self._calls.popleft())
        if self._released:
            watcher.close()

    def _run(self, function: Callable[[], None]) -> None:
        me = self._gevent.getcurrent()
        self._callers.add(me)
        try:
            function()
        finally:
            self._callers.discard(me)
