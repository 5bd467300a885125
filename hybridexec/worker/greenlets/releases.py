"""Has locks that another thread releases wake the greenlets that wait for them: gevent's, before
26.8, do not.

Thread: main installs it, before there are calls; then it runs in whichever thread releases a lock.
Guarantees: a greenlet that waits for a ``threading.Lock`` or ``RLock``, or for the lock of a module
that is being imported, goes on when another thread than its own releases that.

No thread can switch to another's greenlets: those gevents try it, fail, and leave the greenlet
where it is until somebody in its own thread releases the lock the next time, which for a module's
lock is never. Calls have such threads by gevent's thread pool; and the helper thread is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import gevent.lock
import gevent.thread  # type: ignore[import-not-found]  # they have no types

from ... import native

#: The first gevent that does this itself.
_FIXED = (26, 8)


def install() -> None:
    """Mend the locks of this process, if they need it."""
    if tuple(map(int, gevent.__version__.split(".")[:2])) >= _FIXED:
        return
    plain: Any = gevent.thread.LockType
    recursive: Any = gevent.lock.RLock
    plain.release = _waking(plain.release, lambda lock: lock)
    plain.__exit__ = _leave  # theirs is compiled, and would not find ours
    for name in ("release", "_release_save"):  # the other: when a condition is waited for
        setattr(recursive, name, _waking(getattr(recursive, name), lambda lock: lock._block))


def _leave(lock: Any, *error: object) -> None:
    lock.release()


def _waking(release: Callable[[Any], Any], semaphore_of: Callable[[Any], Any]) -> Any:
    ident: Callable[[], int] = native.original("_thread", "get_ident")
    main: Any = gevent.get_hub()

    def release_and_wake(lock: Any) -> Any:
        semaphore = semaphore_of(lock)
        last = semaphore.hub  # of who waited last: the release forgets it
        released = release(lock)
        if semaphore.linkcount():
            for hub in {main, last}:
                if hub is not None and hub.thread_ident != ident() and hub.loop is not None:
                    hub.loop.run_callback_threadsafe(_look, semaphore)
        return released

    return release_and_wake


def _look(semaphore: Any) -> None:
    """Have those woken that wait for it, if it is free; in the hub."""
    semaphore.rawlink(_nothing)  # to add one is to look
    semaphore.unlink(_nothing)


def _nothing(semaphore: object) -> None:
    pass
