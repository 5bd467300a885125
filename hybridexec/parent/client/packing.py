"""Arguments as fragments, and rows of fragments as values: see :mod:`hybridexec.wire.fragments`.

Thread: callers' threads, and those that iterate results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...wire import fragments, payload
from ..work import session
from ..work.batch import Ended, Values
from ..work.function import Function

#: How many fragments of results are unpickled at once.
_AT_ONCE = 1024


class Packing:
    """How the items of one stream travel."""

    def __init__(self, single: bool) -> None:
        """
        Args:
            single: whether an item is a call's one argument, not a tuple of all.
        """
        self._single = single
        self._packer: fragments.Packer | None = None

    def is_plain(self, items: list[Any]) -> bool:
        """Whether all of them may travel as they are."""
        if self._single:
            return payload.are_all_plain(items)
        return all(type(item) is tuple and payload.are_plain(item) for item in items)

    def pack(self, items: list[Any]) -> tuple[list[Any], bytes | None]:
        """The fragments of those that can be packed, with None in place of the others, and their
        prelude; None if there are no fragments."""
        packer = self._packer
        # A prompt may change this.
        if packer is None or packer.by_value is not session.is_needed():
            packer = self._packer = fragments.Packer(session.is_needed())
        kinds = set(map(type, items))
        # Texts and bytes that are not plain are too large for fragments.
        if kinds <= {bytes, str} or not (self._single or kinds == {tuple}):
            return [None] * len(items), None
        if packer.undecided:
            for item in items[:: len(items) // fragments.SAMPLE or 1]:
                packer.pack(item)
        prelude = packer.prelude
        packed = packer.pack_all(items)
        return packed, prelude if any(packed) else None


def pack_arguments(function: Function, args: tuple[Any, ...]) -> tuple[bytes, bytes] | None:
    """The fragment of a submitted call's arguments, and its prelude; None if they cannot be
    packed."""
    packer = function.packer
    if packer is None or packer.by_value is not session.is_needed():
        packer = function.packer = fragments.Packer(session.is_needed())
    prelude = packer.prelude
    fragment = packer.pack(args)
    # Another thread may have changed the prelude.
    return (fragment, prelude) if fragment is not None and packer.prelude is prelude else None


def opened(row: Values) -> Iterator[Ended | Values]:
    """A row with what its fragments hold, some at a time."""
    for start in range(0, len(row.values), _AT_ONCE):
        part = row._replace(first=row.first + start, values=row.values[start : start + _AT_ONCE])
        values = part.open()
        if values is None:
            yield from part.singly()
        else:
            yield Values(part.first, values)
