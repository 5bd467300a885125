"""Failed calls that wait for their retry.

Thread: turn holder.
Guarantees: a call that waits here holds no slot; a cancelled call is never handed out.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from ..work.batch import Batch
from .aside import Aside, Call

#: Longest wait before a retry, in seconds, however often the call has failed.
MAX_BACKOFF = 60.0


def delay(backoff: float, retry: int, random: Callable[[], float]) -> float:
    """Seconds to wait before a call's ``retry``-th retry (from 1).

    The wait doubles each time, less a random part of up to a half, so that calls that failed
    together, because a server was down, do not come back together. (This is "equal jitter" in Marc
    Brooker's "Exponential Backoff and Jitter".)
    """
    longest = min(MAX_BACKOFF, backoff * 2.0 ** min(retry - 1, 64))
    return longest * (0.5 + random() / 2)


class Retries(Aside):
    """Calls, ordered by when they are due."""

    def __init__(self) -> None:
        super().__init__()
        # May contain calls cancelled meanwhile: they are skipped when they come up.
        self._due: list[tuple[float, int, Batch, int]] = []
        self._order = itertools.count()  # breaks ties: batches cannot be compared

    @property
    def next_due(self) -> float | None:
        """When the next call is due; None if none waits."""
        return self._due[0][0] if self._ids else None

    def add(self, batch: Batch, place: int, due: float) -> None:
        """Keep a call until ``due``."""
        # In this order: the I/O thread may read `next_due` while a caller holds the turn.
        heapq.heappush(self._due, (due, next(self._order), batch, place))
        self._ids.add(batch.first + place)

    def take(self, now: float) -> list[Call]:
        """Hand out the calls that are due."""
        return self._pop(now)

    def clear(self) -> list[Call]:
        """Hand out all calls."""
        return self._pop(float("inf"))

    def _pop(self, until: float) -> list[Call]:
        calls: list[Call] = []
        while self._due and self._due[0][0] <= until:
            _, _, batch, place = heapq.heappop(self._due)
            if batch.first + place in self._ids:
                self._ids.remove(batch.first + place)
                calls.append((batch, place))
        self._leave(())
        return calls

    def _let_go(self) -> None:
        self._due.clear()
