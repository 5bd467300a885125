"""The worker's event loop, and what the shared half needs of it.

Thread: main.
Guarantees: there is one loop for the process's life. It is made and closed as ``asyncio.run`` would
do that: at the end, tasks that are left are cancelled and waited for, asynchronous generators and
the default executor's threads ended. What is called back for us runs in no call's context.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any

_runner: asyncio.Runner | None = None


def prepare() -> None:
    """Have ``asyncio`` do in this process what later versions do by default."""
    if sys.version_info < (3, 12):
        import os

        # Children are waited for by a pidfd: not by a thread for each, nor by a signal handler.
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def make(factory: Callable[[], Any] | None) -> MainLoop:
    """Make the process's loop.

    Args:
        factory: makes it; None for uvloop's, if that is installed, else asyncio's own.
    """
    global _runner
    _runner = asyncio.Runner(loop_factory=factory or _default_factory())
    asyncio.set_event_loop(_runner.get_loop())
    return MainLoop()


def _default_factory() -> Callable[[], Any]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], Any] = uvloop.new_event_loop
    return factory


def current() -> asyncio.AbstractEventLoop:
    """The process's loop."""
    assert _runner is not None
    return _runner.get_loop()


def close() -> None:
    """Close the loop, as ``asyncio.run`` does at its end."""
    global _runner
    assert _runner is not None
    _runner.close()
    _runner = None


class MainLoop:
    """The process's loop, as the outbox needs it."""

    def __init__(self) -> None:
        self._loop = current()
        self._context = Context()

    def run_callback(self, callback: Callable[[], None], /) -> object:
        """As :meth:`.Loop.run_callback`."""
        return self._loop.call_soon(callback, context=self._context)

    def io(self, fd: int, events: int, /) -> _Descriptor:
        """As :meth:`.Loop.io`."""
        return _Descriptor(self._loop, self._context, fd, events)

    def timer(self, after: float, /) -> _Timer:
        """As :meth:`.Loop.timer`."""
        return _Timer(self._loop, self._context, after)


class _Descriptor:
    """Calls back whenever a descriptor is ready."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: Context, fd: int, events: int
    ) -> None:
        self._fd, self._context = fd, context
        writes = events == 2
        self._add: Callable[..., object] = loop.add_writer if writes else loop.add_reader
        self._remove: Callable[[int], object] = loop.remove_writer if writes else loop.remove_reader
        self.active = False

    def start(self, callback: Callable[[], None], /) -> None:
        """As :meth:`.Watcher.start`."""
        self.active = True
        self._context.run(self._add, self._fd, callback)

    def stop(self) -> None:
        """As :meth:`.Watcher.stop`."""
        if self.active:
            self.active = False
            self._remove(self._fd)


class _Timer:
    """Calls back once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context, after: float) -> None:
        self._loop, self._context, self._after = loop, context, after
        self._handle: asyncio.TimerHandle | None = None

    @property
    def active(self) -> bool:
        """As :attr:`.Watcher.active`."""
        return self._handle is not None

    def start(self, callback: Callable[[], None], /) -> None:
        """As :meth:`.Watcher.start`."""
        self._handle = self._loop.call_later(
            self._after, self._fire, callback, context=self._context
        )

    def _fire(self, callback: Callable[[], None]) -> None:
        self._handle = None
        callback()

    def stop(self) -> None:
        """As :meth:`.Watcher.stop`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
