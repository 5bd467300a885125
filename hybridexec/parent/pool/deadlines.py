"""What a worker does not do by itself: keep deadlines, and end cancelled calls.

Runs on: whoever has the engine's turn, as part of the pool.
Guarantees: a call with a timeout ends within the grace after its deadline, whatever its worker
does, and whether anybody still waits for it; a cancelled call that has not ended within the grace
is told of, once.

The worker's hub stops a call whose time is up at the point where it waits. Whether that has worked
is read from the status page, which tells when each call started. If the call still runs:

1. after a third of the grace, but 0.25 s at most, the worker is asked to interrupt it (Expire): if
   it keeps the CPU in Python code, a signal handler raises in it. A call that was told before is
   left alone, for it may be cleaning up;
2. after the grace, if it still has the CPU, or if its hub is free and it goes on all the same, its
   worker is killed. If another call keeps the hub, it is that one's victim: it fails, and its
   worker lives on. When the hub gets to it again, it has another grace to end.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Protocol

#: A hub that has not shown itself for so many seconds is kept by a call; it does ten times a
#: second.
HUB_LATE = 0.3
#: Longest time, in seconds, that a worker is left to stop a late call by itself.
_PATIENCE = 0.25
#: Shortest time, in seconds, from a look at a call that outlived its grace to the next.
_TICK = 0.05


class Page(Protocol):
    """What is read of a status page."""

    @property
    def heartbeat(self) -> float:
        """When the hub last ticked, in monotonic seconds."""

    @property
    def current(self) -> int:
        """The call that has the CPU, 0 if none has or it is not known."""

    def running(self) -> dict[int, float]:
        """The calls that run: id to monotonic seconds of its start."""


class Step(enum.Enum):
    """What to do about a call that is late: stop it, give it up, kill its worker, tell of it."""

    INTERRUPT = "interrupt"
    ABANDON = "abandon"
    KILL = "kill"
    REPORT = "report"


class Deadlines:
    """The unanswered calls of one worker that have a timeout, or were cancelled."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._patience = min(grace / 3, _PATIENCE)
        self._timeouts: dict[int, float] = {}
        self._interrupted: set[int] = set()
        # Calls that were given up as victims, and that the hub has not got to since.
        self._victims: set[int] = set()
        # Cancelled calls that were not reported, with their arguments: at first all, also those
        # that will be dropped, and since when they were seen to run.
        self._cancelled: dict[int, tuple[Any, ...] | None] = {}
        self._seen: dict[int, float] = {}
        #: The calls that nobody waits for, cancelled or given up, and that went on when the grace
        #: was over, with their arguments if these are known; other threads count them.
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
        """A call is to be stopped, if it has started: nobody waits for it. It is named by these
        arguments, or by none."""
        self._cancelled[call] = arguments
        self.look_at = 0.0  # to see when that was

    def remove(self, call: int) -> None:
        """A call is not the worker's any more."""
        self._timeouts.pop(call, None)
        self._interrupted.discard(call)
        if self._cancelled or self.abandoned:
            self._cancelled.pop(call, None)
            self._seen.pop(call, None)
            self.abandoned.pop(call, None)
            self._victims.discard(call)

    def look(self, page: Page, now: float) -> Iterator[tuple[int, Step]]:
        """The calls that are late, and what to do; sets :attr:`look_at`."""
        # Those that have not started do so after now.
        self.look_at = now + min(self._timeouts.values(), default=float("inf"))
        running = page.running()
        if self._cancelled:
            yield from self._look_at_cancelled(running, now)
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
            if now - page.heartbeat > HUB_LATE and page.current != call:
                self._timeouts[call] = now - started
                self._victims.add(call)
                self.abandoned.setdefault(call, None)
                yield call, Step.ABANDON
            elif call in self._victims:
                # What stops it has only just got to it.
                self._timeouts[call] = now - started
                self._victims.discard(call)
            else:
                yield call, Step.KILL

    def _look_at_cancelled(
        self, running: dict[int, float], now: float
    ) -> Iterator[tuple[int, Step]]:
        """The cancelled calls that have not ended within the grace."""
        due = now + self._grace  # others may start before their worker hears
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
