"""Mends multiprocessing's locks, conditions and queues, so that calls wait for them in the hub, and
may be stopped meanwhile.

Thread: whichever imports them first mends them, before it gets them; any thread or greenlet of a
patched worker uses them.
Guarantees: a call that is stopped leaves nothing half done: a condition's lock is taken again, its
sleepers are counted right, a queue's room is given back.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from queue import Full
from typing import Any

from .locks import SharedLock
from .shield import Shield, apart

# Locks from before a fork, in C and as we see them. Each pair has one semaphore, which the first to
# go would close.
_inherited: list[tuple[Any, Any]] = []


def mend_locks(synchronize: Any) -> None:
    """Mend ``multiprocessing.synchronize``."""
    # All that it uses of this module from here on.
    synchronize._multiprocessing = _Module
    condition = synchronize.Condition
    condition.wait = _wait
    condition.notify = _undisturbed(condition.notify)
    # In a forked worker there may be some that the parent made.
    for found in _existing(synchronize.SemLock):
        found._semlock = _adopt(found._semlock)
        found._make_methods()
    for found in _existing(condition):
        found._make_methods()


def mend_values(sharedctypes: Any) -> None:
    """Mend ``multiprocessing.sharedctypes``."""
    for found in _existing(sharedctypes.SynchronizedBase):
        found.acquire, found.release = found._lock.acquire, found._lock.release


def mend_queues(queues: Any) -> None:
    """Mend ``multiprocessing.queues``."""
    queue, joinable = queues.Queue, queues.JoinableQueue
    queue.get = _undisturbed(queue.get, begun=False)
    queue.put, joinable.put = _put, _put_joinable
    reset, start = queue._reset, queue._start_thread

    def reset_and_trust(self: Any, *arguments: Any, **named: Any) -> None:
        reset(self, *arguments, **named)
        # Whoever notifies has it. To find that out gevent would give way, where none must.
        self._notempty._is_owned = lambda: True

    queue._reset = reset_and_trust
    # The feeder serves all calls that put something.
    queue._start_thread = lambda self: apart(functools.partial(start, self))
    # One that a forked worker inherited waits with locks from before the patching.
    for found in _existing(queue):
        found._reset()


class _Module:
    SemLock = SharedLock


def _adopt(semaphore: Any) -> Any:
    twin = type(semaphore)._rebuild(semaphore.handle, 1, semaphore.maxvalue, None)
    _inherited.append((semaphore, twin))
    return SharedLock.around(twin, semaphore.kind)


def _existing(kind: type) -> list[Any]:
    # Not isinstance(): it looks at an attribute, and a module that is to be loaded when it is first
    # looked at would be.
    return [value for value in gc.get_objects() if issubclass(type(value), kind)]


def _undisturbed(operation: Callable[..., Any], begun: bool = True) -> Callable[..., Any]:
    """An operation that is not stopped, once it has begun, before it is over."""

    @functools.wraps(operation)
    def undisturbed(*arguments: Any, **named: Any) -> Any:
        with Shield(begun):
            return operation(*arguments, **named)

    return undisturbed


def _wait(self: Any, timeout: float | None = None) -> bool:
    """``Condition.wait``; as in the standard library, but that nothing stops it as it takes the
    lock again."""
    assert self._lock._semlock._is_mine(), "must acquire() condition before using wait()"
    self._sleeping_count.release()
    count = self._lock._semlock._count()
    for _ in range(count):
        self._lock.release()
    missed: list[None] = []
    try:
        return bool(self._wait_semaphore._semlock.listen(timeout, missed))
    finally:
        with Shield():
            self._woken_count.release()
            for _ in range(count):
                self._lock.acquire()
            if missed:
                self.notify()  # somebody else


def _put(self: Any, obj: Any, block: bool = True, timeout: float | None = None) -> None:
    """``Queue.put``; as in the standard library, but for what is done if it is stopped."""
    _take_room(self, block, timeout)
    try:
        with self._notempty:
            _append(self, obj)
            self._notempty.notify()
    except BaseException:
        self._sem.release()
        raise


def _put_joinable(self: Any, obj: Any, block: bool = True, timeout: float | None = None) -> None:
    """``JoinableQueue.put``, likewise."""
    _take_room(self, block, timeout)
    try:
        with self._notempty, self._cond:
            _append(self, obj)
            self._unfinished_tasks.release()
            self._notempty.notify()
    except BaseException:
        self._sem.release()
        raise


def _take_room(queue: Any, block: bool, timeout: float | None) -> None:
    if queue._closed:
        raise ValueError(f"Queue {queue!r} is closed")
    if not queue._sem.acquire(block, timeout):
        raise Full


def _append(queue: Any, obj: Any) -> None:
    if queue._thread is None:
        queue._start_thread()
    queue._buffer.append(obj)
