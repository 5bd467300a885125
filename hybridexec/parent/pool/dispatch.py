"""Decides which worker is sent which calls.

Thread: turn holder.

Credit: a worker is sent calls ahead of its free slots, so that it never waits for the parent, but
only as many as it takes in about a round trip (its window), and only as many beyond its slots as it
finishes in that time, because a call sent ahead waits behind whatever its worker is doing. Of calls
with large arguments, it gets only as many ahead as caches and pipes hold; how many of them run is
not limited by that. As long as the calls that wait fit into free slots, none is sent beyond its
worker's: it would have to be taken back from there.

If more calls wait, a worker with free slots is asked to say when its inbox runs low. One that has
none starts a call when another ends, which it tells anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf
from operator import attrgetter

from ...wire import messages
from .actions import Actions
from .backlog import Backlog, Span
from .call_frames import calls_frame
from .quarantine import Quarantine
from .scaling import Scaling
from .worker import Worker, WorkerState

#: Most calls in one frame: enough to amortize its cost, few enough to be sent early.
MAX_FRAME = 2048


class _Open:
    """A worker that may be sent calls, and how loaded it is."""

    __slots__ = ("credit", "held", "id", "kept", "worker")

    def __init__(self, worker: Worker, kept: bool, credit: int) -> None:
        self.worker = worker
        self.id = worker.id
        self.kept = kept  # whether a call blocks its hub
        self.held = len(worker.in_flight)
        self.credit = credit


#: Sort key: the least loaded worker comes first.
_LOAD = attrgetter("kept", "held", "id")


class Dispatch:
    """Sends waiting calls to workers that have room."""

    def __init__(
        self, scaling: Scaling, waiting: Backlog, suspects: Quarantine, slots: int, actions: Actions
    ) -> None:
        self._scaling = scaling
        self._workers = scaling.workers
        self._backlog = waiting
        self._suspects = suspects
        self._slots = slots
        self._actions = actions
        #: Whether calls are sent only as they start, and none ahead.
        self.sends_none_ahead = False

    def run(self, now: float) -> None:
        """Send calls to the least loaded workers, as far as their credit goes; those whose hub is
        blocked by a call come last."""
        self._actions.tally.started(self._workers.values())
        if self._suspects.count:
            self._send_suspects(now)
        waiting = self._backlog
        if not waiting.count or (waiting.count == 1 and self._send_one(now)):
            return
        ready, share = self._ready(waiting.count, now)
        grants: dict[int, list[Span]] = {}
        weight = waiting.weight
        open_to = self._open(ready, share, weight, now)
        free: int | None = None
        while waiting.count and open_to:
            if waiting.weight > weight:
                weight = waiting.weight
                open_to = self._open(ready, share, weight, now)
                continue
            chosen = min(open_to, key=_LOAD)
            worker = chosen.worker
            # An even part of the calls left, so that the last ones are spread evenly, too.
            count = min(chosen.credit, ceil(waiting.count / (2 * len(open_to))))
            if chosen.held < self._slots:
                count = min(count, self._slots - chosen.held)
            else:
                # The least loaded has no free slot, nor will any other that is chosen from now on.
                if free is None:
                    free = self._free(ready, share, now)
                if free >= waiting.count:
                    break  # those that have free slots will say when their windows have room
            worker.begin_sample(now)
            grants.setdefault(worker.id, []).extend(self._grant(worker, count))
            chosen.credit -= len(worker.in_flight) - chosen.held
            chosen.held = len(worker.in_flight)
            if chosen.credit <= 0:
                open_to.remove(chosen)
        for worker in ready:
            # Ask only if slots are free and the window is what limits it. Any other limit is lifted
            # by an event of its own, and until then the answer would come at once, again and again.
            worker.limited = bool(waiting.count)
            ask = (
                worker.limited
                and not worker.asked
                and self._room(worker, share, sent_ahead=False) > 0
            )
            worker.asked = worker.asked or ask
            if worker.id in grants:
                self._send(worker, grants[worker.id], now)
            if ask:
                low = worker.window_for(waiting.weight) // 2
                self._actions.send(worker.id, messages.NotifyLow(low))

    def _open(self, ready: list[Worker], share: int | None, weight: int, now: float) -> list[_Open]:
        """The workers that may be sent calls of this weight."""
        found: list[_Open] = []
        for worker in ready:
            credit = self._credit(worker, share, weight)
            if credit:
                found.append(_Open(worker, worker.is_kept(now), credit))
        return found

    def _free(self, ready: list[Worker], share: int | None, now: float) -> int:
        """How many slots are free, in workers whose hub is not blocked, sent what they may be or
        not."""
        return sum(
            max(0, self._left(worker, share, sent_ahead=False))
            for worker in ready
            if not worker.is_kept(now)
        )

    def _credit(
        self, worker: Worker, share: int | None, weight: int, sent_ahead: bool = True
    ) -> int:
        """How many more calls of this weight a worker may be sent."""
        ahead, window = worker.waiting, worker.window_for(weight)
        credit = min(self._room(worker, share, sent_ahead), window - ahead)
        # Small frames are costly: a worker that has enough calls can wait for a larger one.
        return credit if credit > 0 and (4 * credit >= window or 2 * ahead < window) else 0

    def _send_one(self, now: float) -> bool:
        """Send the only waiting call to an idle worker, if there is one. (A fast path for programs
        that wait for each call.)"""
        for worker in self._workers.values():
            if (
                worker.state is WorkerState.READY
                and not worker.in_flight
                and self._room(worker) > 0
            ):
                worker.begin_sample(now)
                self._send(worker, self._grant(worker, 1), now)
                return True
        return False

    def idle(self) -> Worker | None:
        """An idle worker that may be sent a call with no further checks; None if there is none."""
        for worker in self._workers.values():
            if (
                worker.state is WorkerState.READY
                and not worker.in_flight.count
                and not worker.recalls
                and worker.budget is None
                and worker.predecessor is None
            ):
                return worker
        return None

    def free_slots(self, weight: int) -> int:
        """How many calls of this weight would start if they were sent now."""
        ready, share = self._ready(self._backlog.count + 1, -inf)
        return sum(self._credit(worker, share, weight, sent_ahead=False) for worker in ready)

    def _ready(self, waiting: int, now: float) -> tuple[list[Worker], int | None]:
        """The workers that may be sent calls, and how many each may have of those that they have
        and the ``waiting`` ones: so many that new workers get a share, too, because n blocking
        calls must run on n workers. One is new that is only starting, or has answered none yet: its
        window is small."""
        workers = self._workers.values()
        ready = [w for w in workers if w.state is WorkerState.READY]
        starting = sum(w.state is WorkerState.STARTING and not w.quarantine for w in workers)
        if not starting and all(w.done or w.is_kept(now) for w in ready):
            return ready, None
        calls = waiting + sum(len(worker.in_flight) for worker in ready)
        return ready, ceil(calls / max(1, len(ready) + starting))

    def _send_suspects(self, now: float) -> None:
        """Send each ready quarantine worker a group of suspects."""
        for worker in self._workers.values():
            if worker.state is not WorkerState.QUARANTINE or not self._suspects.count:
                continue
            group = self._suspects.take(min(self._slots, worker.budget or self._slots))
            worker.begin_sample(now)
            for batch, place in group:
                batch.send(place, place + 1)
                worker.in_flight.add(batch, place, place + 1)
            self._send(worker, [(batch, place, place + 1) for batch, place in group], now)
            self._scaling.retire(worker, "quarantine")

    def _room(self, worker: Worker, share: int | None = None, sent_ahead: bool = True) -> int:
        """How many more calls a worker may have now, apart from its window."""
        return 0 if worker.recalls else self._left(worker, share, sent_ahead)

    def _left(self, worker: Worker, share: int | None, sent_ahead: bool) -> int:
        """As :meth:`_room`, when it has answered what it was asked."""
        held = len(worker.in_flight)
        room = self._slots - held
        if sent_ahead and not self.sends_none_ahead:
            room += worker.ahead
        if share is not None:
            room = min(room, share - held)
        if worker.budget is not None:
            room = min(room, worker.budget)
        older = worker.predecessor
        if older is not None:
            while older is not None:
                held += older.kept_slots
                older = older.predecessor
            room = min(room, self._slots - held)
        return room

    def _grant(self, worker: Worker, count: int) -> list[Span]:
        """Assign up to ``count`` waiting calls to a worker."""
        spans = self._backlog.take(count)
        granted = 0
        for batch, low, high in spans:
            worker.in_flight.add(batch, low, high)
            granted += high - low
        if worker.budget is not None:
            worker.budget -= granted
            if worker.budget == 0:
                self._scaling.retire(worker, "max_tasks_per_child")
        return spans

    def _send(self, worker: Worker, granted: list[Span], now: float) -> None:
        for batch, low, high in granted:
            timeout = batch.options.timeout
            if timeout is not None:
                for place in range(low, high):
                    worker.deadlines.add(batch.first + place, timeout, now)
        for spans in _in_frames(granted):
            self._actions.send(worker.id, *calls_frame(worker, spans))


def _in_frames(spans: list[Span]) -> Iterator[list[Span]]:
    """The spans, split and grouped by what fits into a frame."""
    frame: list[Span] = []
    room = MAX_FRAME
    for batch, low, high in spans:
        while high - low >= room:
            frame.append((batch, low, low + room))
            yield frame
            frame, low, room = [], low + room, MAX_FRAME
        if high > low:
            frame.append((batch, low, high))
            room -= high - low
    if frame:
        yield frame
