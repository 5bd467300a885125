"""Ties a ``gevent.Timeout`` to the call that started it, and keeps it out of critical sections.

Thread: main, in the hub. A runner is one greenlet that runs many calls, so a timeout must remember
for which of them it was started, not only in which greenlet.
Guarantees: a timeout that a call left running hits no other call; one that expires while its
greenlet waits in a critical section (see :mod:`.critical`) is raised after it. Those that gevent
starts for a wait of its own, such as a lock's, belong to that wait: they are raised when due.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import gevent
from gevent import getcurrent
from gevent.timeout import Timeout

from . import critical

#: Seconds between two looks at a greenlet that waits in a critical section.
_PAUSE = 0.005

_start = Timeout.start
_expire = Timeout._on_expiration  # type: ignore[attr-defined]  # private


def install(
    call_of: Callable[[object], int], wear: Callable[[Any], None], run_code: CodeType
) -> None:
    """Bind timeouts to the call that starts them.

    Args:
        call_of: tells the call that a greenlet runs; 0 if it runs none.
        wear: notes that something is raised in a runner from outside.
        run_code: what runners run.
    """

    def start(self: Any) -> None:
        self.call = call_of(getcurrent())
        _start(self)

    def expire(self: Any, target: Any, error: Any) -> None:
        if call_of(target) != self.call:
            return
        if not self._one_shot:
            if critical.is_waiting(target, run_code):
                self.timer.close()
                self.timer = gevent.get_hub().loop.timer(_PAUSE)
                self.timer.start(self._on_expiration, target, error)
                return
            if self.call:
                wear(target)
        _expire(self, target, error)

    Timeout.start = start  # type: ignore[method-assign]  # that is the purpose
    Timeout._on_expiration = expire  # type: ignore[attr-defined]  # private
