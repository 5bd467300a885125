"""What an executor did over time, in a bounded amount of memory: for plots and reports.

Thread: the I/O thread samples, in a turn, while there are calls; any thread reads copies.
Guarantees: a run of any length is told in as many samples: when there are too many, every other one
is dropped, and from then on they are taken half as often. Who reads adds none.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, NamedTuple

from ...process import Process
from ...wire.wording import call_text

if TYPE_CHECKING:
    from .snapshot import Snapshot

#: How many samples there may be; fewer, if that were more than so many of single workers, but at
#: least so many.
_MOST, _MOST_WORKERS, _LEAST = 600, 16_000, 20
#: How many of the calls that ran for longest are remembered.
_SLOWEST = 20


class WorkerSample(NamedTuple):
    """One worker at one time. See ``WorkerStats``; the first is its number, by which it is told
    from others that had the same pid."""

    worker: int
    running: int
    queued: int
    busy: float
    hub_lag: float
    rss: int
    lane: str
    node: str = ""


class Sample(NamedTuple):
    """An executor at one time, in monotonic seconds. See ``ExecutorStats``."""

    at: float
    submitted: int
    finished: int
    failed: int
    retried: int
    timed_out: int
    cancelled: int
    lost: int
    pending: int
    workers: tuple[WorkerSample, ...]


class SlowCall(NamedTuple):
    """A call that was seen running for so many seconds."""

    seconds: float
    call: str
    process: Process


class _Seen(NamedTuple):
    """The same, not yet in words: an argument's ``__repr__`` is the user's, and may take its time,
    so it is called for who reads and never in a turn."""

    seconds: float
    function: str
    arguments: tuple[Any, ...] | None
    process: Process


class History:
    """One executor's."""

    def __init__(self, snapshot: Snapshot, every: float) -> None:
        self._snapshot = snapshot
        self._samples: list[Sample] = []
        self._latest: Sample | None = None
        #: How often samples are to be taken at most, in seconds.
        self.every = every
        self._slow: dict[int, _Seen] = {}

    def samples(self) -> list[Sample]:
        """The samples so far, and how it was at the last look."""
        samples, latest = list(self._samples), self._latest
        if latest is not None and not (samples and samples[-1].at >= latest.at):
            samples.append(latest)
        return samples

    def slowest(self) -> list[SlowCall]:
        """The calls that were seen to run for longest, the longest first."""
        seen = sorted(self._slow.values(), key=lambda each: each.seconds, reverse=True)
        return [
            SlowCall(each.seconds, call_text(each.function, each.arguments), each.process)
            for each in seen
        ]

    def sample(self, now: float) -> None:
        """Take a sample."""
        self._samples.append(self._look(now))
        workers = max(1, len(self._samples[-1].workers))
        if len(self._samples) > min(_MOST, max(_LEAST, _MOST_WORKERS // workers)):
            left = self._samples = self._samples[::2]
            self.every = (left[-1].at - left[0].at) / (len(left) - 1)

    def look(self, now: float) -> None:
        """See how it is: the last of the samples until then."""
        self._latest = self._look(now)

    def _look(self, now: float) -> Sample:
        for (batch, place), seconds, process in self._snapshot.longest(now):
            call = batch.first + place
            seen = self._slow.get(call)
            arguments = batch.plain(place) if seen is None else seen.arguments
            self._slow[call] = _Seen(seconds, batch.function.name, arguments, process)
        if len(self._slow) > _SLOWEST:
            kept = heapq.nlargest(_SLOWEST, self._slow.items(), key=lambda each: each[1].seconds)
            self._slow = dict(kept)
        return sample(self._snapshot, now)


def sample(snapshot: Snapshot, now: float) -> Sample:
    """How it is. What the I/O thread has not looked at yet does not count: that may be a million
    calls, and to go through them takes long."""
    tally = snapshot.tally
    workers: list[WorkerSample] = []
    for worker in snapshot.workers():
        page = worker.page
        try:
            running = max(0, worker.running)
            queued = max(0, len(worker.in_flight) - running)
            lag = snapshot.hub_lag(worker, now)
            busy = snapshot.busy(worker, now)
            lane = worker.crew.lane
            node, resident = worker.process.node, page.resident
            workers.append(
                WorkerSample(worker.id, running, queued, busy, lag, resident, lane, node)
            )
        except ValueError:  # it has just ended, and its page was unmapped
            continue
    return Sample(
        now,
        tally.submitted,
        tally.finished,
        tally.failed,
        tally.retried,
        tally.timed_out,
        tally.cancelled,
        tally.lost,
        snapshot.waiting,
        tuple(workers),
    )
