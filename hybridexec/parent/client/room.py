"""Room for submitted calls: ``max_pending`` of them may be unfinished at once.

Thread: any.
Guarantees: who waits for room gets it in turn, threads, which block, and coroutines, which do not.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from ... import native
from ..work import mailbox

T = TypeVar("T")


class Turn(Protocol):
    """Who waits: a lock, or a letter to an event loop."""

    def release(self) -> None:
        """There is room."""


class Room:
    """One executor's."""

    def __init__(self, size: int) -> None:
        # Native and reentrant: held for a few steps, which a finalizer may interrupt.
        self._lock = native.new_lock()
        self._free = size
        # Invariant: empty if there are free places.
        self._waiting: deque[Turn] = deque()
        self._own = threading.local()

    def take(self) -> bool:
        """Take a place, or the one that the calling thread spends; False if there is none."""
        if getattr(self._own, "kept", False):
            self._own.kept = False
            return True
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def wait(self) -> None:
        """Take a place, and block until there is one."""
        turn = threading.Lock()
        turn.acquire()
        if self.queue(turn):
            return
        try:
            native.wait(lambda seconds: turn.acquire(timeout=seconds), None)
        except BaseException:
            self.withdraw(turn)
            raise

    def queue(self, turn: Turn) -> bool:
        """Take a place, or have ``turn`` released when it has one; returns whether it was taken."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            self._waiting.append(turn)
            return False

    def withdraw(self, turn: Turn) -> None:
        """Who has queued does not want a place any more, and may have got it."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self.leave()

    def leave(self) -> None:
        """Free a place."""
        with self._lock:
            turn = self._waiting.popleft() if self._waiting else None
            if turn is None:
                self._free += 1
        if turn is not None:
            turn.release()
            mailbox.deliver()

    def spend(self, submit: Callable[[], T]) -> T:
        """Call ``submit``, which may take the place that the caller has got; if it does not, that
        is free again."""
        self._own.kept = True
        try:
            return submit()
        finally:
            if self._own.kept:
                self._own.kept = False
                self.leave()
