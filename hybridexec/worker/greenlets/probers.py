"""Native threads that wait in C for multiprocessing's locks, on behalf of greenlets.

Thread: the greenlet that waits for a lock starts a prober, if the lock has none; main waits for
them when the process ends.
Guarantees: a process that ends normally takes no permit with it: a prober that nobody needs any
more has given back what it got. (At the end, a prober may still be at work for a thread that nobody
joins, just as that thread would be.)
"""

from __future__ import annotations

import os
from functools import partial
from multiprocessing import util
from typing import Any, Protocol

from ... import native

#: How many locks are waited for with a thread each. The others are tried now and then.
_MOST = 64
_PAUSE = 0.02
#: For how many seconds a prober waits until it looks whether it is still needed; a permit that
#: somebody does not come for in that time, because the hub is kept from running, is given back.
SLICE = 0.05
#: Among the finalizers of multiprocessing's, after those that join the queues' threads (-5).
_LAST = -100

# Locks whose probers run: those with a thread each, and the others. Each is there as often as it is
# probed: one begins while another ends.
_alone: list[Probed] = []
_others: list[Probed] = []
# Guards whether there is a thread for those.
_mutex: Any = native.original("_thread", "allocate_lock")()
_trying = False
# What has multiprocessing call us as the process ends.
_finalizer: Any = None


class Probed(Protocol):
    """A lock, as far as this module needs one."""

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it."""

    @property
    def unclaimed(self) -> bool:
        """Whether there are permits that those who waited have not come for."""

    def probe(self, wait: bool) -> bool:
        """Try to get a permit for the first that waits; whether to try again."""

    def reclaim(self) -> None:
        """Give back the permits that have been unclaimed for long."""


def _after_fork_in_child() -> None:
    global _mutex, _trying, _finalizer
    _alone.clear()
    _others.clear()
    _mutex = native.original("_thread", "allocate_lock")()  # it may have been held
    _trying = False
    _finalizer = None


os.register_at_fork(after_in_child=_after_fork_in_child)


def start(lock: Probed) -> bool:
    """Have a lock probed until nobody waits for it; whether in a thread that does nothing else."""
    global _trying, _finalizer
    if _finalizer is None:
        _finalizer = util.Finalize(None, _end, exitpriority=_LAST)
    if len(_alone) < _MOST:
        _alone.append(lock)
        native.start_thread(partial(_probe, lock), "hybridexec-prober", deaf=True)
        return True
    with _mutex:
        _others.append(lock)
        if not _trying:
            _trying = True
            native.start_thread(_probe_others, "hybridexec-prober", deaf=True)
    return False


def _probe(lock: Probed) -> None:
    while lock.probe(True):
        pass
    while lock.unclaimed:
        native.sleep(SLICE)
        lock.reclaim()
    _alone.remove(lock)


def _probe_others() -> None:
    global _trying
    while True:
        with _mutex:
            if not _others:
                _trying = False
                return
        for lock in list(_others):
            if not lock.probe(False):
                _others.remove(lock)
        native.sleep(_PAUSE)


def _end() -> None:
    """Wait for those that return at once, since nobody waits for what they might get."""
    while not all(lock.wanted for lock in [*_alone, *_others]):
        native.sleep(0.001)
