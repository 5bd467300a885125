"""Puts together what ``stats()`` returns.

Thread: any, without a lock: each number was true a moment ago.
Guarantees: no message is sent, and no worker waited for: all is in memory, the workers' status
pages included.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ... import native
from ...stats import (
    Durations,
    ExecutorStats,
    LaneStats,
    NodeStats,
    Restart,
    RunningCall,
    WorkerStats,
)
from ...wire.histogram import Histogram
from ..pool.worker import Worker

if TYPE_CHECKING:
    from .link import Node
    from .snapshot import Snapshot


def stats(snapshot: Snapshot) -> ExecutorStats:
    """The statistics of an engine."""
    now = native.monotonic()
    told: list[WorkerStats] = []
    tally = snapshot.tally
    runs, waits = histograms(snapshot)
    sent, received = snapshot.bytes_moved()
    for worker in snapshot.workers():
        try:
            told.append(_worker(snapshot, worker, now))
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
        tuple(
            Restart(now - at, process.pid, cause, process.node)
            for at, process, cause in list(tally.last_restarts)
        ),
        sent,
        received,
        tuple(
            RunningCall(batch.text(place), seconds, process.pid, process.node)
            for (batch, place), seconds, process in snapshot.longest(now)
        ),
        snapshot.logs_dropped,
        tally.idle_ends,
        {lane: _lane(snapshot, lane, told) for lane in list(tally.lanes)},
        snapshot.limited,
        tuple(_node(snapshot, node, told) for node in snapshot.nodes()),
    )


def _lane(snapshot: Snapshot, lane: str, workers: list[WorkerStats]) -> LaneStats:
    counts = snapshot.tally.lanes[lane]
    ours = [worker for worker in workers if worker.lane == lane]
    return LaneStats(
        len(ours),
        sum(worker.running for worker in ours),
        sum(worker.queued for worker in ours) + snapshot.waiting_in(lane),
        counts.submitted,
        counts.finished,
        counts.failed,
        counts.retried,
        counts.timed_out,
        counts.cancelled,
        counts.lost,
    )


def _node(snapshot: Snapshot, node: Node, workers: list[WorkerStats]) -> NodeStats:
    ours = [worker for worker in workers if worker.node == node.name]
    done, failed, cpu_seconds = snapshot.tally.gone.get(node.name, (0, 0, 0.0))
    return NodeStats(
        node.name,
        node.address,
        len(ours),
        node.places,
        sum(worker.running for worker in ours),
        sum(worker.queued for worker in ours),
        done + sum(worker.done for worker in ours),
        failed + sum(worker.failed for worker in ours),
        sum(worker.rss for worker in ours),
        cpu_seconds + sum(worker.cpu_seconds for worker in ours),
        node.round_trip,
        node.leaving,
    )


def histograms(snapshot: Snapshot) -> tuple[Histogram, Histogram]:
    """For how long calls have run, and waited."""
    runs, waits = snapshot.tally.run_seconds, snapshot.tally.wait_seconds
    for worker in snapshot.workers():
        with contextlib.suppress(ValueError):
            runs += worker.page.run_seconds
            waits += worker.page.wait_seconds
    return runs, waits


def _worker(snapshot: Snapshot, worker: Worker, now: float) -> WorkerStats:
    page = worker.page
    running = max(0, worker.running)
    return WorkerStats(
        worker.pid,
        worker.state.value,
        running,
        max(0, len(worker.in_flight) - running),
        worker.done,
        worker.failed,
        snapshot.hub_lag(worker, now),
        snapshot.current(worker.id),
        len(worker.deadlines.abandoned),
        snapshot.busy(worker, now),
        page.resident,
        page.cpu_seconds,
        snapshot.age(worker.id, now),
        worker.crew.lane,
        worker.process.node,
    )


def _durations(histogram: Histogram) -> Durations:
    count = histogram.count
    mean = histogram.total / count if count else 0.0
    p50, p90, p99 = histogram.quantiles(0.5, 0.9, 0.99)
    return Durations(count, mean, p50, p90, p99, histogram.largest)
