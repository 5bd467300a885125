"""Detect workers whose calls wait one after another, though no single wait is long.

Thread: turn holder, which passes in the time, the states and the answers, and acts on the results.
Guarantees: each place in the code is reported once; nothing here waits or looks at a clock.

A driver that waits in C (psycopg2 without psycogreen, say) keeps the hub for as long as a query
takes. The hub ticks between two queries, so the watchdog sees nothing, and a hundred calls take a
hundred times as long as one. So workers are sampled: if a call has the CPU though the main thread
sleeps, it holds the hub while it waits. An idle hub sleeps too, but in no call; and one that
computes does not sleep, even if it does not get the CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

#: Seconds between two samples of a worker, and how many samples decide.
SAMPLE_SECONDS, SAMPLES = 0.5, 12
#: How many of these must have found a call that holds the hub.
_HELD = 9


class HeldUp(NamedTuple):
    """A report: this worker's calls have been waiting one after another for so many seconds."""

    worker: int
    seconds: float
    #: One such call and its stack, and how many of the samples found one.
    call: int
    stack: str
    held: int


class _Samples:
    __slots__ = ("began_at", "last", "places", "taken")

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.taken = 0
        # By a stack's innermost frame: how often a call waited there; the last such call and stack.
        self.places: Counter[str] = Counter()
        self.last: dict[str, tuple[int, str]] = {}


class Holdups:
    """Samples the hubs of one executor's workers."""

    def __init__(self) -> None:
        self._workers: dict[int, _Samples] = {}
        self._reported: set[str] = set()
        # Workers that were asked what they are doing, and whose main thread slept then.
        self._asleep: set[int] = set()
        self._next_at = 0.0

    def look(self, now: float, asleep: Iterable[int]) -> list[int]:
        """Decide which workers to ask what they are doing.

        Args:
            asleep: those with several calls whose main thread waits, in the hub or elsewhere.
        """
        if now < self._next_at:
            return []
        self._next_at = now + SAMPLE_SECONDS
        self._asleep = set(asleep)
        for worker in list(self._workers):
            if worker not in self._asleep:  # it computes, or has little to do
                self._take(worker, now, 0, "")
        return sorted(self._asleep)

    def answered(self, worker: int, now: float, call: int, stack: str) -> HeldUp | None:
        """Take the answer of a worker that was asked; returns a report, if one is due.

        Args:
            call: the one that has the main thread; 0 if none has.
        """
        if worker not in self._asleep:
            return None
        self._asleep.discard(worker)
        return self._take(worker, now, call, stack)

    def _take(self, worker: int, now: float, call: int, stack: str) -> HeldUp | None:
        samples = self._workers.get(worker)
        if samples is None:
            if not call:
                return None
            samples = self._workers[worker] = _Samples(now)
        samples.taken += 1
        if call:
            # The stack's last frame is the innermost.
            place = stack[stack.rfind("  File ") :]
            samples.places[place] += 1
            samples.last[place] = (call, stack)
        if samples.taken - samples.places.total() > SAMPLES - _HELD:
            del self._workers[worker]  # too few samples found one: begin anew
        elif samples.taken >= SAMPLES:
            del self._workers[worker]
            place, _ = samples.places.most_common(1)[0]
            if place not in self._reported:
                self._reported.add(place)
                call, stack = samples.last[place]
                held = samples.places.total()
                return HeldUp(worker, now - samples.began_at, call, stack, held)
        return None

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        self._workers.pop(worker, None)
        self._asleep.discard(worker)
