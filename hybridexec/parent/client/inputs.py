"""Where the items of a stream come from.

Thread: the consumer's.
Guarantees: a slow iterable is read in small steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from ... import native
from .streams import MAX_BATCH

#: Seconds for which items are read before they are submitted, judging by the time of the last ones.
_READ_SECONDS = 0.005


class Input(Protocol):
    """What a stream reads."""

    #: Whether no more items will come.
    exhausted: bool

    def read(self, room: int) -> list[Any]:
        """The next items, ``room`` at most."""

    def close(self) -> None:
        """No more items are wanted."""


class Iterated:
    """The items of an iterator."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.exhausted = False
        # How many items are read at once. An iterator that knows its length has its items at hand.
        self._pace = MAX_BATCH if hasattr(items, "__length_hint__") else 1

    def read(self, room: int) -> list[Any]:
        """Up to ``room`` items, and no more than take a few milliseconds, judging by the last."""
        count = min(room, self._pace)
        began = native.monotonic()
        chunk = list(islice(self._items, count))
        elapsed = native.monotonic() - began
        self.exhausted = len(chunk) < count
        if elapsed > _READ_SECONDS:
            self._pace = max(1, int(count * _READ_SECONDS / elapsed))
        elif count == self._pace:
            self._pace = min(4 * count, MAX_BATCH)
        return chunk

    def close(self) -> None:
        """See :meth:`Input.close`."""
        self.exhausted = True
