"""Takes back calls that a worker has not started, for workers that have nothing to do, or because
it is to end.

Thread: turn holder.
Guarantees: a call that is taken back has not started and will not start there.

A worker is *stuck* if it takes none of the calls that it was sent. It is asked to give some back
(Recall). If it does not answer, because C code holds its GIL, a word on its status page keeps it
from taking calls (a hold), and those it has not started are reclaimed without its help.
"""

from __future__ import annotations

from math import ceil

from ...wire import messages
from ..work.batch import Batch
from .actions import Actions
from .backlog import Backlog
from .worker import MIN_WINDOW, Worker, WorkerState

#: A worker that has taken no call for so many seconds is stuck: idle workers may have its calls.
STUCK_SECONDS = 0.005
#: A worker that has taken none for so many seconds, while calls wait for any worker, has been sent
#: too many: calls submitted later would start earlier. (With many more workers than processors, a
#: worker waits tens of milliseconds for one.)
HOARD_SECONDS = 0.1
#: Longest time, in seconds, between two looks at workers that seem stuck.
_MAX_TICK = 0.1
#: A worker that has not answered a Recall for so many seconds cannot read it: C code holds its GIL.
#: It is held, and its calls are reclaimed.
SILENT_SECONDS = 0.1
#: Seconds from the hold to reading how many calls the worker has taken. See :meth:`_reclaim`.
HOLD_SECONDS = 0.01


class Recall:
    """Takes calls back from stuck workers."""

    def __init__(
        self, workers: dict[int, Worker], backlog: Backlog, slots: int, actions: Actions
    ) -> None:
        self._workers = workers
        self._backlog = backlog
        self._slots = slots
        self._actions = actions

    def ask(self, worker: Worker, count: int) -> None:
        """Ask a worker to give back up to ``count`` calls that it has not started."""
        worker.recalls += 1
        self._actions.send(worker.id, messages.Recall(count))

    def ask_all(self) -> None:
        """Ask all workers to give back all calls that they have not started."""
        for worker in self._workers.values():
            if worker.in_flight:
                self.ask(worker, len(worker.in_flight))

    def stuck_seconds(self, now: float) -> float | None:
        """How long until :meth:`relieve` is worth calling; None if only events matter."""
        if any(w.forsaken and (w.may_give or self._is_silent(w)) for w in self._workers.values()):
            return HOLD_SECONDS
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
        # Workers do not say that they become free because their calls wait. Most calls do so soon
        # after they were sent: so look soon at first, then less and less often.
        return min(max(STUCK_SECONDS, min(stuck) / 4), _MAX_TICK)

    def relieve(self, now: float) -> list[tuple[Batch, int]]:
        """Recall calls from stuck workers if others have nothing to do, or if calls wait that would
        overtake them, and from forsaken ones; reclaim those of workers that do not answer. The
        reclaimed ones are returned, by batch and id."""
        reclaimed: list[tuple[Batch, int]] = []
        for worker in self._workers.values():
            if worker.forsaken:
                reclaimed += self._empty(worker, now)
        waiting = self._backlog.count > 0
        receivers = 0 if waiting else sum(map(self._may_receive, self._workers.values()))
        if len(self._workers) < 2 or not (waiting or receivers):
            return reclaimed
        for worker in self._workers.values():
            if worker.forsaken:
                continue
            if receivers and self._is_silent(worker):
                reclaimed += self._reclaim(worker, now)
            if not (worker.may_give if receivers else worker.hoards):
                continue
            worker.sample(now)
            patience = STUCK_SECONDS if receivers else HOARD_SECONDS
            if now - worker.moved_at >= patience and worker.waiting > 0:
                # It may have been sent many while its calls were short: those go. Of a few, it
                # keeps one share: it may be free before the others have finished theirs.
                share = ceil(worker.waiting * receivers / (receivers + 1))
                self.ask(worker, max(share, worker.waiting - MIN_WINDOW))
                worker.window = worker.ahead = MIN_WINDOW
                worker.recalled_at = now
        return reclaimed

    def _empty(self, worker: Worker, now: float) -> list[tuple[Batch, int]]:
        """Recall, or reclaim, all calls that a forsaken worker has not started."""
        if worker.may_give:
            self.ask(worker, worker.waiting)
            worker.recalled_at = now
        elif self._is_silent(worker):
            return self._reclaim(worker, now)
        return []

    def _may_receive(self, worker: Worker) -> bool:
        """Whether a worker would start a call at once."""
        return (
            worker.state is WorkerState.READY
            and worker.predecessor is None
            and worker.waiting <= 0
            and len(worker.in_flight) < self._slots
        )

    def _is_silent(self, worker: Worker) -> bool:
        """Whether a worker owes the answer to a Recall and has calls that it has not started."""
        return (
            worker.recalls > 0
            and worker.waiting > 0
            and not worker.quarantine
            and worker.state in (WorkerState.READY, WorkerState.RETIRING)
        )

    def _reclaim(self, worker: Worker, now: float) -> list[tuple[Batch, int]]:
        """Take back the calls that a silent worker has not started, in two steps some time apart.

        First it is held. A worker counts a call as taken before it checks for a hold, and undoes
        the count if there is one. So it cannot both miss the hold and hide a taken call from a
        count that is read HOLD_SECONDS later, however its processor orders the two accesses
        (Dekker's algorithm, with a delay for a fence). In the second step, the calls beyond that
        count are taken from it.
        """
        if worker.held_at is None:
            if now - worker.recalled_at >= SILENT_SECONDS:
                worker.holds += 1
                if worker.page.hold(worker.holds):
                    worker.held_at = now
            return []
        if now - worker.held_at < HOLD_SECONDS:
            return []
        calls = [call for call, _ in worker.in_flight.calls()[worker.running :]]
        self.release(worker, calls)
        return worker.take_back(calls)

    def release(self, worker: Worker, calls: list[int]) -> None:
        """Let a held worker take calls again, except these."""
        worker.held_at = None
        self._actions.send(worker.id, messages.Reclaim(worker.holds, calls))
