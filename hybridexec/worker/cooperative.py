"""Make multiprocessing's locks, queues and proxies wait cooperatively in a patched worker.

Runs on: the main thread installs, once, when it has patched and before user code; greenlets call.

gevent's patching stops at multiprocessing's edge. A lock waits in C with the hub inside it, so a
greenlet that waits for one held by its neighbour would wait for ever. A connection made from a
patched socket has a non-blocking descriptor, whose plain ``os.read`` and ``os.write`` fail with
BlockingIOError. A manager's proxies keep a connection per OS thread, which all greenlets share, so
that their messages would mix. All three are mended here, in this process only: what a lock, queue
or proxy means to other processes is unchanged. Threads without a hub wait as they always did. And a
greenlet that forks would wait for one that submits to a ThreadPoolExecutor.

What is mended is loaded by few programs, so it is mended when it is imported.
"""

from __future__ import annotations

import gc
import io
import os
import selectors
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from typing import Any

import gevent
from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import is_module_patched
from gevent.socket import wait_read, wait_write

from .late import after_import

#: What the kernel takes without blocking once it says that a descriptor is writable.
_ATOMIC_WRITE = 4096
_MAX_READ = 1024 * 1024
#: Seconds between tries for a lock: another process's release wakes nobody here.
_FIRST_PAUSE, _LAST_PAUSE = 0.0005, 0.02

_RECURSIVE_MUTEX = 0  # multiprocessing.synchronize's name for it


def install() -> None:
    """Mend multiprocessing, if this process's threads are greenlets."""
    if not is_module_patched("threading"):
        return
    after_import("concurrent.futures.thread", _mend_thread_pools)
    util.ForkAwareLocal = _fork_aware_local()  # type: ignore[misc]  # a class in place of another
    after_import("multiprocessing.connection", _mend_connections)
    after_import("multiprocessing.synchronize", _mend_locks)
    after_import("multiprocessing.queues", _mend_queues)


def _mend_thread_pools(thread: Any) -> None:
    # Who forks waits for the lock that was there when the module was imported, in a hook that does
    # not look here again: whoever uses it from now on gets another. (gevent sees to that itself
    # where it looks for locks that are held, and imports the module to do so.)
    thread._global_shutdown_lock = threading.Lock()


def _mend_connections(connection: Any) -> None:
    connection.Connection._send = _send
    connection.Connection._recv = _receive
    connection._WaitSelector = selectors.DefaultSelector


def _mend_locks(synchronize: Any) -> None:
    synchronize.SemLock._make_methods = _make_methods
    synchronize.SemLock.__enter__ = lambda self: self.acquire()
    synchronize.SemLock.__exit__ = lambda self, *error: self.release()
    # In a forked worker there may be some that the parent made.
    for kind in (synchronize.SemLock, synchronize.Condition):
        for found in _existing(kind):
            found._make_methods()


def _mend_queues(queues: Any) -> None:
    # One that a forked worker inherited waits with locks from before the patching.
    for found in _existing(queues.Queue):
        found._reset()


def _existing(kind: type) -> list[Any]:
    # Not isinstance(): it looks at an attribute, and a module that is to be loaded when it is first
    # looked at would be.
    return [value for value in gc.get_objects() if issubclass(type(value), kind)]


def _fork_aware_local() -> Any:
    """multiprocessing's own class, made again from the patched ``local``: one per greenlet."""

    class ForkAwareLocal(threading.local):
        def __init__(self) -> None:
            util.register_after_fork(self, lambda local: local.__dict__.clear())

        def __reduce__(self) -> tuple[Any, ...]:
            return type(self), ()

    return ForkAwareLocal


def _send(self: Any, data: Any, write: Callable[[int, Any], int] = os.write) -> None:
    view = memoryview(data)
    fd = self._handle
    step = _ATOMIC_WRITE if os.get_blocking(fd) else len(view)
    while view:
        _wait(wait_write, fd)
        try:
            view = view[write(fd, view[:step]) :]
        except BlockingIOError:
            continue


def _receive(self: Any, size: int, read: Callable[[int, int], bytes] = os.read) -> io.BytesIO:
    received = io.BytesIO()
    missing = size
    while missing:
        _wait(wait_read, self._handle)
        try:
            data = read(self._handle, min(missing, _MAX_READ))
        except BlockingIOError:
            continue
        if not data:
            if missing == size:
                raise EOFError
            raise OSError("got end of file during message")
        received.write(data)
        missing -= len(data)
    return received


def _wait(wait: Callable[[int], None], fd: int) -> None:
    if get_hub_if_exists() is not None:
        wait(fd)


def _make_methods(lock: Any) -> None:
    """Give a lock or semaphore an ``acquire`` and ``release`` that wait in the hub."""
    semaphore = lock._semlock
    try_acquire: Callable[..., bool] = semaphore.acquire
    recursive = semaphore.kind == _RECURSIVE_MUTEX
    # The greenlet that holds a recursive lock: in C its holder is the thread, which is all of them.
    holder: Any = None

    def acquire(block: bool = True, timeout: float | None = None) -> bool:
        nonlocal holder
        if get_hub_if_exists() is None:
            return try_acquire(block, timeout)
        me = getcurrent()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_PAUSE
        while True:
            free = not recursive or holder is me or semaphore._count() == 0
            if free and try_acquire(False):
                holder = me
                return True
            if not block:
                return False
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                pause = min(pause, left)
            gevent.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)

    def release() -> None:
        nonlocal holder
        if recursive and holder not in (None, getcurrent()):
            raise AssertionError("attempt to release recursive lock not owned by thread")
        if recursive and semaphore._count() == 1:
            holder = None
        semaphore.release()

    lock.acquire = acquire
    lock.release = release
