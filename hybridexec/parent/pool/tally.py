"""The tally: how many calls and workers went which way; and the one place where the pool tells so.

Thread: turn holder; any thread reads the numbers.
Guarantees: whatever adds to :attr:`.ledger.Ledger.unfinished`, or takes from it, is counted here
once, so ``submitted == finished + failed + timed_out + cancelled + lost + unfinished``.

While somebody wants to hear of calls, there is an emitter (:mod:`.emitter`), which is told the
same. While nobody does, there is none, and nothing more is built than the sums.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import WorkerLost
from ...process import Process
from ...wire import histogram, messages
from ..work.batch import PACKED, Batch, Call, Ended, Loss
from .counts import Counts, Lanes, Sum
from .failures import Failures
from .worker import Worker, WorkerState

if TYPE_CHECKING:
    from ...events import Event
    from .emitter import Emitter

#: Over how many seconds the rate of calls is a mean; how often it is marked how many there are, and
#: for how many seconds that is remembered.
_RATE_SECONDS, _MARK_SECONDS, _MARKED_SECONDS = 10.0, 1.0, 60
#: How many restarts are remembered.
_MOST_RESTARTS = 10

#: How much of what has happened to workers is remembered.
_MOST_LOGGED = 2000
#: Names of the classes of events that an emitter tells.
OF_CALLS = frozenset(
    {
        "CallsSubmitted",
        "CallsStarted",
        "CallsRetried",
        "CallsFinished",
        "CallsFailed",
        "CallsTimedOut",
        "CallsCancelled",
        "CallsLost",
    }
)
_RETURNED = frozenset({messages.VALUE, messages.PICKLED, PACKED})


class Tally:
    """One pool's."""

    # How many calls there were, how many ended in which way, and how many runs came to nothing and
    # were followed by another.
    submitted, finished, failed, retried = Sum(), Sum(), Sum(), Sum()
    timed_out, cancelled, lost, ended = Sum(), Sum(), Sum(), Sum()

    def __init__(self) -> None:
        #: Who tells what happens to calls; None while nobody wants to hear of it.
        self.emitter: Emitter | None = None
        #: What else has happened since it was taken: the name of the event's class, and its fields
        #: after the time, as for :func:`hybridexec.events.made`. (The classes take long to load,
        #: and few programs need them.)
        self.happened: list[tuple[Any, ...]] = []
        #: The last of that, with its time before it.
        self.log: deque[tuple[Any, ...]] = deque(maxlen=_MOST_LOGGED)
        #: Retries of calls whose functions have a listener of their own: that, and what it is told.
        self.told_apart: list[tuple[Any, str, Process, str, str]] = []
        #: How calls have failed.
        self.failures = Failures()
        #: How many calls went which way, by lane.
        self.lanes = Lanes()
        #: How many workers have had to be replaced; of the last ones: when, the process, and the
        #: cause.
        self.restarts = 0
        #: How many workers have ended because they were idle.
        self.idle_ends = 0
        self.last_restarts: deque[tuple[float, Process, str]] = deque(maxlen=_MOST_RESTARTS)
        #: The same by what kind of cause they had, of which there are few.
        self.causes: Counter[str] = Counter()
        #: For how long calls have run, and waited, in workers that are gone, and their CPU time.
        self.run_seconds = self.wait_seconds = histogram.Histogram()
        self.cpu_seconds = 0.0
        #: What workers that are gone have done, by node: how many calls have ended, and failed, and
        #: their CPU time.
        self.gone: dict[str, tuple[int, int, float]] = {}
        # How many calls had ended at some times, at least a second apart.
        self._marks: deque[tuple[float, int]] = deque(maxlen=_MARKED_SECONDS + 2)
        self._mark_at = self._now = 0.0
        self._first_at: float | None = None

    def mark(self, now: float) -> None:
        """Some calls are about to end; for :meth:`per_second`."""
        self._now = now
        if now >= self._mark_at:
            self._mark_at = now + _MARK_SECONDS
            self._marks.append((now, self.ended))
            if self._first_at is None:
                self._first_at = now

    def per_second(self, now: float) -> float:
        """How many calls ended per second in the last ten, or since the first one has."""
        if self._first_at is None:
            return 0.0
        since, ended = now - _RATE_SECONDS - _MARK_SECONDS / 2, self.ended
        before = next((count for at, count in self.marks() if at >= since), ended)
        return (ended - before) / max(_MARK_SECONDS, min(_RATE_SECONDS, now - self._first_at))

    def marks(self) -> list[tuple[float, int]]:
        """How many calls had ended at some times, at least a second apart, each just before another
        did; for the last minute at least."""
        return list(self._marks)

    # -- calls ------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """The calls of a batch have entered the pool."""
        batch.crew.counts.submitted += batch.size
        if self.emitter is not None:
            self.emitter.submitted(batch)

    def started(self, workers: Iterable[Worker]) -> None:
        """See how many calls these workers have taken."""
        if self.emitter is not None:
            self.emitter.started(workers)

    def retry(self, call: Call, process: Process, error: str, text: str) -> None:
        """A call is to run again, because of an error."""
        call[0].crew.counts.retried += 1
        call[0].retried += 1
        function = call[0].function
        if function.listener is not None:
            self.told_apart.append((function.listener, function.name, process, error, text))
        if self.emitter is not None:
            self.emitter.retried(call, process, error, text)

    def finish(self, batch: Batch, count: int, process: Process) -> None:
        """Calls have returned plain values."""
        batch.crew.counts.finished += count
        if self.emitter is not None:
            self.emitter.finished(batch, count, process)

    def cancel(self, batch: Batch, count: int) -> None:
        """Calls were cancelled, and their sink knows or hears of that by another way."""
        batch.crew.counts.cancelled += count
        if self.emitter is not None:
            self.emitter.cancelled(batch, count)

    def end(self, batch: Batch, outcomes: Sequence[Ended]) -> None:
        """Calls have ended with these outcomes."""
        counts = batch.crew.counts
        for outcome in outcomes:
            status = outcome[1]
            if status in _RETURNED:
                counts.finished += 1
            elif status == messages.CANCELLED:
                counts.cancelled += 1
            else:
                self._fail(counts, batch.function.name, status, outcome[2], outcome[4])
        if self.emitter is not None:
            self.emitter.ended(batch, outcomes)

    def _fail(
        self, counts: Counts, function: str, status: int, value: Any, process: Process | None
    ) -> None:
        """A call has ended in another way than it should."""
        if status == messages.ERROR:
            counts.failed += 1
            _, trace, _, error, text = value
        elif status == messages.TIMED_OUT:
            counts.timed_out += 1
            error, text, trace = "CallTimeout", f"stopped after {value} s", ""
        else:
            counts.lost += 1
            lost = value.error if type(value) is Loss else value
            error, text, trace = type(lost).__name__, str(lost), ""
        self.failures.note(function, error, text, trace, process, self._now)

    # -- all else ---------------------------------------------------------------------------------

    def take_events(self, now: float, wanted: Collection[str]) -> list[Event]:
        """What has happened since the last time, calls first, of the classes with these names."""
        events: list[Event] = [] if self.emitter is None else self.emitter.take(now)
        happened, self.happened = self.happened, []
        for name, *fields in happened:
            self.log.append((now, name, *fields))
            if name in wanted:
                from ... import events as kinds

                events.append(kinds.made(getattr(kinds, name), now, *fields))
        return events

    def take_apart(self, now: float) -> list[tuple[Any, list[Event]]]:
        """What listeners of functions are told, for each of them."""
        if not self.told_apart:
            return []
        from ...events import CallsRetried, made

        told, self.told_apart = self.told_apart, []
        return [
            (listener, [made(CallsRetried, now, 1, function, process, error, text)])
            for listener, function, process, error, text in told
        ]

    def happen(self, name: str, *fields: object) -> None:
        """Something else has happened.

        Args:
            name: that of the event's class.
            fields: the event's, after the time, as for :func:`hybridexec.events.made`.
        """
        self.happened.append((name, *fields))

    def worker_recycled(self, worker: Worker, cause: str) -> None:
        """It gets no more calls."""
        if cause not in ("quarantine", "resized"):  # whose place nobody takes
            worker.recycled = cause
        self.happen("WorkerRecycled", worker.id, worker.process, cause)

    def worker_rested(self, worker: Worker) -> None:
        """It ends because it has been idle; nobody takes its place before there are calls."""
        self.idle_ends += 1
        self.happen("WorkerRecycled", worker.id, worker.process, "idle_timeout")

    def worker_ended(self, worker: Worker, lost: BaseException, killed: bool, now: float) -> None:
        """It is gone; ``killed``: all were to be."""
        self.run_seconds += worker.page.run_seconds
        self.wait_seconds += worker.page.wait_seconds
        self.cpu_seconds += worker.page.cpu_seconds
        if worker.process.node:
            done, failed, seconds = self.gone.get(worker.process.node, (0, 0, 0.0))
            self.gone[worker.process.node] = (
                done + worker.done,
                failed + worker.failed,
                seconds + worker.page.cpu_seconds,
            )
        planned = killed or (worker.state is WorkerState.STOPPING and not worker.expired)
        cause = worker.recycled if planned else _cause(worker, lost)
        if cause:
            self.restarts += 1
            self.causes[cause if planned else _kind(worker, lost)] += 1
            self.last_restarts.append((now, worker.process, cause))
        if self.emitter is not None:
            self.emitter.worker_ended(worker)
        self.happen("WorkerEnded", worker.id, worker.process, not planned, "" if planned else cause)


def _cause(worker: Worker, lost: BaseException) -> str:
    """How a worker came to its end, in words."""
    if worker.expired:
        return "killed for a call that did not end at its deadline"
    if not isinstance(lost, WorkerLost):
        return str(lost)
    if lost.signal is not None:
        return f"killed by {lost.signal}"
    return "how is unknown" if lost.exitcode is None else f"exit code {lost.exitcode}"


def _kind(worker: Worker, lost: BaseException) -> str:
    """The same in a word: one of ``CAUSES`` in :mod:`hybridexec.metrics`, or a signal's name."""
    if worker.expired:
        return "timeout"
    if not isinstance(lost, WorkerLost):
        return "start"
    return lost.signal or ("unknown" if lost.exitcode is None else "exit")
