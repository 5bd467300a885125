"""Failed calls that wait for their retry.

Thread: turn holder.
Guarantees: a call that waits here holds no slot; a cancelled call is never handed out.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from ...options import INITIAL_BACKOFF, Backoff
from ..work.batch import RETRYING, Batch, Call

#: Longest wait before a retry, in seconds, however often the call has failed.
MAX_BACKOFF = 60.0


def delay(backoff: Backoff, retry: int, random: Callable[[], float]) -> float:
    """Seconds to wait before a call's ``retry``-th retry (from 1), unless its worker has said so.

    The wait doubles each time, less a random part of up to a half, so that calls that failed
    together, because a server was down, do not come back together. (This is "equal jitter" in Marc
    Brooker's "Exponential Backoff and Jitter".)
    """
    if callable(backoff):
        backoff = INITIAL_BACKOFF  # it was not asked: the call's time was up
    longest = min(MAX_BACKOFF, backoff * 2.0 ** min(retry - 1, 64))
    return longest * (0.5 + random() / 2)


class Retries:
    """Calls, ordered by when they are due."""

    def __init__(self) -> None:
        # May contain calls that were cancelled meanwhile: they are skipped when they come up.
        self._due: list[tuple[float, int, Batch, int]] = []
        self._order = itertools.count()  # breaks ties: batches cannot be compared
        # Invariant: how many of the calls are RETRYING.
        self.count = 0

    @property
    def next_due(self) -> float | None:
        """When the next call is due; None if none waits."""
        return self._due[0][0] if self.count else None

    def add(self, batch: Batch, place: int, due: float) -> None:
        """Keep a call until ``due``."""
        batch.park(place, RETRYING)
        heapq.heappush(self._due, (due, next(self._order), batch, place))
        self.count += 1

    def take(self, now: float) -> list[Call]:
        """Hand out the calls that are due."""
        calls: list[Call] = []
        while self._due and self._due[0][0] <= now:
            _, _, batch, place = heapq.heappop(self._due)
            if batch.states[place] == RETRYING:
                calls.append((batch, place))
        self.forget(len(calls))
        return calls

    def clear(self) -> list[Call]:
        """Hand out all calls."""
        return self.take(float("inf"))

    def forget(self, count: int) -> None:
        """``count`` of the calls do not wait here any more."""
        self.count -= count
        if not self.count:
            self._due.clear()  # a batch of which no call waits may hold much memory
