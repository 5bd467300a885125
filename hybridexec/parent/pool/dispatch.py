"""Who gets which call.

Runs on: whoever has the engine's turn, as part of the pool.

How credit works: a worker is sent calls ahead of its free slots so that it never waits for the
parent, but only as many as it takes in a round trip or so (its window), and only as many beyond
its slots as it finishes in that time, because a call that has been sent ahead waits behind
whatever its worker is doing. If calls are left over, the worker is asked to tell when its inbox
runs low; if a worker has nothing to do while another is stuck with calls that it has not taken,
they are recalled.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from ...wire import messages
from ..work.batch import Batch
from .actions import Actions
from .backlog import Backlog, Span
from .call_frames import calls_frame
from .quarantine import Quarantine
from .scaling import Scaling
from .worker import MIN_WINDOW, Worker, WorkerState

#: A worker that has taken no call for so many seconds is stuck, and others may have its calls.
STUCK_SECONDS = 0.005
#: One that has taken none for so many seconds, while calls wait for any worker, has been sent too
#: many: later calls would start before them. (Where workers are many more than processors, to wait
#: for one takes tens of milliseconds.)
HOARD_SECONDS = 0.1
#: Longest time, in seconds, between two looks at workers that seem stuck.
_MAX_TICK = 0.1
#: A worker that has not answered a Recall for so many seconds does not hear it: C code holds its
#: GIL. Its calls are reclaimed, without its help.
SILENT_SECONDS = 0.1
#: Seconds from a worker's being held to the count of what it has taken. See :meth:`_reclaim`.
HOLD_SECONDS = 0.01
#: Calls in one frame: enough to spread its cost, few enough to be on the way early.
MAX_FRAME = 2048


class Dispatch:
    """Sends calls that wait to workers that have room."""

    def __init__(
        self, scaling: Scaling, waiting: Backlog, suspects: Quarantine, slots: int, actions: Actions
    ) -> None:
        self._scaling = scaling
        self._workers = scaling.workers
        self._backlog = waiting
        self._suspects = suspects
        self._slots = slots
        self._actions = actions

    def run(self, unfinished: int, now: float) -> None:
        """Send calls to the least loaded workers, as far as their credit goes; to those whose hub
        is kept by a call, only what is left."""
        if self._suspects.count:
            self._send_suspects(now)
        waiting = self._backlog
        if not waiting.count or (waiting.count == 1 and self._send_one(now)):
            return
        workers = self._workers
        ready = [w for w in workers.values() if w.state is WorkerState.READY]
        starting = sum(
            w.state is WorkerState.STARTING and not w.quarantine for w in workers.values()
        )
        # Workers about to be ready get their share: blocking calls must land one on each.
        share = ceil(unfinished / max(1, len(ready) + starting)) if starting else None
        grants: dict[int, list[Span]] = {}
        open_to = []
        for worker in ready:
            ahead = worker.waiting
            credit = min(self._room(worker, share), worker.window - ahead)
            # Few calls at a time are dear; while it has enough, they can wait to become more.
            if credit > 0 and (4 * credit >= worker.window or 2 * ahead < worker.window):
                open_to.append([worker.is_kept(now), len(worker.in_flight), worker.id, credit])
        while waiting.count and open_to:
            open_to.sort()
            chosen = open_to[0]
            worker = workers[chosen[2]]
            # An even part of what is left, so that the last calls are spread evenly too.
            count = min(chosen[3], ceil(waiting.count / (2 * len(open_to))))
            worker.begin_sample(now)
            grants.setdefault(worker.id, []).extend(self._grant(worker, count))
            chosen[1] += count
            chosen[3] -= count
            if chosen[3] <= 0:
                open_to.pop(0)
        for worker in ready:
            # Only if it is the window that keeps it from getting more: what else does is bound to
            # change with an event of its own, and the answer would come at once, again and again.
            worker.limited = bool(waiting.count)
            ask = worker.limited and not worker.asked and self._room(worker, share) > 0
            worker.asked = worker.asked or ask
            if worker.id in grants:
                self._send(worker, grants[worker.id], now)
            if ask:
                self._actions.send(worker.id, messages.Ask(worker.window // 2))

    def _send_one(self, now: float) -> bool:
        """Send the one call that waits to a worker that has none, if there is one: the commonest
        case of a program that waits for each call."""
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
        """A worker that a call could be sent to without any ado; None if there is none."""
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

    def _send_suspects(self, now: float) -> None:
        """Send each worker that is there for suspects a group of them."""
        for worker in self._workers.values():
            if worker.state is not WorkerState.QUARANTINE or not self._suspects.count:
                continue
            group = self._suspects.take(min(self._slots, worker.budget or self._slots))
            worker.begin_sample(now)
            for batch, place in group:
                worker.in_flight.add(batch, place, place + 1)
            self._send(worker, [(batch, place, place + 1) for batch, place in group], now)
            self._scaling.retire(worker)

    def _room(self, worker: Worker, share: int | None = None) -> int:
        """How many more calls a worker may have, its window aside."""
        if worker.recalls:
            return 0
        held = len(worker.in_flight)
        room = self._slots + worker.ahead - held
        if share is not None:
            room = min(room, share - held)
        if worker.budget is not None:
            room = min(room, worker.budget)
        older = worker.predecessor
        if older is not None:
            while older is not None:
                held += len(older.in_flight)
                older = older.predecessor
            room = min(room, self._slots - held)
        return room

    def _grant(self, worker: Worker, count: int) -> list[Span]:
        """Make up to ``count`` waiting calls the worker's."""
        spans = self._backlog.take(count)
        granted = 0
        for batch, low, high in spans:
            worker.in_flight.add(batch, low, high)
            granted += high - low
        if worker.budget is not None:
            worker.budget -= granted
            if worker.budget == 0:
                self._scaling.retire(worker)
        return spans

    def _send(self, worker: Worker, granted: list[Span], now: float) -> None:
        for batch, low, high in granted:
            timeout = batch.options.timeout
            if timeout is not None:
                for place in range(low, high):
                    worker.deadlines.add(batch.first + place, timeout, now)
        for spans in _in_frames(granted):
            self._actions.send(worker.id, *calls_frame(worker, spans))

    def _may_receive(self, worker: Worker) -> bool:
        """Whether a worker would take a call at once."""
        return (
            worker.state is WorkerState.READY
            and worker.predecessor is None
            and worker.waiting <= 0
            and len(worker.in_flight) < self._slots
        )

    # -- taking back ------------------------------------------------------------------------------

    def recall(self, worker: Worker, count: int) -> None:
        """Ask for calls that a worker has not started."""
        worker.recalls += 1
        self._actions.send(worker.id, messages.Recall(count))

    def stuck_seconds(self, now: float) -> float | None:
        """How long until :meth:`relieve` is worth calling; None if only events matter."""
        if len(self._workers) < 2:
            return None
        if self._backlog.count:
            moved = [worker.moved_at for worker in self._workers.values() if worker.hoards]
            return max(0.0, min(moved) + HOARD_SECONDS - now) if moved else None
        if any(self._is_silent(worker) for worker in self._workers.values()):
            return HOLD_SECONDS
        stuck = [now - w.moved_at for w in self._workers.values() if w.may_give]
        if not stuck:
            return None
        # Others become free without a word when their calls start to wait, which they do soon
        # after they were sent: so look again soon at first, then less and less often.
        return min(max(STUCK_SECONDS, min(stuck) / 4), _MAX_TICK)

    def relieve(self, now: float) -> list[tuple[Batch, int]]:
        """Recall calls from stuck workers for those with nothing to do, or for all to have their
        turn, and reclaim those of workers that do not answer: these are returned, by batch and
        id."""
        reclaimed: list[tuple[Batch, int]] = []
        waiting = self._backlog.count > 0
        receivers = 0 if waiting else sum(map(self._may_receive, self._workers.values()))
        if len(self._workers) < 2 or not (waiting or receivers):
            return reclaimed
        for worker in self._workers.values():
            if receivers and self._is_silent(worker):
                reclaimed += self._reclaim(worker, now)
            if not (worker.may_give if receivers else worker.hoards):
                continue
            worker.sample(now)
            patience = STUCK_SECONDS if receivers else HOARD_SECONDS
            if now - worker.moved_at >= patience and worker.waiting > 0:
                # What it was sent when its calls were short has its turn. Of few, one share stays:
                # it may be unstuck before the others have finished theirs.
                share = ceil(worker.waiting * receivers / (receivers + 1))
                self.recall(worker, max(share, worker.waiting - MIN_WINDOW))
                worker.window = worker.ahead = MIN_WINDOW
                worker.recalled_at = now
        return reclaimed

    def _is_silent(self, worker: Worker) -> bool:
        """Whether a worker has not answered a Recall, and has calls that it has not started."""
        return (
            worker.recalls > 0
            and worker.waiting > 0
            and not worker.quarantine
            and worker.state in (WorkerState.READY, WorkerState.RETIRING)
        )

    def _reclaim(self, worker: Worker, now: float) -> list[tuple[Batch, int]]:
        """Take back what a silent worker has not started, in two steps some time apart.

        First it is held. It counts a call as taken, and then looks whether it is held: if so, it
        takes the count back. So it cannot both miss the hold and hide a call from a count that is
        read later, however its processor orders the two (Dekker's algorithm, with a delay for a
        fence). From then on, what it has not taken is not its any more.
        """
        if worker.held_at is None:
            if now - worker.recalled_at >= SILENT_SECONDS and worker.page is not None:
                worker.holds += 1
                worker.page.hold(worker.holds)
                worker.held_at = now
            return []
        if now - worker.held_at < HOLD_SECONDS:
            return []
        calls = [call for call, _ in worker.in_flight.calls()[worker.running :]]
        self.release(worker, calls)
        return worker.take_back(calls)

    def release(self, worker: Worker, calls: list[int]) -> None:
        """Let a worker that is held take calls again, but for these."""
        worker.held_at = None
        self._actions.send(worker.id, messages.Reclaim(worker.holds, calls))


def _in_frames(spans: list[Span]) -> Iterator[list[Span]]:
    """Spans, as many together as one frame may hold."""
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
