"""A snapshot of what an executor is doing, and what it has done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


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
        busy: for which share of the last seconds its hub was held, from 0 to 1: a call computed, or
            waited in a way that keeps all others from running. Near 1, more concurrency does not
            help, and more workers may.
        rss: its memory in RAM, in bytes, as it was up to a second ago; 0 if that is not known.
        cpu_seconds: CPU time that it has used.
        age: seconds since its process was started.
        lane: which calls it runs: those of ``"greenlet"``, ``"async"`` or ``"thread"``.
        node: the name of its machine, if that is a node of a cluster; empty if it is this one, and
            while the worker is being started.
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
    busy: float = 0.0
    rss: int = 0
    cpu_seconds: float = 0.0
    age: float = 0.0
    lane: str = "greenlet"
    node: str = ""


@dataclass(frozen=True, slots=True)
class NodeStats:
    """A machine on which a ``ClusterExecutor`` has workers.

    Attributes:
        name: that of its Dask worker.
        address: that of its Dask worker.
        workers: how many workers it has now.
        places: how many workers of each lane it has at most.
        running: calls that its workers are running.
        queued: calls that they were sent and have not started.
        done: calls that have ended there so far, in workers that are gone, too.
        failed: how many of these raised an exception.
        rss: its workers' memory in RAM, in bytes.
        cpu_seconds: CPU time that its workers have used so far, those that are gone, too.
        round_trip: seconds that a message took last to it and back; None if that is not known yet.
        leaving: whether it is about to go, and gets no more calls.
    """

    name: str
    address: str
    workers: int
    places: int
    running: int
    queued: int
    done: int
    failed: int
    rss: int
    cpu_seconds: float
    round_trip: float | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something has taken, over all calls, in seconds; all are 0 if there was none.

    They come from a histogram of constant size: percentiles are off by up to a sixteenth.

    Attributes:
        count: how many calls that were.
        mean: the mean.
        p50: half of them took no longer than this.
        p90: nine tenths of them took no longer.
        p99: 99 of 100 took no longer.
        max: the longest.
    """

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True)
class Restart:
    """A worker that another has replaced, or is to.

    Attributes:
        age: how many seconds ago it ended.
        pid: its process id; None if its process could not be started.
        cause: ``"max_tasks_per_child"``, ``"max_memory_per_child"``, ``"abandoned"`` (cancelled
            calls went on in its threads), or how it was lost, in words:
            ``"killed by SIGKILL"``, ``"exit code 3"``.
        node: the name of its machine; empty if it is this one.
    """

    age: float
    pid: int | None
    cause: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call that is running.

    Attributes:
        call: its function and arguments, in a few words.
        seconds: for how long it has been running.
        pid: its worker's.
        node: the name of its worker's machine; empty if it is this one.
    """

    call: str
    seconds: float
    pid: int | None
    node: str = ""


@dataclass(frozen=True, slots=True)
class LaneStats:
    """The calls of one lane; the numbers mean what those of :class:`ExecutorStats` do.

    Attributes:
        workers: how many workers run calls of this lane.
        running: running calls.
        queued: calls that have not started, wherever they wait.
        submitted: calls that the executor's own thread has taken so far.
        finished: those that have returned.
        failed: those that have raised.
        retried: runs that were, or will be, followed by another of that call.
        timed_out: calls that ended because their ``timeout`` was up.
        cancelled: those that were cancelled.
        lost: those that ended because their worker had, or because no call could run any more.
    """

    workers: int
    running: int
    queued: int
    submitted: int
    finished: int
    failed: int
    retried: int
    timed_out: int
    cancelled: int
    lost: int


@dataclass(frozen=True, slots=True)
class ExecutorStats:
    """A whole executor.

    Those calls that have not ended are ``submitted - finished - failed - timed_out - cancelled -
    lost``.

    Attributes:
        workers: one entry per worker.
        pending: calls that were not sent to a worker yet, and may be.
        submitted: calls so far.
        finished: those that have returned.
        failed: those that have raised.
        retried: runs that came to nothing and were, or will be, followed by another of that call.
        timed_out: calls that ended because their ``timeout`` was up.
        cancelled: those that were cancelled.
        lost: those that ended because their worker had, or because no call could run any more.
        calls_per_second: calls that ended per second, in the last ten seconds.
        run_seconds: how long runs of calls took. (Calls that never wait and end within a few
            milliseconds of one another are measured together, and count as equally long.)
        wait_seconds: for how long calls had waited until they ran, since the executor took them.
        restarts: workers that had to be replaced.
        last_restarts: the last ten of them, the latest last.
        bytes_sent: bytes of calls, to the workers.
        bytes_received: bytes of results.
        slowest: the ten calls that have been running for longest, the longest first.
        logs_dropped: log records of workers that were dropped, because there were too many for this
            process's handlers.
        idle_ends: workers that have ended because they had had no calls for ``idle_timeout``.
        lanes: the same by lane, of those lanes that have had calls.
        limited: calls that wait because of the ``rate``, ``per_key`` or ``rate_per_key`` of their
            options.
        nodes: the machines that have the workers, if they are nodes of a cluster; else empty. Only
            those to which there is a connection.
    """

    workers: tuple[WorkerStats, ...]
    pending: int
    submitted: int = 0
    finished: int = 0
    failed: int = 0
    retried: int = 0
    timed_out: int = 0
    cancelled: int = 0
    lost: int = 0
    calls_per_second: float = 0.0
    run_seconds: Durations = dataclasses.field(default_factory=Durations)
    wait_seconds: Durations = dataclasses.field(default_factory=Durations)
    restarts: int = 0
    last_restarts: tuple[Restart, ...] = ()
    bytes_sent: int = 0
    bytes_received: int = 0
    slowest: tuple[RunningCall, ...] = ()
    logs_dropped: int = 0
    idle_ends: int = 0
    lanes: dict[str, LaneStats] = dataclasses.field(default_factory=dict)
    limited: int = 0
    nodes: tuple[NodeStats, ...] = ()

    @property
    def running(self) -> int:
        """Running calls, in all workers."""
        return sum(worker.running for worker in self.workers)

    @property
    def queued(self) -> int:
        """Calls that have not started, wherever they wait."""
        return self.pending + self.limited + sum(worker.queued for worker in self.workers)

    @property
    def abandoned(self) -> int:
        """Running calls that were cancelled or timed out and do not end, in all workers."""
        return sum(worker.abandoned for worker in self.workers)

    def as_dict(self) -> dict[str, Any]:
        """All of it, ``running``, ``queued`` and ``abandoned`` too, in dicts, lists, numbers and
        texts, as JSON has them."""
        sums = {name: getattr(self, name) for name in ("running", "queued", "abandoned")}
        fields = dataclasses.asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in {**sums, **fields}.items()
        }
