"""The operating system's own primitives, whatever gevent has patched.

Used by: both sides. The parent's I/O thread and the worker's attendant must be real
threads that block for real, also in a process where ``gevent.monkey`` replaced ``threading``,
``select`` and ``time``.
Guarantees: never imports gevent; asks it for the originals only where it is loaded already.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

#: Longest time, in seconds, that a thread waits for a lock without looking up.
#: A signal that comes just before the wait does not end it: Ctrl-C would have no effect till then.
SLICE = 0.5
#: The system counts a poll's milliseconds in 31 bits.
_LONGEST = 3600.0


def _held(clock: Callable[[], float]) -> Callable[[], float]:
    """``clock``, in something that is not the same object: libraries that freeze the time for tests
    put one of theirs in its place in all modules. The system's is told from theirs."""
    if not isinstance(clock, BuiltinFunctionType):
        clock = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return functools.partial(clock)


#: ``time.monotonic``, also where that stands still.
monotonic = _held(time.monotonic)


def original(module: str, name: str) -> Any:
    """Return ``module.name`` as it was before gevent patched it (or as it is, if it never did)."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(importlib.import_module(module), name)
    return monkey.get_original(module, name)


#: ``time.sleep``, for real: also where a test has put something else in its place.
sleep: Callable[[float], None] = functools.partial(original("time", "sleep"))

#: ``os.close``, at once: that of gevent makes a hub, or has one, and closes when that gets to it,
#: which in a thread that never lets it run is never.
close: Callable[[int], None] = original("os", "close")


def is_patched(module: str) -> bool:
    """Whether gevent has patched ``module`` in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def new_lock() -> Any:
    """A reentrant lock, which knows its owner."""
    return original("_thread", "RLock")()


def ident() -> int:
    """Which thread this is."""
    number: int = original("_thread", "get_ident")()
    return number


def open_standard_descriptors() -> None:
    """Have descriptors 0 to 2 open, be it to nowhere. A process that was started without them would
    give these numbers to what it opens next, and its children would write their output there."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def wait(ended: Callable[[float], bool], seconds: float | None) -> bool:
    """Call ``ended`` with a time to wait, up to :data:`SLICE`, until it returns true or ``seconds``
    are over; whether it did."""
    end = None if seconds is None else monotonic() + seconds
    while True:
        left = SLICE if end is None else max(0.0, min(end - monotonic(), SLICE))
        if ended(left):
            return True
        if end is not None and monotonic() >= end:
            return False


def start_thread(target: Callable[[], None], name: str, deaf: bool = False) -> None:
    """Run ``target`` in an OS thread that never keeps the process alive.

    Where threading is patched, ``threading.Thread`` would be a greenlet: a bare thread is used
    instead. Where it is not, a real ``Thread`` has a name that debuggers and profilers show.

    Args:
        deaf: whether all signals are blocked in it. One that the user's threads have blocked, to
            wait for it, would come to this one else. Not for threads that may start programs,
            which would inherit that.
    """
    if deaf:
        import signal  # those who need none need not load it

        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        if is_patched("threading"):
            original("_thread", "start_new_thread")(target, ())
        else:
            threading = importlib.import_module("threading")
            threading.Thread(target=target, name=name, daemon=True).start()
    finally:
        if deaf:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def resident_bytes(pid: int) -> int | None:
    """The memory a process has in RAM, in bytes; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


#: Bytes of a block that glibc, having freed one, takes for usual.
_USUAL_BLOCK = 16 * 1024 * 1024


@functools.cache  # once: the next such block would come from the heap, and be written to
def keep_freed_memory() -> None:
    """Have freed memory kept for what is allocated next, up to some ten megabytes of it.

    By default glibc gives the end of its heap back to the system when 128 KiB are free there, and
    faults it in again, page by page, for the next payload: half of the time that a megabyte takes,
    or nothing, as the heap happens to look. It learns from what is freed (mallopt(3), on
    M_MMAP_THRESHOLD); this block costs microseconds, because none of its pages is touched. Other
    C libraries pay no heed.
    """
    bytes(_USUAL_BLOCK)


class Poller:
    """Waits for descriptors, with the best the system has for it."""

    READABLE, WRITABLE = 1, 4  # POLLIN and POLLOUT, and epoll's names for them

    def __init__(self) -> None:
        try:
            #: Whether changes take effect at once for a thread that is waiting already.
            self.live = True
            self._poll: Any = original("select", "epoll")()
        except AttributeError:  # it is Linux's own
            self.live = False
            self._poll = original("select", "poll")()
        self.register = self._poll.register
        self.modify = self._poll.modify

    def unregister(self, fd: int) -> None:
        """Wait for ``fd`` no more, if it was waited for."""
        try:
            self._poll.unregister(fd)
        except (KeyError, FileNotFoundError):
            pass

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """The descriptors that are ready, as soon as some are or ``seconds`` have passed, or an
        hour."""
        if seconds is not None:
            seconds = min(seconds, _LONGEST)
            if not self.live:
                seconds *= 1000
        ready: list[tuple[int, int]] = self._poll.poll(seconds)
        return ready

    def close(self) -> None:
        """Let go of the system's part."""
        if self.live:
            self._poll.close()
