"""Puts together what ``stats()`` returns.

Thread: any, without a lock: each number was true a moment ago.
Guarantees: no message is sent, and no worker waited for: all is in memory, the workers' status
pages included.
"""

from __future__ import annotations

import contextlib
import heapq
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ... import native
from ...stats import Durations, ExecutorStats, Restart, RunningCall, WorkerStats
from ...wire.histogram import Histogram
from ..pool.worker import Worker

if TYPE_CHECKING:
    from .snapshot import Snapshot

#: How many of the running calls are told.
_SLOWEST = 10


def stats(snapshot: Snapshot) -> ExecutorStats:
    """The statistics of an engine."""
    now = native.monotonic()
    told: list[WorkerStats] = []
    running: list[tuple[float, Worker]] = []
    tally = snapshot.tally
    runs, waits = tally.run_seconds, tally.wait_seconds
    sent, received = snapshot.bytes_moved()
    for worker in snapshot.workers():
        try:
            told.append(_worker(snapshot, worker, now))
            runs += worker.page.run_seconds
            waits += worker.page.wait_seconds
            if starts := worker.page.starts():
                running.append((min(starts), worker))
        except ValueError:  # the worker has just ended, and its page was unmapped
            continue
    return ExecutorStats(
        tuple(told),
        snapshot.pending,
        tally.submitted + snapshot.submitted,
        tally.finished,
        tally.failed,
        tally.retried,
        tally.timed_out,
        tally.cancelled,
        tally.lost,
        tally.per_second(now),
        _durations(runs),
        _durations(waits),
        tally.restarts,
        tuple(Restart(now - at, pid, cause) for at, pid, cause in list(tally.last_restarts)),
        sent,
        received,
        tuple(_slowest(running, now)),
    )


def _worker(snapshot: Snapshot, worker: Worker, now: float) -> WorkerStats:
    page = worker.page
    heartbeat = page.heartbeat
    running = max(0, worker.running)
    return WorkerStats(
        worker.pid,
        worker.state.value,
        running,
        max(0, len(worker.in_flight) - running),
        worker.done,
        worker.failed,
        max(0.0, now - heartbeat - 0.1) if heartbeat else 0.0,
        snapshot.current(worker.id),
        len(worker.deadlines.abandoned),
        page.busy,
        page.resident,
        page.cpu_seconds,
        snapshot.age(worker.id, now),
    )


def _durations(histogram: Histogram) -> Durations:
    count = histogram.count
    mean = histogram.total / count if count else 0.0
    p50, p90, p99 = histogram.quantiles(0.5, 0.9, 0.99)
    return Durations(count, mean, p50, p90, p99, histogram.largest)


def _slowest(first: list[tuple[float, Worker]], now: float) -> Iterator[RunningCall]:
    """The calls that have been running for longest.

    Args:
        first: each worker with the start of the first of its running calls.
    """
    found: list[tuple[float, int, Worker]] = []
    # They are in these workers: a look at the first of each of the others was enough.
    for _, worker in heapq.nsmallest(_SLOWEST, first, key=_start):
        with contextlib.suppress(ValueError):
            found += [(since, call, worker) for call, since in worker.page.running().items()]
    for since, call, worker in heapq.nsmallest(_SLOWEST, found, key=_start):
        batch = worker.in_flight.get(call)
        if batch is not None:  # else it has ended
            text = batch.text(call - batch.first)
            yield RunningCall(text, max(0.0, now - since), worker.pid)


_start = operator.itemgetter(0)
