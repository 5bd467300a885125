"""Handles workers' answers: the outcomes of calls, one by one or in rows.

Thread: turn holder.
Guarantees: an answered call is not the worker's any more; its outcome is delivered, or the call is
kept for a retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...wire import messages
from ..work.batch import DROPPED, Batch, Ended, apart
from .ledger import Ledger
from .recovery import Recovery
from .worker import Worker


class Results:
    """Handles the workers' answers."""

    def __init__(self, ledger: Ledger, recovery: Recovery) -> None:
        self._ledger = ledger
        self._recovery = recovery

    def take(
        self,
        worker: Worker,
        results: Sequence[Sequence[Any]],
        rows: Sequence[messages.Row],
        now: float,
    ) -> None:
        """See :meth:`.pool.Pool.results`."""
        for row in rows:
            if not self._row(worker, *row):
                results = [*results, *apart(*row)]
        ledger = self._ledger
        sent = worker.in_flight
        process = worker.process
        worker.done += len(results)
        last: Batch | None = None
        ended: list[Ended] = []
        for call, status, value, seconds in results:
            batch = sent.pop(call)
            if batch is not last:
                if last is not None:
                    ledger.deliver(last, ended)
                last, ended = batch, []
            if batch.options.timeout is not None:
                worker.deadlines.remove(call)
            place = call - batch.first
            if batch.states[place] == DROPPED:
                worker.deadlines.remove(call)
                ledger.ended(batch, place)
                continue
            if status >= messages.ERROR:
                worker.failed += status != messages.CANCELLED
                if self._recovery.try_again(batch, place, status, value, process, now):
                    continue
                if status == messages.RETRIABLE:
                    status, value = messages.ERROR, value[:-1]
            history = batch.histories.get(place) if batch.histories else None
            ended.append((batch.offset + place, status, value, seconds, process, history))
        if last is not None:
            ledger.deliver(last, ended)

    def _row(self, worker: Worker, first: int, values: list[Any], prelude: bytes | None) -> bool:
        """End consecutive calls with values; False if they must be handled one by one."""
        batch = worker.in_flight.get(first)
        assert batch is not None, "only what was sent is answered"
        place, count = first - batch.first, len(values)
        if batch.states.find(DROPPED, place, place + count) >= 0:
            return False
        worker.in_flight.pop_row(first, count)
        worker.done += count
        self._ledger.deliver_row(batch, place, values, prelude, worker.process)
        return True
