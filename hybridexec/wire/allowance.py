"""How far a streaming call may be ahead of who fetches its items: both ends' arithmetic.

The parent says with :class:`.messages.More` how many of a call's items have been fetched, all in
all. The worker lets a call yield while fewer than its *window* are under way, and not too many
bytes of them.

Thread: the call's, in the worker; whichever fetches an item, in the parent.
Guarantees: no more items than the window are under way, and no more bytes than :data:`MOST_BYTES`
and one item; neither end waits for the other while the other waits for it: the worker may go on as
soon as all that it sent has been fetched, and whoever is about to wait for items says first what
has been fetched.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .payload import Segments

#: Bytes of a call's items under way at which it waits, however few items that are.
MOST_BYTES = 1024 * 1024

_TEXTS = frozenset({str, bytes})


def size_of(item: Any) -> int:
    """The size of an item as it travels, plain or as a payload, in bytes; 0 for a small number."""
    kind = type(item)
    if kind in _TEXTS:
        return len(item)
    if kind is Segments:
        size: int = item.size
        return size
    if kind is tuple:
        return sum(len(each) for each in item if type(each) in _TEXTS)
    return 0


class Allowance:
    """What a call may send: the worker's end."""

    def __init__(self, window: float) -> None:
        """
        Args:
            window: how many items may be under way.
        """
        self._window = window
        self._most_bytes: float = MOST_BYTES
        self.sent = 0
        self.fetched = 0
        # The items under way that have a size: how many were sent when they had been, and the size.
        self._sizes: deque[tuple[int, int]] = deque()
        self._bytes = 0

    @property
    def left(self) -> bool:
        """Whether another item may be sent."""
        return self.sent - self.fetched < self._window and self._bytes < self._most_bytes

    def send(self, size: int) -> None:
        """An item of so many bytes is sent."""
        self.sent += 1
        if size:
            self._sizes.append((self.sent, size))
            self._bytes += size

    def fetch(self, fetched: int) -> None:
        """So many items have been fetched, all in all."""
        self.fetched = fetched
        while self._sizes and self._sizes[0][0] <= fetched:
            self._bytes -= self._sizes.popleft()[1]

    def lift(self) -> None:
        """From now on, send as many as there are: nobody fetches them."""
        self._window = self._most_bytes = float("inf")


class Fetched:
    """What has been fetched, and what the worker was told of it: the parent's end."""

    def __init__(self, window: int) -> None:
        self._step = max(1, window // 2)
        self.count = 0
        self._told = 0
        self._bytes = 0  # of the items that it was not told of

    def fetch(self, size: int) -> bool:
        """An item of so many bytes is fetched; whether the worker should be told, so that it need
        not wait."""
        self.count += 1
        self._bytes += size
        return self.count - self._told >= self._step or 2 * self._bytes >= MOST_BYTES

    def tell(self) -> int:
        """What to tell the worker; 0 if it knows."""
        if self.count == self._told:
            return 0
        self._told = self.count
        self._bytes = 0
        return self.count
