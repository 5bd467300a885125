"""The record: what an executor did so far, in columns, as plots and tables want it.

Thread: any.
Guarantees: it is bounded, however long the run was; no worker is waited for.

Times are those of the day where this process is, in milliseconds, as bokeh's axes have them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from math import log2, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import native
from ...stats import ExecutorStats, NodeStats
from .lives import Life, lives

if TYPE_CHECKING:
    from ...parent.engine.history import Sample
    from ...parent.engine.watched import Watched

#: Columns by name, all of one length.
Columns = dict[str, list[Any]]

#: The ways in which calls end, in the order in which they are stacked.
OUTCOMES = ("finished", "failed", "timed_out", "cancelled", "lost")
#: What is shown of each worker over time.
SERIES = ("running", "queued", "busy", "hub_lag", "rss")


class Record(NamedTuple):
    """All of it."""

    #: When the executor was made, and the time of the last sample.
    began_at: float
    now: float
    state: str
    stats: ExecutorStats
    #: Calls per second, for each outcome from where to where it is stacked up, and by itself.
    rates: Columns
    #: For each worker, its columns over time.
    workers: Columns
    #: Workers' lives, their ends, and the times when their hubs were blocked.
    lives: Columns
    ends: Columns
    blocked: Columns
    #: How many calls ran for how long, and waited.
    runs: Columns
    waits: Columns
    failures: Columns
    slowest: Columns
    #: The nodes that there are.
    nodes: Columns

    @property
    def has_nodes(self) -> bool:
        """Whether workers are, or were, on nodes of a cluster."""
        return bool(self.nodes["node"]) or any(self.lives["node"])


def record(watched: Watched) -> Record:
    """The record of an executor."""
    clock = _Clock()
    history = watched.history()
    samples = history.samples()
    runs, waits = watched.durations()
    now, stats = samples[-1].at, watched.stats()
    alive = lives(watched.log(), now)
    return Record(
        clock(watched.began_at),
        clock(now),
        watched.state,
        stats,
        _rates(samples, watched.began_at, clock),
        _workers(samples, watched.slots, alive, clock),
        _lives(alive, clock),
        _ends(alive, clock),
        _blocked(alive, clock),
        _durations(runs),
        _durations(waits),
        _failures(watched, clock),
        _columns(
            ("seconds", "call", "pid", "node"),
            ((round(each.seconds, 3), each.call, *each.process) for each in history.slowest()),
        ),
        _nodes(stats.nodes),
    )


class _Clock:
    """Makes times of the day of monotonic ones."""

    def __init__(self) -> None:
        now = time.time()
        self._offset = now - native.monotonic() + time.localtime(now).tm_gmtoff

    def __call__(self, at: float) -> float:
        return round((at + self._offset) * 1000)


def _columns(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Columns:
    columns: Columns = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
    return columns


def _rates(samples: list[Sample], began_at: float, clock: _Clock) -> Columns:
    """Calls per second between a sample and the one before; the first counts from the start."""
    kinds = (*OUTCOMES, "retried")
    bounds = [f"{outcome}_{end}" for outcome in OUTCOMES for end in ("from", "to")]
    columns: Columns = {name: [] for name in ("at", "total", *kinds, *bounds)}
    before: tuple[float, Sequence[int]] = began_at, [0] * len(kinds)
    for sample in samples:
        counts = [getattr(sample, kind) for kind in kinds]
        seconds = sample.at - before[0]
        if seconds <= 0:
            continue
        each = [(count - old) / seconds for count, old in zip(counts, before[1], strict=True)]
        before = sample.at, counts
        if not columns["at"]:  # so that the first step has a beginning
            _add_rates(columns, clock(began_at), kinds, each)
        _add_rates(columns, clock(sample.at), kinds, each)
    return columns


def _add_rates(columns: Columns, at: float, kinds: Sequence[str], rates: Sequence[float]) -> None:
    columns["at"].append(at)
    for kind, rate in zip(kinds, rates, strict=True):
        columns[kind].append(round(rate, 3))
    total = 0.0
    for outcome, rate in zip(OUTCOMES, rates, strict=False):
        columns[f"{outcome}_from"].append(round(total, 3))
        total += rate
        columns[f"{outcome}_to"].append(round(total, 3))
    columns["total"].append(round(total, 3))


def _workers(
    samples: list[Sample], slots: Mapping[str, int], alive: list[Life], clock: _Clock
) -> Columns:
    """A row for each worker, with a list in each column."""
    known = {life.worker: life for life in alive}
    found: dict[int, list[tuple[Any, ...]]] = {}
    for sample in samples:
        at = clock(sample.at)
        for worker in sample.workers:
            rows = found.setdefault(worker.worker, [])
            lag, megabytes = round(worker.hub_lag, 3), round(worker.rss / 1e6, 1) or nan
            # A call counts as running until its result was read, so there may seem to be more.
            running = min(worker.running, slots[worker.lane])
            rows.append((at, running, worker.queued, round(worker.busy, 3), lag, megabytes))
    names = ("worker", "pid", "node", "lane", "line", "at", *SERIES)
    return _columns(
        names,
        (
            (
                worker,
                known[worker].pid if worker in known else None,
                known[worker].node if worker in known else "",
                known[worker].lane if worker in known else "",
                known[worker].line if worker in known else 0,
                *(list(series) for series in zip(*rows, strict=True)),
            )
            for worker, rows in found.items()
        ),
    )


def _lives(alive: list[Life], clock: _Clock) -> Columns:
    return _columns(
        ("worker", "pid", "node", "lane", "line", "start", "ready", "end", "seconds", "cause"),
        (
            (
                life.worker,
                life.pid,
                life.node,
                life.lane,
                life.line,
                clock(life.start),
                clock(life.end if life.ready is None else life.ready),
                clock(life.end),
                round(life.end - life.start, 1),
                life.cause if life.ended else "has not ended",
            )
            for life in alive
        ),
    )


def _ends(alive: list[Life], clock: _Clock) -> Columns:
    return _columns(
        ("worker", "pid", "node", "lane", "line", "at", "lost", "cause"),
        (
            (
                life.worker,
                life.pid,
                life.node,
                life.lane,
                life.line,
                clock(life.end),
                life.lost,
                life.cause,
            )
            for life in alive
            if life.ended
        ),
    )


def _blocked(alive: list[Life], clock: _Clock) -> Columns:
    return _columns(
        ("worker", "pid", "node", "lane", "line", "start", "end", "seconds", "call"),
        (
            (
                life.worker,
                life.pid,
                life.node,
                life.lane,
                life.line,
                clock(start),
                clock(end),
                round(end - start, 1),
                call,
            )
            for life in alive
            for start, end, call in life.blocked
        ),
    )


def _nodes(nodes: Sequence[NodeStats]) -> Columns:
    return _columns(
        (
            *("node", "address", "workers", "places", "running", "queued", "done", "failed"),
            *("cpu", "rss", "round_trip"),
        ),
        (
            (
                node.name + " (leaving)" * node.leaving,
                node.address,
                node.workers,
                node.places,
                node.running,
                node.queued,
                node.done,
                node.failed,
                round(node.cpu_seconds, 1),
                round(node.rss / 1e6, 1),
                nan if node.round_trip is None else round(1000 * node.round_trip, 1),
            )
            for node in nodes
        ),
    )


def _durations(buckets: list[tuple[float, float, int]]) -> Columns:
    """Two buckets in one: what is drawn need not be as fine as what is reckoned with.

    Buckets are not equally wide, on a logarithmic axis either: what counts is their area. So
    ``height`` is what ``count`` would be if this one were a quarter of a doubling wide.
    """
    calls = sum(count for _, _, count in buckets)
    rows = []
    for first in range(0, len(buckets), 2):
        pair = buckets[first : first + 2]
        start, end, count = pair[0][0], pair[-1][1], sum(count for _, _, count in pair)
        height = count / (4 * log2(end / start))
        rows.append((start, end, count, round(height, 1), round(100 * count / calls, 2)))
    return _columns(("start", "end", "count", "height", "percent"), rows)


def _failures(watched: Watched, clock: _Clock) -> Columns:
    """The first to have come up first, so that rows stay where they are."""
    groups = sorted(watched.failures(), key=lambda group: group.first_at)
    return _columns(
        ("count", "error", "text", "place", "function", "last", "pid", "node", "trace"),
        (
            (
                group.count,
                group.error.removeprefix("builtins."),
                group.text,
                group.place,
                group.function,
                clock(group.last_at),
                *(group.process or (None, "")),
                group.trace,
            )
            for group in groups
        ),
    )
