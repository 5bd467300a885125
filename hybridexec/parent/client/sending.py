"""What a stream does to submit its calls: it makes batches of items.

Thread: the consumer's.
Guarantees: an item that cannot be sent fails its own call, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...options import CallOptions
from ...wire import payload
from ...wire.wording import add_note, retell
from ..work import session
from ..work.batch import UNPICKLABLE, Batch, Ended, Item, Values
from ..work.function import Function
from .limited import Limited
from .packing import Packing

if TYPE_CHECKING:
    from ..engine.engine import Engine

ARGUMENTS_NOTE = (
    "The function or the arguments of this call could not be pickled, so it was not run. Pass "
    "plain data, and make what holds locks, files or connections inside the call."
)

STAR_NOTE = (
    "With star=True, each item must be a tuple of arguments, or something else to be iterated. "
    "This one is not, so the function was not called for it."
)

#: Bytes of large payloads in one batch, roughly.
_MAX_WEIGHT = 4 << 20


class Sending:
    """A part of :class:`.streams.Stream`."""

    _engine: Engine
    _function: Function | None
    _refusal: BaseException | None
    _single: bool
    _options: CallOptions
    _submitted: int
    _kept: dict[int, Any] | None
    _packing: Packing
    _batches: dict[int, Batch]
    _limited: Limited | None

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """Take outcomes; see :meth:`.batch.Sink.deliver`."""
        raise NotImplementedError

    def _submit(self, chunk: list[Any]) -> None:
        offset = self._submitted
        self._submitted += len(chunk)
        if self._kept is not None:
            self._kept.update(enumerate(chunk, offset))
        if self._function is None:
            self.deliver([refused(offset + place, self._refusal) for place in range(len(chunk))])
            return
        if self._limited is None:
            self._submit_run(chunk, offset)
            return

        def arguments(place: int) -> tuple[Any, ...]:
            item = chunk[place]
            if self._single:
                return (item,)
            return item if type(item) is tuple else self._unpacked(chunk, place, offset)

        for start, end, error in self._limited.find_keys(len(chunk), offset, arguments):
            if start < end:
                self._submit_run(chunk[start:end], offset + start)
            if error is not None:
                if not self._single and type(chunk[end]) is not tuple:
                    add_note(error, STAR_NOTE)
                self.deliver([refused(offset + end, error)])

    def _submit_run(self, chunk: list[Any], offset: int) -> None:
        """Submit the calls of these items, whose keys are known."""
        assert self._function is not None
        if self._packing.is_plain(chunk):
            self._send(chunk, offset, None)
            return
        packed, prelude = self._packing.pack(chunk)
        if prelude is not None and None not in packed:
            self._send(packed, offset, None, prelude)
            return
        if self._single:
            chunk = [(item,) for item in chunk]
        start = weight = 0
        items: list[Item] = []
        pickled = self._pickled if session.is_needed() else payload.dumps
        for place, arguments in enumerate(chunk):
            item = packed[place]
            if item is not None:
                items.append(item)
                continue
            try:
                if type(arguments) is not tuple:
                    arguments = self._unpacked(chunk, place, offset)
                item = arguments if payload.are_plain(arguments) else pickled((arguments, {}))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # This item's failure is its own: those around it go as two batches.
                self._send(items, offset + start, chunk[start:place], prelude, weight)
                if type(arguments) is tuple:
                    tell_refusal(error, self._function.name)
                else:
                    add_note(error, STAR_NOTE)
                self.deliver([refused(offset + place, error)])
                items, start, weight = [], place + 1, 0
                continue
            items.append(
                payload.apart(item) if prelude is not None and type(item) is bytes else item
            )
            if isinstance(item, payload.Segments):
                weight += item.size
                if weight > _MAX_WEIGHT:
                    # Sent before more is pickled, so that its memory can be freed.
                    self._send(items, offset + start, chunk[start : place + 1], prelude, weight)
                    items, start, weight = [], place + 1, 0
        self._send(items, offset + start, chunk[start:], prelude, weight)

    def _unpacked(self, chunk: list[Any], place: int, offset: int) -> tuple[Any, ...]:
        """The item at ``place``, replaced by a tuple."""
        arguments: tuple[Any, ...] = tuple(chunk[place])
        chunk[place] = arguments
        if self._kept is not None:
            self._kept[offset + place] = arguments
        return arguments

    def _pickled(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> payload.Payload:
        pickled, needs = session.dumps(arguments)
        if needs:
            assert self._function is not None
            self._function = self._function.needing(needs)
        return pickled

    def _send(
        self,
        items: list[Item],
        offset: int,
        arguments: object,
        prelude: bytes | None = None,
        weight: int = 0,
    ) -> None:
        if items:
            assert self._function is not None
            bare = self._single and (prelude is not None or arguments is None)
            batch = Batch(self._function, items, self, self._options, offset, bare, prelude)
            batch.arguments = arguments
            batch.weight = weight // len(items)
            if self._limited is not None:
                batch.keys, batch.reader = self._limited.keys(offset, len(items)), self._limited
            self._batches[offset] = batch
            self._engine.submit(batch)


def tell_refusal(error: BaseException, name: str) -> None:
    """Make an error say that a call of this function could not be pickled."""
    what = f"the function or the arguments of {name} could not be pickled"
    retell(error, what, "Pass plain data, and make what holds locks, files or connections there")
    add_note(error, ARGUMENTS_NOTE)


def refused(index: int, error: BaseException | None) -> Ended:
    return index, UNPICKLABLE, error, None, None, None
