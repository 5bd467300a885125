"""Calls that wait for something else than a free worker.

Runs on: the I/O thread, as part of the pool.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .batch import Batch

#: A call, by batch and place.
Call = tuple[Batch, int]


class Aside:
    """A set of such calls. A subclass keeps them in its own order, where those that were cancelled
    meanwhile may stay until they come up."""

    def __init__(self) -> None:
        # Invariant: the ids of the calls that wait here and were not cancelled.
        self._waiting: set[int] = set()

    @property
    def count(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def cancel(self, batch: Batch, places: Collection[int]) -> list[int]:
        """Forget those calls of ``batch`` that wait here; their places."""
        if not self._waiting:
            return []
        found = [place for place in places if batch.first + place in self._waiting]
        self._waiting.difference_update(batch.first + place for place in found)
        return found

    def _wanted(self, calls: Iterable[Call]) -> list[Call]:
        """Those that were not cancelled."""
        return [(batch, place) for batch, place in calls if batch.first + place in self._waiting]
