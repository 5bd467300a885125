"""What any thread may read of an engine's workers and calls.

Thread: any, without a lock: each answer was true a moment ago.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

from ...process import Process
from ...wire.page import BUSY_SECONDS
from ..pool.pool import Pool
from ..pool.tally import Tally
from ..pool.worker import Worker, WorkerState
from ..work.batch import Call
from .entry_queue import EntryQueue
from .link import Node
from .supervisor import Supervisor

#: How many of the running calls are told.
_LONGEST = 10
_start = operator.itemgetter(0)


class Snapshot:
    """A read-only view of workers and calls."""

    def __init__(self, pool: Pool, supervisor: Supervisor, queue: EntryQueue) -> None:
        self._pool = pool
        self._queue = queue
        self._inert = False
        self._workers = pool.workers
        self._connections = supervisor.connections
        self._supervisor = supervisor
        #: What has happened so far.
        self.tally: Tally = pool.actions.tally

    @property
    def max_workers(self) -> int:
        """How many workers run calls at most."""
        return self._pool.max_workers

    def is_running(self, call: int) -> bool:
        """Whether a worker is running this call."""
        for worker in list(self._workers.values()):
            with contextlib.suppress(ValueError):  # its page was closed just now
                if call in worker.page.running():
                    return True
        return False

    def running_calls(self) -> Iterator[Call]:
        """The calls that workers are running."""
        for worker in list(self._workers.values()):
            try:
                running = worker.page.running()
            except ValueError:  # its page was closed just now
                continue
            for call in running:
                batch = worker.in_flight.get(call)
                if batch is not None:  # it has not ended since
                    yield batch, call - batch.first

    def processes(self) -> dict[int, Any]:
        """The processes of the workers that take calls, by pid."""
        workers = dict(self._workers)
        return {
            connection.process.pid: connection.process
            for number, connection in list(self._connections.items())
            if connection.process is not None
            and number in workers
            and workers[number].state in (WorkerState.STARTING, WorkerState.READY)
        }

    def workers(self) -> list[Worker]:
        """The pool's workers, for statistics."""
        return list(self._workers.values())

    def nodes(self) -> Sequence[Node]:
        """The machines that have the workers, if they are nodes of a cluster."""
        return self._supervisor.nodes()

    def current(self, worker: int) -> str | None:
        """The call that has a worker's CPU; see :meth:`Supervisor.current`."""
        return self._supervisor.current(worker)

    @property
    def logs_dropped(self) -> int:
        """How many log records of workers were dropped."""
        return self._supervisor.logs_dropped

    @property
    def waiting(self) -> int:
        """Calls that the pool has and no worker, and that may be sent."""
        return 0 if self._inert else self._pool.pending

    def waiting_in(self, lane: str) -> int:
        """Calls of a lane that the pool has and no worker."""
        crew = None if self._inert else self._pool.crews.get(lane)
        return 0 if crew is None else crew.backlog.count

    @property
    def limited(self) -> int:
        """Those that wait because of limits."""
        return 0 if self._inert else self._pool.limited

    @property
    def pending(self) -> int:
        """Calls that no worker has yet."""
        return self.waiting + self.submitted

    @property
    def has_calls(self) -> bool:
        """Whether there are calls that have not ended."""
        return bool(self._pool.ledger.unfinished or self._queue.submitted)

    @property
    def unfinished(self) -> int:
        """Calls that have not ended."""
        return 0 if self._inert else self._pool.ledger.unfinished + self.submitted

    def hub_lag(self, worker: Worker, now: float) -> float:
        """For how many seconds a worker's hub has been overdue."""
        heartbeat = worker.page.heartbeat
        return max(0.0, now - heartbeat - 0.1) if heartbeat else 0.0

    def busy(self, worker: Worker, now: float) -> float:
        """For which share of the last seconds a worker's hub was held, until now: while it is, it
        cannot say so itself."""
        busy, held = worker.page.busy, self.hub_lag(worker, now)
        return 1.0 - (1.0 - busy) * math.exp(-held / BUSY_SECONDS)

    def longest(self, now: float) -> list[tuple[Call, float, Process]]:
        """The calls that have been running for longest, the longest first: for each itself, for how
        many seconds, and its worker's process."""
        first: list[tuple[float, Worker]] = []
        for worker in self.workers():
            with contextlib.suppress(ValueError):
                if starts := worker.page.starts():
                    first.append((min(starts), worker))
        found: list[tuple[float, int, Worker]] = []
        # They are in these workers: a look at the first of each of the others was enough.
        for _, worker in heapq.nsmallest(_LONGEST, first, key=_start):
            with contextlib.suppress(ValueError):
                earliest = worker.page.earliest(_LONGEST)
                found += [(since, call, worker) for since, call in earliest]
        told: list[tuple[Call, float, Process]] = []
        for since, call, worker in heapq.nsmallest(_LONGEST, found, key=_start):
            batch = worker.in_flight.get(call)
            if batch is not None:  # else it has ended
                told.append(((batch, call - batch.first), max(0.0, now - since), worker.process))
        return told

    def age(self, worker: int, now: float) -> float:
        """For how many seconds there has been this worker; 0 while it is being started."""
        link = self._connections.get(worker)
        return 0.0 if link is None else now - link.since

    def bytes_moved(self) -> tuple[int, int]:
        """The bytes that went to the workers, and that came from them."""
        sent, received = self._supervisor.moved
        for link in list(self._connections.values()):
            sent, received = sent + link.bytes_sent, received + link.bytes_received
        return sent, received

    @property
    def submitted(self) -> int:
        """Calls that are queued and have not reached the pool."""
        return 0 if self._inert else sum(calls.size for calls in list(self._queue.submitted))

    def become_inert(self) -> None:
        """This process is a fork: the workers and the calls are its parent's."""
        self._inert = True
        self._workers, self._connections = {}, {}
        self.tally = Tally()
