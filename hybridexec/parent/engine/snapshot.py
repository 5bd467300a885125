"""What any thread may know of an engine's workers and calls.

Runs on: any thread, without a lock: what is told was true a moment ago.
"""

from __future__ import annotations

import contextlib
from typing import Any

from ..pool.pool import Pool
from ..pool.worker import Worker, WorkerState
from .connection import Link
from .entry_queue import Queue
from .supervisor import Fleet


class Overview:
    """Looks at workers and calls, and changes nothing."""

    def __init__(self, pool: Pool, fleet: Fleet, queue: Queue) -> None:
        self._pool = pool
        self._queue = queue
        self._inert = False
        self._workers = pool.workers
        self._links = fleet.links
        self._fleet = fleet

    def is_running(self, call: int) -> bool:
        """Whether a worker runs this call now."""
        for link in list(self._links.values()):
            with contextlib.suppress(ValueError):  # its page was closed just now
                if call in link.page.running():
                    return True
        return False

    def processes(self) -> dict[int, Any]:
        """The processes of the workers that take calls, by pid."""
        workers = dict(self._workers)
        return {
            link.pid: link.process
            for number, link in list(self._links.items())
            if link.pid is not None
            and number in workers
            and workers[number].state in (WorkerState.STARTING, WorkerState.READY)
        }

    def workers(self) -> list[tuple[Worker, Link | None]]:
        """The pool's workers and their links, for statistics."""
        return [(worker, self._links.get(n)) for n, worker in dict(self._workers).items()]

    def current(self, worker: int) -> str | None:
        """The call that has a worker's CPU; see :meth:`Fleet.current`."""
        return self._fleet.current(worker)

    @property
    def pending(self) -> int:
        """Calls that no worker has yet."""
        return 0 if self._inert else self._pool.pending + self._submitted

    @property
    def unfinished(self) -> int:
        """Calls that have not ended."""
        return 0 if self._inert else self._pool.books.unfinished + self._submitted

    @property
    def _submitted(self) -> int:
        """Calls that the pool does not know of yet."""
        return sum(calls.size for calls in list(self._queue.submitted))

    def become_inert(self) -> None:
        """This process is a fork: the workers and the calls are its parent's."""
        self._inert = True
        self._workers, self._links = {}, {}
