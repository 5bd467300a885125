"""Lets limited calls go to their crews' backlogs when they may start.

Thread: turn holder.
Guarantees: a call whose start is limited goes when it may start and a slot is free for it, so that
it does start then; if others wait for slots, too, these get every other one. A call of which only
so many may run at once goes when that is so, to the end of the backlog.

A call that is sent ahead starts some time later, and several of them might start together. So as
long as one may start and has no slot, nothing is sent ahead in its crew, which is then
:attr:`.crew.Crew.held_up`: the next slot is free as soon as a call ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..work.batch import Batch, Call, Reader
from .backlog import Span
from .crew import Crew
from .limits import Limiter


class Admission:
    """The limiters of a pool."""

    def __init__(self) -> None:
        # Those with calls that wait; each has its turn to be first.
        self._limiters: deque[Limiter] = deque()
        # Those of them whose next call may start and has no slot.
        self._held_up: set[Limiter] = set()
        # Who is to hear that more calls wait.
        self._readers: set[Reader] = set()

    def __bool__(self) -> bool:
        return bool(self._limiters)

    def add(self, batch: Batch) -> None:
        """New calls come."""
        limits = batch.options.limits
        limiter: Limiter | None = limits.limiter
        if limiter is None:
            limiter = limits.limiter = Limiter(limits, self._note)
        self._keep(limiter)
        limiter.add(batch)

    def put_back(self, calls: Iterable[Call]) -> list[Call]:
        """Calls are to be tried again; returned are those that have no limits."""
        others: list[Call] = []
        for batch, place in calls:
            if batch.limiter is None:
                others.append((batch, place))
                continue
            limiter: Limiter = batch.options.limits.limiter
            self._keep(limiter)
            limiter.put_back(((batch, place),))
        return others

    def _keep(self, limiter: Limiter) -> None:
        if not limiter.count and limiter not in self._limiters:
            self._limiters.append(limiter)

    def _note(self, batch: Batch, change: int) -> None:
        """More calls of a batch wait, or fewer."""
        batch.crew.limited += change
        if batch.reader is not None:
            batch.reader.wait(change)
            if change > 0:
                self._readers.add(batch.reader)

    def due_seconds(self, now: float) -> float | None:
        """Seconds until a call may start; None if only events matter."""
        times = [
            due
            for limiter in self._limiters
            if limiter not in self._held_up and (due := limiter.due(now)) is not None
        ]
        return max(0.0, min(times) - now) if times else None

    def release(self, crews: Iterable[Crew], now: float) -> None:
        """Let those go that may start."""
        for crew in crews:
            crew.held_up = False
        self._held_up.clear()
        self._limiters.rotate(-1)
        for limiter in list(self._limiters):
            self._release(limiter, now)
            if not limiter.count:
                self._limiters.remove(limiter)
        for reader in self._readers:
            reader.tell()
        self._readers.clear()

    def _release(self, limiter: Limiter, now: float) -> None:
        released: dict[Crew, list[Call]] = {}
        rooms: dict[Crew, tuple[int, int]] = {}  # for calls of up to some weight, and that
        while (batch := limiter.peek(now)) is not None:
            crew: Crew = batch.crew
            calls = released.setdefault(crew, [])
            if limiter.is_paced:
                room, weight = rooms.get(crew, (0, -1))
                if batch.weight > weight:
                    room, weight = crew.room_for_paced(batch.weight), batch.weight
                    rooms[crew] = room, weight
                if room <= len(calls):
                    crew.hold_up()
                    self._held_up.add(limiter)
                    break
            calls.append(limiter.take(now))
        for crew, calls in released.items():
            if calls:
                crew.admit(calls, at_once=limiter.is_paced)

    def withdraw(self, crew: Crew) -> list[Span]:
        """Hand out a crew's calls, which do not wait any more; the spans may include cancelled
        places."""
        return [
            span
            for limiter in self._limiters
            for span in limiter.withdraw(lambda batch: batch.crew is crew)
        ]
