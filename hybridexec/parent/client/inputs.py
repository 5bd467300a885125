"""Where the items of a stream come from.

Thread: the consumer's.
Guarantees: a slow iterable is read in small steps; a frontier gets back the items whose results the
loop did not get.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from ... import native
from ...frontier import Frontier
from ...wire import messages
from ..work.batch import ALL, Ended, Values
from . import stuck
from .streams import MAX_BATCH

if TYPE_CHECKING:
    from .streams import Stream

#: Seconds for which items are read before they are submitted, judging by the time of the last ones.
_READ_SECONDS = 0.005


class Input(Protocol):
    """What a stream reads."""

    #: Whether no more items will come.
    exhausted: bool

    @property
    def news(self) -> bool:
        """Whether items are there that were not when it was read last."""

    @property
    def awaited(self) -> bool:
        """Whether items may come, as ``news``, though no call runs that could bring them."""

    def begin(self, stream: Stream) -> None:
        """A loop begins to fetch the results. (The stream may have read some items by then.)"""

    def read(self, room: int) -> list[Any]:
        """The next items, ``room`` at most; none if there are none now."""

    def handing(self, entries: Sequence[Ended | Values]) -> Iterable[Ended | Values]:
        """The entries, each of which is handed to the loop when it is taken from here."""

    def close(self) -> None:
        """The loop has ended, or the stream reads no more; may come more than once."""


class Iterated:
    """The items of an iterator."""

    news = awaited = False

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.exhausted = False
        # How many items are read at once. An iterator that knows its length has its items at hand.
        self._at_hand = hasattr(items, "__length_hint__")
        self._pace = MAX_BATCH if self._at_hand else 1
        self._read: stuck.Read | None = None
        self._stream: weakref.ref[Stream] | None = None

    def begin(self, stream: Stream) -> None:
        """See :meth:`Input.begin`."""
        if not self._at_hand:
            self._stream = weakref.ref(stream)

    def read(self, room: int) -> list[Any]:
        """Up to ``room`` items, and no more than take a few milliseconds, judging by the last."""
        count = min(room, self._pace)
        chunk: list[Any] = []
        if self._stream is not None and self._read is None:
            self._watch(self._stream())
        if self._read is not None:
            self._read.chunk = chunk
        began = native.monotonic()
        try:
            chunk.extend(islice(self._items, count))
        finally:
            if self._read is not None:
                self._read.chunk = None
        elapsed = native.monotonic() - began
        self.exhausted = len(chunk) < count
        if elapsed > _READ_SECONDS:
            self._pace = max(1, int(count * _READ_SECONDS / elapsed))
        elif count == self._pace:
            self._pace = min(4 * count, MAX_BATCH)
        return chunk

    def _watch(self, stream: Stream | None) -> None:
        # Not for the first items, which cannot wait for results; and workers may be forked by the
        # first call: there should be no other thread yet.
        if stream is not None and stream.submitted:
            self._read = stuck.Read(self._items, stream, Iterated.read.__code__)
            stuck.watch(self._read)

    def handing(self, entries: Sequence[Ended | Values]) -> Iterable[Ended | Values]:
        """See :meth:`Input.handing`."""
        return entries

    def close(self) -> None:
        """See :meth:`Input.close`."""
        self.exhausted = True
        self._stream = None
        if self._read is not None:
            stuck.forget(self._read)


class Found:
    """The items of a frontier."""

    awaited = False

    def __init__(self, frontier: Frontier[Any]) -> None:
        self._frontier = frontier
        self.exhausted = False
        self._begun = False

    @property
    def news(self) -> bool:
        """See :class:`Input`."""
        return len(self._frontier) > 0

    def begin(self, stream: Stream) -> None:
        """See :meth:`Input.begin`.

        Raises:
            RuntimeError: another loop reads the frontier.
        """
        self._frontier.begin(stream.wake)
        self._begun = True

    def read(self, room: int) -> list[Any]:
        """See :meth:`Input.read`."""
        return self._frontier.take(room)

    def handing(self, entries: Sequence[Ended | Values]) -> Iterable[Ended | Values]:
        """See :meth:`Input.handing`."""
        for entry in entries:
            if isinstance(entry, Values):
                for place, value in enumerate(entry.values, entry.first):
                    self._frontier.got(place)
                    yield entry._replace(first=place, values=[value])
            else:
                # If all calls were cancelled at once, the loop gets no results.
                if entry[1:3] != (messages.CANCELLED, ALL):
                    self._frontier.got(entry[0])
                yield entry

    def close(self) -> None:
        """See :meth:`Input.close`."""
        self.exhausted = True
        if self._begun:
            self._begun = False
            self._frontier.end()


def input_of(iterables: Sequence[Iterable[Any]], ordered: bool) -> Input:
    """What a stream over these reads.

    Raises:
        TypeError: one of them cannot be iterated, or is a frontier that it cannot be.
    """
    if len(iterables) != 1:
        return Iterated(zip(*iterables, strict=False))
    (items,) = iterables
    if isinstance(items, Frontier) and not ordered:
        return Found(items)
    return Iterated(iter(items))
