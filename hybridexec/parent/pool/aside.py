"""Calls that wait for something else than a free worker.

Runs on: whoever has the engine's turn, as part of the pool.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable

from ..work.batch import Batch

#: A call, by batch and place.
Call = tuple[Batch, int]


class Aside(ABC):
    """A set of such calls. A subclass keeps them in its own order, where those that were cancelled
    meanwhile may stay until they come up, or until no other waits."""

    def __init__(self) -> None:
        # Invariant: the ids of the calls that wait here and were not cancelled.
        self._ids: set[int] = set()

    @property
    def count(self) -> int:
        """How many calls wait."""
        return len(self._ids)

    def cancel(self, batch: Batch, places: Collection[int]) -> list[int]:
        """Forget those calls of ``batch`` that wait here; their places."""
        if not self._ids:
            return []
        found = [place for place in places if batch.first + place in self._ids]
        self._leave(batch.first + place for place in found)
        return found

    def _leave(self, calls: Iterable[int]) -> None:
        """These calls do not wait here any more."""
        self._ids.difference_update(calls)
        if not self._ids:
            self._let_go()

    @abstractmethod
    def _let_go(self) -> None:
        """Keep nothing: a batch that nobody needs any more may hold much."""

    def _wanted(self, calls: Iterable[Call]) -> list[Call]:
        """Those that were not cancelled."""
        return [(batch, place) for batch, place in calls if batch.first + place in self._ids]
