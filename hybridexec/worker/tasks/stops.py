"""Stops calls that are cancelled or whose time is up.

Thread: main; the methods under "from who reads the call pipe" also on the helper thread: they touch
only deques, by single operations, which the GIL makes atomic.
Guarantees: what stops a call is raised in that call only, and once, because then it may be cleaning
up. A ``CancelledError`` of the call's own making is no stop: neither one that it raises, nor that
of a task or a timeout of its own.

A call that waits is stopped as any task is: ``Task.cancel()`` has asyncio raise where it waits, in
the tasks that it waits for, too. One that keeps the loop is interrupted (see :mod:`.interrupts`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from ..inbox import Inbox


class StopCall(asyncio.CancelledError):
    """Raised in a call that was cancelled and keeps the loop."""


class CallExpired(asyncio.CancelledError):
    """Raised in a call whose time is up and that keeps the loop."""


#: How a call is stopped.
Stop = type[StopCall] | type[CallExpired]


class Stops:
    """Stops the calls that :class:`.calls.Calls` runs."""

    def __init__(self, tasks: Mapping[int, asyncio.Task[None]], inbox: Inbox) -> None:
        """
        Args:
            tasks: those of calls that wait, or have waited.
            inbox: where the calls are that have not started.
        """
        self._tasks = tasks
        self._inbox = inbox
        # How running calls were stopped, and whether by cancelling their tasks.
        self._told: dict[int, tuple[Stop, bool]] = {}
        # What the main thread is to see to.
        self._cancelled: deque[tuple[list[int], bool]] = deque()
        self._expired: deque[int] = deque()

    # -- on the main thread -----------------------------------------------------------------------

    def look(self) -> None:
        """See to what the call pipe has brought."""
        while self._cancelled:
            calls, running = self._cancelled[0]
            for call in calls:
                if call in self._tasks:
                    self._inbox.dropped.discard(call)
                    if running:
                        self.stop(call, StopCall)
            self._inbox.forget_dropped()
            self._cancelled.popleft()
        while self._expired:
            self.stop(self._expired.popleft(), CallExpired)

    def stop(self, call: int, how: Stop) -> None:
        """Stop a call that waits."""
        task = self._tasks.get(call)
        if task is not None and not self.is_told(call, how):
            self._told[call] = how, True
            task.cancel()

    def raised(self, call: int) -> BaseException | None:
        """What has been raised in a call, which runs, to stop it; None if nothing has."""
        told = self._told.get(call)
        return None if told is None else told[0]()

    def interrupted(self, call: int, how: Stop) -> None:
        """A call that keeps the loop is about to have this raised."""
        self._told[call] = how, False

    def is_told(self, call: int, how: Stop) -> bool:
        """Whether there is no need to stop a call so. One whose time is up can still be
        cancelled."""
        told, _ = self._told.get(call, (None, False))
        return told is how or (told is not None and how is CallExpired)

    def what_ended(self, call: int, error: BaseException) -> Stop | None:
        """What of ours has ended the current task's call, which has raised ``error``; None if it
        was nothing of ours."""
        told = self._told.get(call)
        if told is None or not isinstance(error, asyncio.CancelledError):
            return None
        how, by_cancelling = told
        task = asyncio.current_task()
        if by_cancelling and task is not None and not task.cancelling():
            return None  # it has taken that back, and raised another
        return how

    def forget(self, call: int) -> None:
        """A call has ended: it may run here again."""
        if self._told:
            self._told.pop(call, None)

    # -- from who reads the call pipe -------------------------------------------------------------

    def cancel(self, calls: list[int], running: bool) -> None:
        """Drop those calls that have not started; with ``running``, stop those that have.

        :meth:`look` must follow.
        """
        self._inbox.drop(calls)
        self._cancelled.append((calls, running))

    def expire(self, call: int) -> None:
        """Stop a call whose time is up, unless it has been told.

        :meth:`look` must follow.
        """
        self._expired.append(call)

    @property
    def pending(self) -> bool:
        """Whether there may be something to stop that keeps the loop from it."""
        return bool(self._cancelled or self._expired)

    def wanted(self, call: int) -> Stop | None:
        """How a running call is to be stopped that the main thread has not got to; None if it is
        not."""
        if call in self._expired and not self.is_told(call, CallExpired):
            return CallExpired
        for calls, running in list(self._cancelled):
            if running and call in calls and not self.is_told(call, StopCall):
                return StopCall
        return None
