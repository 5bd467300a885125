"""Taking back calls that a worker has not started, for others that have nothing to do.

Thread: the turn holder, as part of the pool.
Guarantees: a call that is taken back has not started and will not start there.

A worker is *stuck* if it takes none of the calls that it was sent. It is asked to give some back
(Recall). If it does not even answer, because C code holds its GIL, it is held by a word on its
status page, and then they are reclaimed without its help.
"""

from __future__ import annotations

from math import ceil

from ...wire import messages
from ..work.batch import Batch
from .actions import Actions
from .backlog import Backlog
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
                self.ask(worker, max(share, worker.waiting - MIN_WINDOW))
                worker.window = worker.ahead = MIN_WINDOW
                worker.recalled_at = now
        return reclaimed

    def _may_receive(self, worker: Worker) -> bool:
        """Whether a worker would take a call at once."""
        return (
            worker.state is WorkerState.READY
            and worker.predecessor is None
            and worker.waiting <= 0
            and len(worker.in_flight) < self._slots
        )

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
