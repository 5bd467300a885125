"""Deadlines that a worker does not keep by itself.

Runs on: whoever has the engine's turn, as part of the pool.
Guarantees: a call ends within the grace after its deadline, whatever its worker does.

The worker's hub stops a call whose time is up at the point where it waits. Whether that has worked
is read from the status page, which tells when each call started. If the call still runs:

1. after a third of the grace, but 0.25 s at most, the worker is asked to interrupt it (EXPIRE): if
   it keeps the CPU in Python code, a signal handler raises in it. A call that was told before is
   left alone, for it may be cleaning up;
2. after the grace, if it still has the CPU, or if its hub is free and it goes on all the same, its
   worker is killed. If another call keeps the hub, it is that one's victim: it fails, and its
   worker lives on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Protocol

#: A hub that has not shown itself for so many seconds is kept by a call; it does ten times a
#: second.
HUB_LATE = 0.3
#: Longest time, in seconds, that a worker is left to stop a late call by itself.
_PATIENCE = 0.25
#: Longest time, in seconds, between two looks at a call that is late.
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
    """What to do about a call that is late."""

    INTERRUPT = "interrupt"
    ABANDON = "abandon"
    KILL = "kill"


class Deadlines:
    """The unanswered calls of one worker that have a timeout."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._patience = min(grace / 3, _PATIENCE)
        self._timeouts: dict[int, float] = {}
        self._interrupted: set[int] = set()
        #: When to look next, in monotonic seconds.
        self.look_at = float("inf")

    def __bool__(self) -> bool:
        return bool(self._timeouts)

    def add(self, call: int, timeout: float, now: float) -> None:
        """A call with a timeout is being sent."""
        self._timeouts[call] = timeout
        self.look_at = min(self.look_at, now + timeout + self._patience)

    def remove(self, call: int) -> None:
        """A call is not the worker's any more."""
        self._timeouts.pop(call, None)
        self._interrupted.discard(call)

    def look(self, page: Page, now: float) -> Iterator[tuple[int, Step]]:
        """The calls that are late, and what to do; sets :attr:`look_at`."""
        # Those that have not started do so after now.
        self.look_at = now + min(self._timeouts.values(), default=float("inf"))
        running = page.running()
        for call, timeout in list(self._timeouts.items()):
            started = running.get(call)
            if started is None:
                continue
            deadline = started + timeout
            if now < deadline + self._patience:
                self.look_at = min(self.look_at, deadline + self._patience)
                continue
            self.look_at = min(self.look_at, now + _TICK)
            if call not in self._interrupted:
                self._interrupted.add(call)
                yield call, Step.INTERRUPT
            if now < deadline + self._grace:
                continue
            kept = now - page.heartbeat > HUB_LATE
            yield call, Step.ABANDON if kept and page.current != call else Step.KILL
