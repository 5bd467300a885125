"""Those that wait for a lock: greenlets and threads of this process, and other processes.

Thread: any thread or greenlet of a patched worker, and the locks' probers.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent._waiter import Waiter as _HubWaiter

from ... import native
from . import shield

_new_lock: Callable[[], Any] = native.original("_thread", "allocate_lock")


class Waiter:
    """Somebody in the queue."""

    __slots__ = ("_bell", "_hub", "_waiter", "deadline", "granted")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        #: When it was given the permit, if it was.
        self.granted = 0.0
        self._hub = hub = get_hub_if_exists()
        if hub is not None:
            self._waiter: _HubWaiter[None] = _HubWaiter(hub)
        else:
            self._bell = _new_lock()
            self._bell.acquire()

    def wake(self) -> None:
        """Have it look."""
        hub = self._hub
        if hub is None:
            if self._bell.locked():
                self._bell.release()
        elif hub is get_hub_if_exists():
            hub.loop.run_callback(self._waiter.switch, None)
        else:
            hub.loop.run_callback_threadsafe(self._waiter.switch, None)

    def sleep(self, seconds: float | None) -> None:
        """Until it is woken, or the time is up."""
        hub = self._hub
        if hub is None:
            self._bell.acquire(timeout=-1 if seconds is None else max(0.0, seconds))
            return
        timer: Any
        if seconds is not None:
            timer = hub.loop.timer(max(0.0, seconds))
            timer.start(self._waiter.switch, None)
        else:
            # A hub's loop ends if it has nothing to wait for: a thread's, or a worker's before its
            # first call, or that of a process forked there.
            timer = hub.loop.timer(3600.0, 3600.0)
            timer.start(lambda: None)
        try:
            shield.pause(self._waiter)
            self._waiter.clear()
        finally:
            timer.close()


def others_wait(handle: int, prober: bool) -> bool:
    """Whether another process waits for a semaphore, as the C library notes beside its value; true
    if it does not tell."""
    return _look(handle) >> 32 > prober


def none_is_left(handle: int) -> bool:
    """Whether somebody waits for a semaphore, and for good reason: it has no permits. True if the C
    library does not tell."""
    state = _look(handle)
    return state >> 32 > 0 and not state & 0xFFFF_FFFF


def _look(handle: int) -> int:
    global _peek
    if _peek is None:
        _peek = _peeker()
    return _peek(handle)


_peek: Callable[[int], int] | None = None


def _peeker() -> Callable[[int], int]:
    glibc = None
    with contextlib.suppress(ValueError, OSError):
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    if glibc is None or sys.maxsize < 2**32:
        return lambda handle: 2 << 32
    import ctypes  # takes long; only locks that are fought for need it

    read = ctypes.c_uint64.from_address
    return lambda handle: read(handle).value
