"""What multiprocessing's locks and semaphores are made of, waited for in the hub.

Thread: any thread or greenlet of a patched worker; a native thread for each lock that is waited
for.
Guarantees: within a process, a lock is granted in the order in which it was asked for; a permit is
never lost: one that was obtained for a waiter that has given up goes to the next.

Greenlets and threads that wait stand in a queue of this process. For the first in it, a *prober*, a
native thread, waits in C, as a thread of any other process does. A release hands the permit to the
next in the queue at once. But if other processes wait, and the permit has stayed in this one for
some milliseconds, it is really released, so that they have their turns.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from typing import Any

from gevent import getcurrent

from ... import native
from . import probers, shield
from .probers import SLICE
from .waiters import Waiter, none_is_left, others_wait

_Semaphore: Any = import_module("_multiprocessing").SemLock
#: multiprocessing.synchronize's names for kinds.
_RECURSIVE_MUTEX, _SEMAPHORE = 0, 1
#: For how many seconds a process hands a permit on among its own, if others wait for it.
_TENURE = 0.01
#: For how many seconds a prober that nobody needs any more may keep what it got. It gives that back
#: as soon as it has a processor and the GIL.
_RECALL_SECONDS = 1.0

_new_mutex: Callable[[], Any] = native.original("_thread", "allocate_lock")
_monotonic = native.monotonic

# Raised in a child that was forked, whose copies of the queues are of no use.
_generation = 0


def _forked() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_forked)


class SharedLock:
    """Stands for ``_multiprocessing.SemLock`` in ``multiprocessing.synchronize``.

    The C object only counts permits: whose they are is known here, by greenlet.
    """

    SEM_VALUE_MAX = _Semaphore.SEM_VALUE_MAX

    def __init__(self, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> None:
        self._be(_Semaphore(_SEMAPHORE, value, maxvalue, name, unlink), kind)

    @classmethod
    def _rebuild(cls, handle: int, kind: int, maxvalue: int, name: str | None) -> SharedLock:
        return cls.around(_Semaphore._rebuild(handle, _SEMAPHORE, maxvalue, name), kind)

    @classmethod
    def around(cls, semaphore: Any, kind: int) -> SharedLock:
        """One that has this semaphore's permits."""
        made = cls.__new__(cls)
        made._be(semaphore, kind)
        return made

    def _be(self, semaphore: Any, kind: int) -> None:
        self.handle = semaphore.handle
        self.kind = kind
        self.maxvalue = semaphore.maxvalue
        self.name = semaphore.name
        self._get_value = semaphore._get_value
        self._is_zero = semaphore._is_zero
        self._take: Callable[..., bool] = semaphore.acquire
        self._give: Callable[[], None] = semaphore.release
        self._recursive = kind == _RECURSIVE_MUTEX
        # What this process has taken and not given back, and who was the last to take it.
        self._taken = 0
        self._holder: Any = None
        self._generation = -1
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._reset()

    def _reset(self) -> None:
        self._generation = _generation
        # Guards what follows; whoever has it neither waits nor runs code that is not ours.
        self._mutex = _new_mutex()
        # Invariant: while somebody waits, the prober is at work.
        self._waiting.clear()
        self._granted: dict[Waiter, None] = {}
        self._probed = False
        self._alone = False  # whether the prober has no other lock, and waits in C for this one
        self._probing = False  # whether it does so now
        # Who waits only until it has returned from there.
        self._leaving: dict[Waiter, None] = {}
        # Since when the permit has been handed on in this process.
        self._since = 0.0

    # -- what multiprocessing.synchronize uses ------------------------------------------------

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take a permit, or the lock once more if it is recursive and ours."""
        me = getcurrent()
        block = block and (timeout is None or timeout > 0)
        if self._recursive and self._taken and self._holder is me:
            self._taken += 1
            return True
        if block:
            taken = (not self._waiting and self._take(False)) or self._wait(timeout)
        else:
            taken = self._take(False) or (self._recall() and self._take(False))
        if not taken:
            return False
        self._holder = me
        self._taken += 1
        return True

    def release(self) -> None:
        """Give a permit back."""
        if self._recursive:
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._taken > 1:
                self._taken -= 1
                return
        # Once it is given back, somebody else counts.
        self._taken -= 1
        if self._waiting and self._hand_on():
            return
        try:
            self._give()
        except BaseException:
            self._taken += 1
            raise
        self._recall()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _is_mine(self) -> bool:
        return self._taken > 0 and self._holder is getcurrent()

    def _count(self) -> int:
        return self._taken

    def _after_fork(self) -> None:
        self._taken = 0

    def listen(self, timeout: float | None, missed: list[None]) -> bool:
        """Take a permit that is a signal to those who wait, and who are counted: it is used up, and
        not for the next, if it has come for somebody who is stopped; ``missed`` gets an element
        then. None is on its way any more to somebody who has left."""
        if not self._waiting and self._take(False):
            return True
        return self._wait(timeout, missed)

    # -- the queue ----------------------------------------------------------------------------

    def _wait(self, timeout: float | None, missed: list[None] | None = None) -> bool:
        if self._generation != _generation:
            self._reset()
        deadline = None if timeout is None else _monotonic() + timeout
        me = Waiter(deadline)
        with self._mutex:
            self._waiting[me] = None
            self._have_probed()
        try:
            while True:
                left = None if deadline is None else deadline - _monotonic()
                if left is None or left > 0:
                    me.sleep(left)
                with self._mutex:
                    if me.granted:
                        del self._granted[me]
                        return True
                    if left is not None and left <= 0 and missed is None:
                        del self._waiting[me]
                        return False
                if left is not None and left <= 0:
                    return self._settle(me)
        except BaseException:
            if missed is None:
                self._leave(me)
            elif self._settle(me):
                missed.append(None)
            raise

    def _settle(self, me: Waiter) -> bool:
        """Wait no longer, as soon as no permit can be on its way; whether one has come."""
        with self._mutex:
            if me in self._waiting:
                self._leaving[me] = None
        with shield.Shield():
            while me in self._leaving:
                me.sleep(None)
        with self._mutex:
            return self._granted.pop(me, me) is None

    def _leave(self, me: Waiter) -> None:
        """It was stopped: what it was given is for the next."""
        with self._mutex:
            self._waiting.pop(me, None)
            unused = self._granted.pop(me, me) is None
            following = self._grant() if unused else None
        if following is not None:
            following.wake()
        elif unused:
            self._give()

    def _grant(self) -> Waiter | None:
        """Who gets a permit that there is."""
        if not self._waiting:
            return None
        following = self._waiting.popitem(last=False)[0]
        following.granted = _monotonic()
        self._granted[following] = None
        return following

    def _hand_on(self) -> bool:
        """Give a permit of this process's to who waits here, if it is not the turn of others."""
        if self._generation != _generation:
            self._reset()
            return False
        # What others have taken, as with a semaphore that is a signal, is anybody's.
        if self._taken < 0:
            return False
        with self._mutex:
            now = _monotonic()
            if not self._since:
                self._since = now
            elif now - self._since > _TENURE and others_wait(self.handle, self._probing):
                self._since = 0.0
                return False
            following = self._grant()
        if following is None:
            return False
        following.wake()
        return True

    def _recall(self) -> bool:
        """Let the prober give back what it gets for nobody, for who does not wait; whether it may
        have got something."""
        if not self._probed or not self._alone:
            return False
        end = _monotonic() + _RECALL_SECONDS
        while self._probed and not self._waiting and _monotonic() < end:
            # Others are waiting, or have taken it: the prober will not get it now.
            if others_wait(self.handle, True) or none_is_left(self.handle):
                break
            native.sleep(0.00005)
        return True

    # -- the prober ---------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._waiting)

    @property
    def unclaimed(self) -> bool:
        """Whether there are permits that those who waited have not come for."""
        return bool(self._granted)

    def _have_probed(self) -> None:
        if not self._probed:
            self._probed = True
            self._slice = self._next_slice()
            self._alone = probers.start(self)

    def probe(self, wait: bool) -> bool:
        """Try to get a permit for the first that waits; whether to try again."""
        self._probing = wait
        got = self._take(wait, self._slice)
        self._probing = False
        with self._mutex:
            following = self._grant() if got else None
            if following is not None:
                self._since = following.granted
            elif got:
                self._give()
            leaving, self._leaving = self._leaving, {}
            for one in leaving:
                self._waiting.pop(one, None)
            late = not got and self._take_back()
            # It takes nothing while nobody waits: those who count must find what is there.
            goes_on = self._probed = bool(self._waiting)
            self._slice = self._next_slice()
        for waiter in (following, *leaving):
            if waiter is not None:
                waiter.wake()
        if late:
            native.sleep(SLICE)
        return goes_on

    def reclaim(self) -> None:
        """Give back the permits that have been unclaimed for long."""
        with self._mutex:
            self._take_back()

    def _take_back(self) -> bool:
        """Give permits back that nobody has come for, since a hub does not run: they may be of use
        to another process. Whether there were any."""
        late = False
        for waiter in list(self._granted):
            if _monotonic() - waiter.granted < SLICE:
                break
            late = True
            del self._granted[waiter]
            waiter.granted = 0.0
            self._waiting[waiter] = None
            self._waiting.move_to_end(waiter, last=False)
            self._give()
        if late:
            self._have_probed()
        return late

    def _next_slice(self) -> float:
        """A prober that returns when the first has waited long enough keeps it no longer."""
        first = next(iter(self._waiting), None)
        if first is None or first.deadline is None:
            return SLICE
        return min(SLICE, max(0.001, first.deadline - _monotonic()))
