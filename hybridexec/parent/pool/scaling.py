"""Scaling: how many workers are started, and which are to end.

Thread: turn holder.
Guarantees: a crew of a running pool has no more workers than ``max_workers``, except those that
drain while replacements start, and one quarantine worker when there is no room for it; a worker
that is to end is sent no call, and none is taken from it.

A worker that has had no call for ``idle_timeout`` seconds is stopped, if there is such a limit. It
is no worker for the next call from then on, though its process may still be ending: another is
started. Calls that the others have held since before do not bring it back, or a worker would come
and go for as long as others have more than one call.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...wire import messages
from .actions import Actions
from .deadlines import Deadlines
from .starts import Starts
from .worker import Worker, WorkerState

if TYPE_CHECKING:
    from .crew import Crew, Terms


class Scaling:
    """The workers of a crew."""

    def __init__(
        self,
        crew: Crew,
        terms: Terms,
        numbers: Iterator[int],
        everybody: dict[int, Worker],
        actions: Actions,
    ) -> None:
        """
        Args:
            crew: whose workers these are.
            numbers, everybody: see :class:`.crew.Crew`.
        """
        self._crew = crew
        self._max_workers = terms.max_workers
        self._budget = terms.budget
        self._grace = terms.grace
        self._all_at_once = terms.all_at_once
        self._idle_timeout = terms.idle_timeout
        self._patient = terms.patient
        self._numbers = numbers
        self._everybody = everybody
        self._actions = actions
        # When a worker last ended because it was idle: how many calls there had been, and how many
        # workers were left.
        self._rested_after = self._left = 0
        self.workers = crew.workers
        #: The number of the newest worker.
        self.newest = 0
        self._size = 0  # target number of workers; grows with demand
        #: Whether workers may be missing: :meth:`hire` must follow.
        self.short = False
        #: How recent starts have gone.
        self.starts = Starts()
        # Invariant: the number of quarantine workers.
        self._quarantined = 0
        #: The number of quarantine workers plus that of RETIRING ones. While it is 0, and the pool
        #: is not ending, :meth:`settle` has nothing to do.
        self.leaving = 0

    def need(self, unfinished: int) -> None:
        """Note the number of unfinished calls."""
        if unfinished > self._size or not self.workers:
            self.short = True

    def may_hire(self, unfinished: int, now: float) -> bool:
        """Whether missing workers may be started now."""
        if self.starts.doubtful and (not unfinished or now < self.starts.next_at):
            self.short = True
            return False
        return True

    def believe(self) -> None:
        """A new worker has taken a call, so its start has not failed."""
        if self.starts.doubtful:
            self.starts.succeed()
            self.short = True

    def want(self, more: int) -> None:
        """Raise the target by ``more`` workers, whatever the demand."""
        self._size = min(self._max_workers, self._size + more)
        self.short = True

    def resize(self, max_workers: int) -> None:
        """From now on there are at most so many workers; :meth:`surplus` must follow."""
        self._max_workers = max_workers
        self._size = min(self._size, max_workers)
        self.short = True

    def surplus(self) -> list[Worker]:
        """The workers that are too many, those first that have the fewest calls. One that is only
        starting is none before it is ready."""
        active = [
            worker
            for worker in self.workers.values()
            if worker.state in (WorkerState.STARTING, WorkerState.READY) and not worker.quarantine
        ]
        ready = [worker for worker in active if worker.state is WorkerState.READY]
        ready.sort(key=lambda worker: worker.in_flight.count)
        return ready[: max(0, len(active) - self._max_workers)]

    def hire(self, unfinished: int, groups: int) -> None:
        """Start missing workers: one per unfinished call up to the limit, one for each that has
        ended, and quarantine workers for ``groups`` groups of suspects."""
        # Of the calls that were there when a worker last went for want of any, some may be left:
        # others have them, unless they have come back from there.
        crew = self._crew
        settled = max(0, unfinished - (crew.arrived + crew.held_up - self._rested_after))
        held = unfinished - crew.backlog.count - crew.held_up
        demand = unfinished - max(0, min(settled - self._left, held))
        if self._all_at_once and unfinished > settled:
            demand = self._max_workers
        if unfinished:
            self._size = max(self._size, min(self._max_workers, demand))
        self._fill(self._size, groups)

    def hire_to_finish(self, pending: int, groups: int) -> None:
        """Start the workers that the last calls need. (The target does not tell how many these
        are: calls may have been submitted right before the shutdown.)"""
        busy = sum(
            w.state is WorkerState.READY and w.in_flight.count > 0 for w in self.workers.values()
        )
        self._fill(min(busy + pending, self._max_workers), groups)

    def _fill(self, size: int, groups: int) -> None:
        self.short = False
        active = 0
        idle = 0  # quarantine workers that will take a group
        retiring = []
        replaced = {worker.predecessor for worker in self.workers.values()}
        for worker in self.workers.values():
            if worker.quarantine:
                idle += worker.state in (WorkerState.STARTING, WorkerState.QUARANTINE)
            elif worker.state in (WorkerState.STARTING, WorkerState.READY):
                active += 1
            elif worker.state is WorkerState.RETIRING and worker not in replaced:
                retiring.append(worker)
        # Quarantine workers take the places of dead ones, up to half of all: so other calls go on.
        most = max(1, min(self._max_workers // 2, self._max_workers - active))
        left = self._permitted()
        for _ in range(min(groups - idle, most - self._quarantined, left)):
            left -= 1
            self._start(None, quarantine=True)
        for _ in range(min(size - active - self._quarantined, left)):
            self._start(retiring.pop() if retiring else None)

    def _permitted(self) -> int:
        """How many workers may be started now."""
        if not self.starts.doubtful:
            return self._max_workers
        return not any(w.state is WorkerState.STARTING for w in self.workers.values())

    def _start(self, predecessor: Worker | None, quarantine: bool = False) -> None:
        self.newest = number = next(self._numbers)
        self._quarantined += quarantine
        self.leaving += quarantine
        deadlines = Deadlines(self._grace)
        place = self._free_place() if predecessor is None else predecessor.place
        worker = Worker(number, self._crew, self._budget, predecessor, deadlines, quarantine, place)
        self.workers[number] = self._everybody[number] = worker
        self._actions.start(number, self._crew.lane)

    def _free_place(self) -> int:
        """A place that no worker has, or the fewest have."""
        taken = Counter(
            worker.place
            for worker in self.workers.values()
            if worker.state is not WorkerState.STOPPING
        )
        for place in range(self._max_workers):
            if not taken[place]:
                return place
        return min(range(self._max_workers), key=taken.__getitem__)

    @property
    def able(self) -> bool:
        """Whether any worker has become ready and was not told to end."""
        states = (WorkerState.READY, WorkerState.RETIRING)
        return any(worker.state in states for worker in self.workers.values())

    def depends_on(self, worker: Worker) -> bool:
        """Whether no call can run if this worker, which is starting, never gets ready."""
        others = any(
            other.state is WorkerState.STARTING and other.exists
            for other in self.workers.values()
            if other is not worker
        )
        return worker.state is WorkerState.STARTING and not others and not self.able

    def retire(self, worker: Worker, cause: str) -> None:
        """Let a worker finish its calls, because of ``cause`` (see :class:`.WorkerRecycled`); its
        replacement starts meanwhile."""
        self._actions.tally.worker_recycled(worker, cause)
        worker.state = WorkerState.RETIRING
        self.leaving += 1
        self.short = True

    def forsake(self, worker: Worker) -> None:
        """Abandoned calls keep threads of a worker: replace it, and have it end with its other
        calls. Those that it has not started, :mod:`.recall` takes back."""
        if worker.state is WorkerState.READY:
            self.retire(worker, "abandoned")
        worker.forsaken = worker.state is WorkerState.RETIRING

    def rest_seconds(self, now: float) -> float | None:
        """Seconds until :meth:`rest` is due; None if only events matter."""
        if self._idle_timeout is None or self._crew.backlog.count:
            return None
        since = min((w.idle_since for w in self.workers.values() if w.is_idle), default=None)
        return None if since is None else max(0.0, since + self._idle_timeout - now)

    def rest(self, now: float) -> None:
        """Stop the workers that have been idle for too long."""
        if self._idle_timeout is None or self._crew.backlog.count:
            return  # one without calls may be waiting for slots of its predecessor's
        for worker in self.workers.values():
            if worker.is_idle and now >= worker.idle_since + self._idle_timeout:
                self._actions.tally.worker_rested(worker)
                self._stop(worker)
                self._size = self._left = max(0, self._size - 1)
                self._rested_after = self._crew.arrived

    def kill_overdue(self, worker: Worker) -> None:
        """Kill a worker because of calls that do not end in time and that nothing else stops."""
        self._actions.kill(worker.id, signal.SIGKILL)
        self.leaving -= worker.state is WorkerState.RETIRING
        worker.state = WorkerState.STOPPING
        self.short = True

    def remove(self, number: int) -> Worker:
        """A worker's process is gone."""
        worker = self.workers.pop(number)
        del self._everybody[number]
        self.leaving -= worker.state is WorkerState.RETIRING
        self._quarantined -= worker.quarantine
        self.leaving -= worker.quarantine
        self._unlink(worker)
        self.short = True
        return worker

    def settle(self, ending: bool, suspects: int) -> None:
        """Stop idle workers that will get no more calls: all of them, if the pool is ``ending``;
        kill forsaken ones that have nothing else to finish."""
        for worker in self.workers.values():
            if worker.forsaken and worker.in_flight and not worker.kept_slots:
                if worker.state is WorkerState.RETIRING:
                    worker.deadlines.disregard()
                    self.kill_overdue(worker)
                continue
            if worker.in_flight or worker.recalls:
                continue
            if (
                worker.state is WorkerState.RETIRING
                or (ending and worker.state is WorkerState.READY)
                or (worker.state is WorkerState.QUARANTINE and not suspects)
            ):
                self._stop(worker)
            elif (
                ending
                and worker.state is WorkerState.STARTING
                and not (self._patient and worker.exists)
            ):
                # It would start only to stop. (Without a process yet, it may never get one.)
                worker.state = WorkerState.STOPPING
                self._actions.kill(worker.id, signal.SIGKILL)

    def _stop(self, worker: Worker) -> None:
        """Have a worker end that has nothing left to do."""
        self.leaving -= worker.state is WorkerState.RETIRING
        worker.state = WorkerState.STOPPING
        self._actions.send(worker.id, messages.Stop())
        self._unlink(worker)

    def _unlink(self, worker: Worker) -> None:
        """Take a worker that holds no slots any more out of its chain of replacements."""
        for other in self.workers.values():
            if other.predecessor is worker:
                other.predecessor = worker.predecessor
