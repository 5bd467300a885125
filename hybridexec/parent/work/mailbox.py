"""Wakes coroutines when what they wait for has come: once for many that it comes to together.

To wake an event loop from another thread takes as long as ten calls. So who brings something puts a
letter into the loop's mailbox, and the loop is woken when the first letter lies there; it empties
the box in one go.

Thread: any puts in; the loop's empties it.
Guarantees: a loop whose box has letters in it was woken, or is about to be; letters for a loop that
was closed are dropped. :meth:`Letter.release` makes no container and runs nothing of the user's, so
it may be called under a lock; who has called it calls :func:`deliver` when he holds none.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a program without asyncio does not load it
    from asyncio import AbstractEventLoop, Future

#: Boxes that have got letters, and whose loops are to be woken.
due: deque[Mailbox] = deque()


class Mailbox:
    """A loop's."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self._letters: deque[Future[None]] = deque()
        # Invariant: set if the loop was woken, or is due, and has not begun to empty the box.
        self._woken = False

    def put(self, waiter: Future[None]) -> None:
        """``waiter``, a future of the loop, is to have a result; :func:`deliver` sees to that."""
        self._letters.append(waiter)
        if not self._woken:
            self._woken = True
            due.append(self)

    def wake(self) -> None:
        """Have the loop empty the box."""
        loop = self.loop()
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._empty)
            except RuntimeError:
                self._letters.clear()  # it was closed, and letters would keep it alive

    def _empty(self) -> None:
        self._woken = False  # first: what is put in from now on wakes the loop again
        while self._letters:
            waiter = self._letters.popleft()
            if not waiter.done():
                waiter.set_result(None)


class Letter:
    """Has a future of a loop get its result."""

    __slots__ = ("_mailbox", "waiter")

    def __init__(self, loop: AbstractEventLoop) -> None:
        """
        Args:
            loop: the one that runs in this thread.
        """
        self._mailbox = of(loop)
        #: The future.
        self.waiter: Future[None] = loop.create_future()

    def release(self) -> None:
        """As a lock that is released: see :mod:`.future`."""
        self._mailbox.put(self.waiter)


def deliver() -> None:
    """Wake the loops that have got letters; the caller holds no lock."""
    while due:
        try:
            mailbox = due.popleft()
        except IndexError:
            return  # another thread was faster
        mailbox.wake()


_own = threading.local()


def of(loop: AbstractEventLoop) -> Mailbox:
    """The mailbox of the loop that runs in this thread."""
    mailbox: Mailbox | None = getattr(_own, "mailbox", None)
    if mailbox is None or mailbox.loop() is not loop:
        mailbox = _own.mailbox = Mailbox(loop)
    return mailbox
