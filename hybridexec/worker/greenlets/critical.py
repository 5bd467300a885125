"""Critical sections of greenlets: where nothing may be raised in a call from outside.

Thread: main, in the signal handler that interrupts a call, and in the hub, when it is about to
raise in one that waits.
Guarantees: as :mod:`hybridexec.worker.critical` says, which knows those of a call that has the CPU.

A call that waits has its locks in order, except where it waits to release one, or to take it again
after ``Condition.wait``, and where it has been notified and does not know yet: the notification
would be lost to others that wait for it.

Our own code, or what we have mended, marks such sections by a :class:`.shield.Shield`, which also
delays what is raised while it waits.
"""

from __future__ import annotations

from types import CodeType, FrameType
from typing import Any

from .. import critical
from . import shield

#: Besides those of the standard library, packages that are made of locks.
_LOCKS = critical.LOCKS | {"gevent"}

is_at_call, is_unseen = critical.is_at_call, critical.is_unseen


def is_running(frame: FrameType, end: FrameType | None) -> bool:
    """Whether the current greenlet's call is in a critical section, in ``frame``; its first is the
    one that ``end`` called."""
    return critical.is_running(frame, end, _LOCKS) or shield.is_up()


def is_waiting(greenlet: Any, end: CodeType) -> bool:
    """Whether a call is in a critical section that waits in ``greenlet``, which runs ``end``."""
    at: FrameType | None = greenlet.gr_frame
    while at is not None and at.f_code is not end:
        code = at.f_code
        if code.co_name in critical.GIVE_BACK and critical.is_method(code):
            return True
        if code.co_name == "wait" and at.f_globals.get("__name__") == "threading":
            waiter = at.f_locals.get("waiter")
            if waiter is not None and not waiter.locked():
                return True
        at = at.f_back
    return False
