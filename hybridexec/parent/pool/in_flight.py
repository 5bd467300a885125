"""The calls that a worker was sent and has not answered.

Thread: turn holder; any thread may look up a single call, or read the count.
Guarantees: each call is in it once; :meth:`InFlight.calls` returns them in the order sent.

Calls are sent as spans of a batch, and short ones are answered in rows. A row with which a span
begins is removed by raising the span's lower bound, however many calls it has. The first answer of
another kind breaks its batch's spans up into single calls.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter

from ..work.batch import ID_BITS, Batch


class _Span:
    """Calls of a batch, from one id up to another, that were sent together."""

    __slots__ = ("batch", "high", "low", "order")

    def __init__(self, batch: Batch, low: int, high: int, order: int) -> None:
        self.batch = batch
        self.low = low
        self.high = high
        #: Grows with each span sent.
        self.order = order


class InFlight:
    """A worker's unanswered calls."""

    def __init__(self) -> None:
        # Invariant: a call is in one span of _spans, or in _singles.
        self._spans: dict[int, list[_Span]] = {}  # by the upper bits of the calls' ids
        # By id: the order of the span in which the call was sent, and the batch.
        self._singles: dict[int, tuple[int, Batch]] = {}
        #: How many calls there are.
        self.count = 0
        self._orders = 0  # spans so far

    def __len__(self) -> int:
        return self.count

    def __contains__(self, call: int) -> bool:
        return self.get(call) is not None

    def add(self, batch: Batch, low: int, high: int) -> None:
        """Add the calls of ``batch`` from place ``low`` up to ``high``: they are being sent."""
        self.count += high - low
        self._orders += 1
        first = batch.first
        if high - low == 1:
            self._singles[first + low] = self._orders, batch
        else:
            span = _Span(batch, first + low, first + high, self._orders)
            self._spans.setdefault(first >> ID_BITS, []).append(span)

    def get(self, call: int) -> Batch | None:
        """The batch of a call; None if it is not here."""
        single = self._singles.get(call)
        if single is not None:
            return single[1]
        for span in self._spans.get(call >> ID_BITS, ()):
            if span.low <= call < span.high:
                return span.batch
        return None

    def those_of(self, batch: Batch, places: Collection[int]) -> list[int]:
        """Those of the calls of ``batch`` at ``places`` that are here."""
        first = batch.first
        if len(places) <= self.count:
            return [first + place for place in places if first + place in self]
        mine = [call for call, (_, other) in self._singles.items() if other is batch]
        for span in self._spans.get(first >> ID_BITS, ()):
            mine += range(span.low, span.high)
        return [call for call in mine if call - first in places]

    def pop(self, call: int) -> Batch:
        """Remove a call and return its batch."""
        single = self._singles.pop(call, None)
        if single is None:
            batch = self._pop_front(call, 1)
            if batch is not None:
                return batch
            self._break_up(call >> ID_BITS)
            single = self._singles.pop(call)
        self.count -= 1
        return single[1]

    def pop_row(self, first: int, count: int) -> Batch:
        """Remove ``count`` calls of a batch, from the id ``first`` on, and return the batch."""
        batch = self._pop_front(first, count)
        if batch is None:
            for call in range(first, first + count):
                batch = self.pop(call)
        assert batch is not None
        return batch

    def _pop_front(self, first: int, count: int) -> Batch | None:
        """As :meth:`pop_row` if a span begins with these calls; else None."""
        key = first >> ID_BITS
        spans = self._spans.get(key, [])
        for span in spans:
            if span.low == first and first + count <= span.high:
                self.count -= count
                span.low += count
                if span.low == span.high:
                    spans.remove(span)
                    if not spans:
                        del self._spans[key]
                return span.batch
        return None

    def calls(self) -> list[tuple[int, Batch]]:
        """All calls and their batches, in the order in which they were sent."""
        everything = [(order, call, batch) for call, (order, batch) in self._singles.items()]
        for spans in self._spans.values():
            for span in spans:
                everything += [(span.order, n, span.batch) for n in range(span.low, span.high)]
        everything.sort(key=itemgetter(0, 1))
        return [(call, batch) for _, call, batch in everything]

    def _break_up(self, key: int) -> None:
        for span in self._spans.get(key, ()):
            single = span.order, span.batch
            self._singles.update(dict.fromkeys(range(span.low, span.high), single))
        self._spans.pop(key, None)
