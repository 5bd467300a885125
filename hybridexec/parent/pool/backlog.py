"""The backlog: calls that wait for any worker, in the order in which they will be sent.

Thread: turn holder.
Guarantees: calls that came back from a worker go before all others; a cancelled call is never
handed out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from ..work.batch import ENDED, WAITING, Batch

#: Calls of a batch, from one place up to another.
Span = tuple[Batch, int, int]


class Backlog:
    """A queue of calls, handed out as spans of their batches."""

    def __init__(self) -> None:
        # First spans that came back, then batches from their `next` on, and spans of others.
        # Cancelled places stay in both, and are skipped when their turn comes.
        self._returned: deque[Span] = deque()
        self._batches: deque[Batch | Span] = deque()
        # Invariant: the number of waiting calls, without cancelled ones.
        self.count = 0

    def add(self, batch: Batch) -> None:
        """Append a new batch."""
        self._batches.append(batch)
        self.count += batch.size

    def put_back(self, calls: Iterable[tuple[Batch, int]]) -> None:
        """Put calls, by batch and place, before all others, in this order."""
        self._returned.extendleft(reversed(self._spans_of(calls)))

    def append(self, calls: Iterable[tuple[Batch, int]]) -> None:
        """Put calls, by batch and place, after all others, in this order."""
        self._batches.extend(self._spans_of(calls))

    def _spans_of(self, calls: Iterable[tuple[Batch, int]]) -> list[Span]:
        spans: list[Span] = []
        for batch, place in calls:
            batch.wait(place)
            self.count += 1
            if spans and spans[-1][0] is batch and spans[-1][2] == place:
                spans[-1] = (batch, spans[-1][1], place + 1)
            else:
                spans.append((batch, place, place + 1))
        return spans

    @property
    def weight(self) -> int:
        """The weight of the batch whose call comes next; there must be one."""
        return self._front()[0].weight

    def take(self, count: int) -> list[Span]:
        """Hand out the next calls, up to ``count`` of them, and none of a batch that is heavier
        than the first one's."""
        spans: list[Span] = []
        missing = min(count, self.count)
        weight = self.weight if missing else 0
        while missing:
            batch, low, high = self._front()
            if batch.weight > weight:
                break
            stop = min(high, low + missing)
            cancelled = batch.states.find(ENDED, low, stop)
            stop = stop if cancelled < 0 else cancelled
            batch.send(low, stop)
            self._advance(batch, stop, high)
            spans.append((batch, low, stop))
            missing -= stop - low
            self.forget(stop - low)  # cancelled calls may be left behind it, and no others
        return spans

    def _front(self) -> Span:
        """The first span, from its first call that waits; there must be one. Those before it, of
        which none does, are removed."""
        while True:
            if self._returned:
                batch, low, high = self._returned[0]
            else:
                batch, low, high = _span(self._batches[0])
            first = batch.states.find(WAITING, low, high)
            if first >= 0:
                return batch, first, high
            self._advance(batch, high, high)

    def _advance(self, batch: Batch, stop: int, high: int) -> None:
        """Remove the first span up to ``stop``."""
        if self._returned:
            if stop < high:
                self._returned[0] = (batch, stop, high)
            else:
                self._returned.popleft()
            return
        if type(self._batches[0]) is tuple:
            self._batches[0] = (batch, stop, high)
        else:
            batch.next = stop
        if stop == high:
            self._batches.popleft()

    def forget(self, count: int) -> None:
        """``count`` of the calls do not wait here any more."""
        self.count -= count
        if not self.count:
            self.clear()  # a batch of which no call waits may hold much memory

    def cancel_rest(self, batch: Batch) -> int:
        """End the calls of ``batch`` that were never handed out, together; returns their number."""
        count = batch.end_rest()
        self.forget(count)
        return count

    def clear(self) -> list[Span]:
        """Hand out everything; the spans may include cancelled places."""
        spans = list(self.spans())
        for entry in self._batches:
            if isinstance(entry, Batch):
                entry.next = entry.size
        self._returned.clear()
        self._batches.clear()
        self.count = 0
        return spans

    def spans(self) -> Iterator[Span]:
        """All spans, cancelled places included."""
        yield from self._returned
        yield from map(_span, self._batches)


def _span(entry: Batch | Span) -> Span:
    return entry if isinstance(entry, tuple) else (entry, entry.next, entry.size)
