"""A snapshot of what an executor is doing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One worker process.

    Attributes:
        pid: its process id; None while it is being started.
        state: ``"starting"``, ``"ready"``, ``"retiring"`` (finishes its calls, takes no more) or
            ``"stopping"``.
        running: calls it is running.
        queued: calls it was sent and has not started.
        done: calls that have ended in it.
        failed: how many of these raised an exception.
        hub_lag: seconds for which its hub has been overdue: more than a few tenths mean that a call
            keeps the CPU without ever waiting.
        current: the call that has the CPU, in a few words; None if there is none or it is not
            known. It is known in a worker that has run a call with a ``timeout`` or with
            ``on_worker_loss="retry"``, and in one whose hub was found to have been blocked for
            ``hub_lag_warning`` seconds.
        abandoned: running calls that nobody waits for any more, because they were cancelled or
            their time was up, and that have not ended within ``timeout_grace``: each keeps a slot.
    """

    pid: int | None
    state: str
    running: int
    queued: int
    done: int
    failed: int
    hub_lag: float
    current: str | None = None
    abandoned: int = 0


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """A whole executor.

    Attributes:
        workers: one entry per worker.
        pending: calls that were not sent to a worker yet.
    """

    workers: tuple[WorkerStats, ...]
    pending: int

    @property
    def running(self) -> int:
        """Running calls, in all workers."""
        return sum(worker.running for worker in self.workers)

    @property
    def queued(self) -> int:
        """Calls that have not started, wherever they wait."""
        return self.pending + sum(worker.queued for worker in self.workers)

    @property
    def abandoned(self) -> int:
        """Running calls that were cancelled or timed out and do not end, in all workers."""
        return sum(worker.abandoned for worker in self.workers)
