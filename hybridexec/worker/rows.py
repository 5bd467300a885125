"""Rows: what leaves the worker together, plain results of consecutive calls or a call's items.

Thread: main appends; whichever writes the result pipe takes from the front.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..wire import messages
from ..wire.messages import Result, ToParent

#: The form of a result, which those in a row share: PLAIN, or the prelude if it is a fragment. What
#: is BY_ITSELF is in no row, and nothing has the form of NO_ROW.
PLAIN: Any = None
BY_ITSELF: Any = "by itself"
NO_ROW: Any = "no row"


class Row:
    """Results of calls in a row, on their way out: plain values, or fragments of one prelude.

    Values are appended where they are made; whichever thread writes takes from the front. A row
    is put into the outbox whenever a value is added to none, so none is left behind.
    """

    __slots__ = ("first", "prelude", "values")

    def __init__(self, first: int, prelude: bytes | None = None) -> None:
        self.first = first  # the id of the call that values[0] is the result of
        self.prelude = prelude  # the fragments'; None if the values are plain
        self.values: list[Any] = []

    def take(self, most: int) -> messages.Row:
        """Up to so many values, as they travel."""
        first, values = self.first, self.values[:most]
        del self.values[: len(values)]
        self.first += len(values)
        return first, values, self.prelude


class Yields:
    """Items of one call, on their way out: all plain, or all payloads. See :class:`Row`."""

    __slots__ = ("call", "packed", "values")

    def __init__(self, call: int, packed: bool) -> None:
        self.call = call
        self.packed = packed
        self.values: list[Any] = []

    def take(self) -> list[Any]:
        """Those that are there."""
        values = self.values[:]
        del self.values[: len(values)]
        return values


#: What leaves the worker: a result, a row of them, a call's items, or another message.
Entry = Result | Row | Yields | ToParent
Put = Callable[[Entry], None]
