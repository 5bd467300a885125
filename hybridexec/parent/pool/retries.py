"""Failed calls that wait to be tried again.

Runs on: whoever has the engine's turn, as part of the pool.
Guarantees: a call that waits here holds no slot; one that was cancelled is never handed out.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from ..work.batch import Batch
from .aside import Aside, Call

#: However often a call has failed, it is tried again within so many seconds.
MAX_BACKOFF = 60.0


def delay(backoff: float, retry: int, random: Callable[[], float]) -> float:
    """Seconds to wait before a call's ``retry``-th retry (from 1).

    Twice as long each time, less a random part of up to a half: calls that failed together, because
    a server was down, should not come back together. ("Equal jitter", as Marc Brooker's
    "Exponential Backoff and Jitter" names it.)
    """
    longest = min(MAX_BACKOFF, backoff * 2.0 ** min(retry - 1, 64))
    return longest * (0.5 + random() / 2)


class Retries(Aside):
    """Calls, by when they are due."""

    def __init__(self) -> None:
        super().__init__()
        # May hold calls that were cancelled meanwhile: they are skipped when they come up.
        self._due: list[tuple[float, int, Batch, int]] = []
        self._order = itertools.count()  # of two that are due at once, neither batch is compared

    @property
    def next_due(self) -> float | None:
        """When a call is due next; None if none waits."""
        return self._due[0][0] if self._backlog else None

    def add(self, batch: Batch, place: int, due: float) -> None:
        """Keep a call until ``due``."""
        # In this order: where a caller leads, the I/O thread may be asking when the next is due.
        heapq.heappush(self._due, (due, next(self._order), batch, place))
        self._backlog.add(batch.first + place)

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
            if batch.first + place in self._backlog:
                self._backlog.remove(batch.first + place)
                calls.append((batch, place))
        self._leave(())
        return calls

    def _let_go(self) -> None:
        self._due.clear()
