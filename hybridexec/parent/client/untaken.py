"""Outcomes of a fed stream that have arrived and were not taken yet.

Thread: any, under the stream's lock; :meth:`Untaken.gather` when no more can come, and
:meth:`Untaken.forget` in a finalizer, without it.
Guarantees: each outcome is handed out once, in the order of the items if that was asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ..work.batch import Ended, Values
from ..work.decode import decode
from .packing import opened
from .streams import size

#: A value and None, or None and an error.
Outcome = tuple[Any, BaseException | None]


class Untaken:
    """Those of one stream."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._next = 0  # ordered: the place of the one that comes after those that are ready
        self._by_place: dict[int, Ended | Values] = {}  # ordered: until their turn
        self._ready: deque[Ended | Values] = deque()
        self._single: deque[Ended] = deque()  # those before them
        self._forgotten = False

    def __bool__(self) -> bool:
        return bool(self._single or self._ready)

    def add(self, entries: Sequence[Ended | Values]) -> None:
        """Some have come."""
        if self._forgotten:
            return
        if not self._ordered:
            self._ready += entries
            return
        by_place = self._by_place
        for entry in entries:
            by_place[entry[0]] = entry
        while (following := by_place.pop(self._next, None)) is not None:
            self._ready.append(following)
            self._next += size(following)

    def take(self) -> Ended:
        """Take the first one, for :func:`decoded`; there must be one."""
        while not self._single:
            entry = self._ready.popleft()
            if isinstance(entry, Values):
                self._single += entry.singly()
            else:
                self._single.append(entry)
        return self._single.popleft()

    def gather(self) -> Outcome:
        """All values, or the first error."""
        values: list[Any] = []
        for entry in self._ready:
            packed = isinstance(entry, Values) and entry.prelude is not None
            for part in opened(entry) if packed else (entry,):  # type: ignore[arg-type]  # packed
                if isinstance(part, Values):
                    values += part.values
                    continue
                value, error = decoded(part)
                if error is not None:
                    return None, error
                values.append(value)
        return values, None

    def forget(self) -> None:
        """Drop them, and those to come."""
        self._forgotten = True
        self._by_place, self._ready, self._single = {}, deque(), deque()


def decoded(ended: Ended) -> Outcome:
    """What a call has come to."""
    _, status, value, _, process, history = ended
    return decode(status, value, process, history)
