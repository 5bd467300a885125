"""The operating system's own primitives, whatever gevent has patched.

The parent's I/O thread and the worker's helper thread must be native threads that really block,
even in a process where ``gevent.monkey`` has replaced ``threading``, ``select`` and ``time``.

Thread: any, on both sides.
Guarantees: never imports gevent; asks it for the originals only if it is loaded already.
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

#: The longest time, in seconds, that a thread waits for a lock before it checks for signals: one
#: that comes just before the wait does not end it, so Ctrl-C has no effect until then.
SLICE = 0.5
#: Seconds; poll() takes milliseconds of 31 bits.
_LONGEST = 3600.0


def _held(clock: Callable[[], float]) -> Callable[[], float]:
    """``clock``, wrapped in another object: libraries that freeze the time for tests replace the
    clock itself in all modules. If that has happened already, the system's clock instead."""
    if not isinstance(clock, BuiltinFunctionType):
        clock = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return functools.partial(clock)


#: ``time.monotonic``, even where a library has frozen that.
monotonic = _held(time.monotonic)


def original(module: str, name: str) -> Any:
    """``module.name`` as it was before gevent patched it (or as it is, if gevent did not)."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(importlib.import_module(module), name)
    return monkey.get_original(module, name)


#: ``time.sleep``, even where a test has replaced that.
sleep: Callable[[float], None] = functools.partial(original("time", "sleep"))

#: ``os.close``, which closes at once: gevent's needs a hub, and closes when that runs, which in a
#: thread that never switches to it is never.
close: Callable[[int], None] = original("os", "close")


def is_patched(module: str) -> bool:
    """Whether gevent has patched ``module`` in this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def new_lock() -> Any:
    """A native reentrant lock, which knows its owner."""
    return original("_thread", "RLock")()


def ident() -> int:
    """The current thread's id."""
    number: int = original("_thread", "get_ident")()
    return number


def open_standard_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that are closed, to the null device. Otherwise what this
    process opens next would get these numbers, and its children would write their output there."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def wait(ended: Callable[[float], bool], seconds: float | None) -> bool:
    """Call ``ended`` with a time to wait, up to :data:`SLICE`, until it returns true or ``seconds``
    are over; returns whether it did."""
    end = None if seconds is None else monotonic() + seconds
    while True:
        left = SLICE if end is None else max(0.0, min(end - monotonic(), SLICE))
        if ended(left):
            return True
        if end is not None and monotonic() >= end:
            return False


def start_thread(target: Callable[[], None], name: str, deaf: bool = False) -> None:
    """Run ``target`` in a native thread that does not keep the process alive.

    Where threading is patched, ``threading.Thread`` would be a greenlet, so a bare thread is used.
    Elsewhere it is a ``Thread``, whose name debuggers and profilers show.

    Args:
        deaf: whether all signals are blocked in it. A signal that the user's threads have blocked,
            to wait for it, would be delivered to this thread otherwise. Not for threads that may
            start programs, which would inherit the mask.
    """
    if deaf:
        import signal  # rarely needed

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


#: Size of a block that makes glibc raise its thresholds when it is freed.
_USUAL_BLOCK = 16 * 1024 * 1024


@functools.cache  # once: the next such block would come from the heap, and be touched
def keep_freed_memory() -> None:
    """Have glibc keep some ten megabytes of freed memory for later allocations.

    By default it gives the end of its heap back to the system when 128 KiB are free there, and
    faults the pages in again for the next payload, which takes up to half of the time that a
    megabyte takes, depending on the state of the heap. Its thresholds adapt to the blocks that are
    freed (mallopt(3), on M_MMAP_THRESHOLD); this block costs microseconds, because none of its
    pages is touched. With other C libraries this has no effect.
    """
    bytes(_USUAL_BLOCK)


class Poller:
    """Waits for descriptors, by epoll where there is one, else by poll."""

    READABLE, WRITABLE = 1, 4  # POLLIN and POLLOUT, and epoll's names for them

    def __init__(self) -> None:
        try:
            #: Whether changes affect a thread that is already waiting.
            self.live = True
            self._poll: Any = original("select", "epoll")()
        except AttributeError:  # it is Linux's own
            self.live = False
            self._poll = original("select", "poll")()
        self.register = self._poll.register
        self.modify = self._poll.modify

    def unregister(self, fd: int) -> None:
        """Wait for ``fd`` no more; does nothing if it is not registered."""
        try:
            self._poll.unregister(fd)
        except (KeyError, FileNotFoundError):
            pass

    def wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """Wait until a descriptor is ready or ``seconds`` have passed, an hour at most; returns the
        ready ones with their events."""
        if seconds is not None:
            seconds = min(seconds, _LONGEST)
            if not self.live:
                seconds *= 1000
        ready: list[tuple[int, int]] = self._poll.poll(seconds)
        return ready

    def close(self) -> None:
        """Close the epoll descriptor, if there is one."""
        if self.live:
            self._poll.close()
