"""Decides what to do about calls that run on past their deadline, or after they were cancelled.

Thread: turn holder.
Guarantees: a call with a timeout ends within the grace period after its deadline, whatever its
worker does, and whether or not a caller still waits for it; a cancelled call that goes on after the
grace period is reported once. (Where calls run in threads, that costs its worker, see
:mod:`.recovery`.)

At a call's deadline the worker's hub stops it at the point where it waits. The status page, which
says when each running call started, shows whether that worked. If the call still runs:

1. after a third of the grace period, but 0.25 s at most, the worker is asked to interrupt it
   (Expire): if it keeps the CPU in Python code, a signal handler raises in it. A call that was
   stopped before is left alone, as it may be cleaning up;
2. after the grace period, its worker is killed if the call still has the CPU, or goes on although
   its hub is free. If another call blocks the hub, this one is a victim: it fails, and its worker
   lives on. Once the hub gets to it again, it has another grace period to end. Where calls
   share the CPU, as threads do, none of them is a victim: one that holds the GIL in C keeps all
   from going on, and which one that is, nobody knows. When their worker is killed, all whose time
   is up have timed out.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

from ...wire.page import SHARED
from .page import Page

#: A hub that has not ticked for so many seconds is blocked by a call; it ticks ten times a second.
HUB_LATE = 0.3
#: Longest time, in seconds, that a worker has to stop a late call by itself.
_PATIENCE = 0.25
#: Shortest time, in seconds, between two looks at a call that outlived its grace period.
_TICK = 0.05


class Step(enum.Enum):
    """What to do about a late call: interrupt it, give it up, kill its worker, or report it."""

    INTERRUPT = "interrupt"
    ABANDON = "abandon"
    KILL = "kill"
    REPORT = "report"


class Deadlines:
    """Those unanswered calls of one worker that have a timeout or were cancelled."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._patience = min(grace / 3, _PATIENCE)
        self._timeouts: dict[int, float] = {}
        self._interrupted: set[int] = set()
        # Calls that were given up as victims, and whose hub has been blocked since.
        self._victims: set[int] = set()
        # Cancelled calls that were not reported, with their arguments (at first also those that
        # have not started and will be dropped), and when they were first seen to run.
        self._cancelled: dict[int, tuple[Any, ...] | None] = {}
        self._seen: dict[int, float] = {}
        #: Cancelled or given up calls that went on after the grace period, with their arguments if
        #: these are known. Other threads count them.
        self.abandoned: dict[int, tuple[Any, ...] | None] = {}
        #: When to look next, in monotonic seconds.
        self.look_at = float("inf")

    def __bool__(self) -> bool:
        return bool(self._timeouts or self._cancelled)

    def add(self, call: int, timeout: float, now: float) -> None:
        """A call with a timeout is being sent."""
        self._timeouts[call] = timeout
        self.look_at = min(self.look_at, now + timeout + self._patience)

    def cancel(self, call: int, arguments: tuple[Any, ...] | None) -> None:
        """Watch a call that was cancelled. A report names it by ``arguments``, if there are any."""
        self._cancelled[call] = arguments
        self.look_at = 0.0  # at once, to note the time

    def disregard(self) -> None:
        """The worker is being killed, and nobody waits for the calls that it has."""
        self._timeouts.clear()
        self._cancelled.clear()

    def remove(self, call: int) -> None:
        """Forget a call that the worker does not have any more."""
        self._timeouts.pop(call, None)
        self._interrupted.discard(call)
        if self._cancelled or self.abandoned:
            self._cancelled.pop(call, None)
            self._seen.pop(call, None)
            self.abandoned.pop(call, None)
            self._victims.discard(call)

    def look(self, page: Page, now: float) -> Iterator[tuple[int, Step]]:
        """The late calls and what to do about each; sets :attr:`look_at`."""
        # Calls that have not started yet will not be due before that.
        self.look_at = now + min(self._timeouts.values(), default=float("inf"))
        running = page.running()
        if self._cancelled:
            yield from self._look_at_cancelled(running, now)
        killed = False
        for call, timeout in list(self._timeouts.items()):
            started = running.get(call)
            if started is None:
                continue
            deadline = started + timeout
            if now < deadline + self._patience:
                self.look_at = min(self.look_at, deadline + self._patience)
                continue
            if call not in self._interrupted:
                self._interrupted.add(call)
                yield call, Step.INTERRUPT
            if now < deadline + self._grace:
                self.look_at = min(self.look_at, deadline + self._grace)
                continue
            self.look_at = min(self.look_at, now + max(self._grace, _TICK))
            blocked = now - page.heartbeat > HUB_LATE
            if blocked and page.current not in (call, SHARED):
                self._timeouts[call] = now - started
                self._victims.add(call)
                self.abandoned.setdefault(call, None)
                yield call, Step.ABANDON
            elif call in self._victims:
                # Its hub has only just had time to stop it.
                self._timeouts[call] = now - started
                self._victims.discard(call)
            else:
                yield call, Step.KILL
                killed = True
        if killed and page.current == SHARED:
            # Several may have been late for as long, but for a moment.
            for call, timeout in list(self._timeouts.items()):
                if call in running and now >= running[call] + timeout:
                    yield call, Step.KILL

    def _look_at_cancelled(
        self, running: Mapping[int, float], now: float
    ) -> Iterator[tuple[int, Step]]:
        """The cancelled calls that have not ended within the grace period."""
        due = now + self._grace  # more may start until their worker hears of it
        for call in running:
            if call in self._cancelled:
                seen = self._seen.setdefault(call, now)
                if now < seen + self._grace:
                    due = min(due, seen + self._grace)
                    continue
                self.abandoned[call] = self._cancelled.pop(call)
                del self._seen[call]
                yield call, Step.REPORT
        if self._cancelled:
            self.look_at = min(self.look_at, due)
