"""Collects events of calls, for those who listen. The tally tells it whatever it counts.

Thread: turn holder.
Guarantees: what is kept until it is taken grows with the number of functions, workers and different
errors, not with that of calls.

While nobody wants them there is no emitter (see :attr:`.tally.Tally.emitter`), nothing is built,
and this module and :mod:`hybridexec.events` are not even loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...events import (
    KINDS,
    CallsCancelled,
    CallsFailed,
    CallsFinished,
    CallsLost,
    CallsRetried,
    CallsStarted,
    CallsSubmitted,
    CallsTimedOut,
    Event,
    made,
)
from ...process import Process
from ...wire import messages
from ..work.batch import PACKED, Batch, Call, Ended, Loss
from .worker import Worker

_RANK = {kind: rank for rank, kind in enumerate(KINDS)}


class Emitter:
    """Collects events until they are taken."""

    def __init__(self, workers: Mapping[int, Worker]) -> None:
        """
        Args:
            workers: those there are. What they have started by now is not told.
        """
        # How many calls went which way: by the kind of the event, and its fields after the count
        # (as for ``made``).
        self._calls: Counter[tuple[Any, ...]] = Counter()
        # The first traceback of each of those that failed.
        self._traces: dict[tuple[Any, ...], str] = {}
        # How many calls a worker had taken when it was looked at last.
        self._taken = {worker.id: worker.taken for worker in workers.values()}

    def take(self, now: float) -> list[Event]:
        """The events since the last time."""
        calls, self._calls = self._calls, Counter()
        traces, self._traces = self._traces, {}
        events: list[Event] = []
        for key in sorted(calls, key=lambda key: _RANK[key[0]]):
            more = (traces[key],) if key in traces else ()
            events.append(made(key[0], now, calls[key], *key[1:], *more))
        return events

    def submitted(self, batch: Batch) -> None:
        """The calls of a batch have entered the pool."""
        self._calls[CallsSubmitted, batch.function.name] += batch.size

    def started(self, workers: Iterable[Worker]) -> None:
        """See how many calls these workers have taken."""
        for worker in workers:
            # It takes back what it has counted if it finds that it is held: that is told once.
            before, taken = self._taken.get(worker.id, 0), worker.taken
            if taken > before:
                self._taken[worker.id] = taken
                self._calls[CallsStarted, worker.process] += taken - before

    def retried(self, call: Call, process: Process, error: str, text: str) -> None:
        """A call is to run again, because of an error."""
        self._calls[CallsRetried, call[0].function.name, process, error, text] += 1

    def finished(self, batch: Batch, count: int, process: Process) -> None:
        """Calls have returned plain values."""
        self._calls[CallsFinished, batch.function.name, process] += count

    def cancelled(self, batch: Batch, count: int) -> None:
        """Calls were cancelled, and their sink knows or hears of that by another way."""
        if count:
            self._calls[CallsCancelled, batch.function.name] += count

    def ended(self, batch: Batch, outcomes: Sequence[Ended]) -> None:
        """Calls have ended with these outcomes."""
        function = batch.function.name
        for _, status, value, _, process, _ in outcomes:
            if status in (messages.VALUE, messages.PICKLED, PACKED):
                self._calls[CallsFinished, function, process] += 1
            elif status == messages.ERROR:
                _, trace, _, error, text = value
                key = (CallsFailed, function, process, error, text)
                self._calls[key] += 1
                self._traces.setdefault(key, trace)
            elif status == messages.TIMED_OUT:
                self._calls[CallsTimedOut, function, process] += 1
            elif status == messages.CANCELLED:
                self._calls[CallsCancelled, function] += 1
            else:
                lost = value.error if type(value) is Loss else value
                self._calls[CallsLost, function, process, type(lost).__name__, str(lost)] += 1

    def worker_ended(self, worker: Worker) -> None:
        """It is gone."""
        self.started((worker,))
        self._taken.pop(worker.id, None)
