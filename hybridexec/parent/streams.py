"""The results of many calls without a Future for each: what ``map`` and its relatives iterate.

Runs on: outcomes arrive on the I/O thread; everything else runs in the consumer's.
Guarantees: each call's outcome is handed out once; with a bound, no more calls than that are
unfinished or waiting to be fetched; closing the stream cancels what has not started.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import native
from ..options import CallOptions
from ..wire import payload
from .batch import UNPICKLABLE, Batch, Ended, Item
from .functions import Function

if TYPE_CHECKING:
    from .engine import Engine

ARGUMENTS_NOTE = (
    "The function or the arguments of this call could not be pickled, so it was not run. Pass "
    "plain data, and make what holds locks, files or connections inside the call."
)

#: Items packed into one batch at most: bounds how long a long iterable is read before calls start.
_MAX_BATCH = 4096
#: Longest time, in seconds, for which items are read before they are submitted.
_READ_SECONDS = 0.005


class Stream:
    """Calls of one function over many items, and their outcomes."""

    def __init__(
        self,
        engine: Engine,
        function: Function | None,
        refusal: BaseException | None,
        items: Iterator[tuple[Any, ...]],
        options: CallOptions,
        bound: int | None,
        ordered: bool,
    ) -> None:
        """
        Args:
            function: what to call, or None if it could not be pickled: every call then fails with
                ``refusal``.
            items: the arguments of each call; read in the consumer's thread.
            bound: how many calls may be unfinished or unfetched; None reads all items at once.
            ordered: hand outcomes out in the order of the items, else as they come.
        """
        self._engine = engine
        self._function = function
        self._refusal = refusal
        self._items = items
        self._options = options
        self._bound = bound
        self._ordered = ordered
        self._changed = threading.Condition(threading.Lock())
        self._arrived: deque[Ended] = deque()  # unordered: in order of arrival
        self._by_index: dict[int, Ended] = {}  # ordered: until their turn
        # Invariant: _fetched <= outcomes delivered <= _submitted.
        self._submitted = 0
        self._fetched = 0
        self._exhausted = False
        self._batches: dict[int, Batch] = {}
        self._kept: dict[int, tuple[Any, ...]] | None = None
        # Refilling for every single item would make batches of one.
        self._refill = 1 if bound is None else max(1, min(bound // 4, 512))

    def keep_items(self) -> dict[int, tuple[Any, ...]]:
        """Remember each call's arguments, in the dict returned, until the caller takes them out."""
        self._kept = {}
        return self._kept

    def fill(self) -> None:
        """Read items and submit their calls, as far as the bound allows.

        A slow iterable keeps nobody waiting: what has been read is submitted every few
        milliseconds, and outcomes that are ready are handed out before more is read.
        """
        while not self._exhausted:
            room = _MAX_BATCH
            if self._bound is not None:
                room = min(room, self._bound - (self._submitted - self._fetched))
                if room < (self._refill if self._submitted else 1):
                    return
            chunk = self._read(room)
            if chunk:
                self._submit(chunk)
            if self._bound is not None and self._has_ready():
                return

    def _read(self, room: int) -> list[tuple[Any, ...]]:
        """Up to ``room`` items, and no more than come in a short time."""
        chunk = []
        end = time.monotonic() + _READ_SECONDS
        for item in islice(self._items, room):
            chunk.append(item)
            if time.monotonic() > end:
                return chunk
        self._exhausted = len(chunk) < room
        return chunk

    def _submit(self, chunk: list[tuple[Any, ...]]) -> None:
        offset = self._submitted
        self._submitted += len(chunk)
        if self._kept is not None:
            self._kept.update(enumerate(chunk, offset))
        if self._function is None:
            self.deliver([_refused(offset + place, self._refusal) for place in range(len(chunk))])
            return
        start = 0
        items: list[Item] = []
        are_plain = payload.are_plain
        for place, arguments in enumerate(chunk):
            if are_plain(arguments):
                items.append(arguments)
                continue
            try:
                items.append(payload.dumps((arguments, {})))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # This item's failure is its own: those around it go as two batches.
                self._send(items, offset + start, chunk)
                error.add_note(ARGUMENTS_NOTE)
                self.deliver([_refused(offset + place, error)])
                items, start = [], place + 1
        self._send(items, offset + start, chunk)

    def _send(self, items: list[Item], offset: int, arguments: object) -> None:
        if items:
            assert self._function is not None
            batch = Batch(self._function, items, self, self._options, offset)
            batch.arguments = arguments
            self._batches[offset] = batch
            self._engine.submit(batch)

    def deliver(self, ended: Sequence[Ended]) -> None:
        """Take outcomes; on the I/O thread."""
        with self._changed:
            if self._ordered:
                self._by_index.update((outcome[0], outcome) for outcome in ended)
                if self._fetched not in self._by_index:
                    return
            else:
                self._arrived.extend(ended)
            self._changed.notify()

    def outcomes(self, deadline: float | None = None) -> Iterator[Ended]:
        """Hand out outcomes until every item's is there.

        Raises:
            TimeoutError: ``deadline`` (``time.monotonic()`` seconds) passed while waiting.
        """
        while True:
            self.fill()
            ready = self._wait(deadline)
            if not ready:
                return
            for outcome in ready:
                self._fetched += 1
                if self._bound is not None:
                    self.fill()
                yield outcome

    def _wait(self, deadline: float | None) -> Sequence[Ended]:
        """The next outcomes, at least one; none if all were handed out."""
        if self._engine.inert:
            ready = self._take()  # no more will come, and the lock may be held for ever
            if not ready and self._fetched != self._submitted:
                self._engine.check_open()
            return ready
        with self._changed:
            while True:
                ready = self._take()
                if ready or self._fetched == self._submitted:
                    break
                timeout = None if deadline is None else deadline - time.monotonic()
                if timeout is not None and timeout <= 0:
                    raise TimeoutError()
                seconds = native.SLICE if timeout is None else min(timeout, native.SLICE)
                self._changed.wait(seconds)
        self._forget_finished()
        return ready

    def _has_ready(self) -> bool:
        if self._ordered:
            return self._fetched in self._by_index
        return bool(self._arrived)

    def _take(self) -> Sequence[Ended]:
        if not self._ordered:
            ready, self._arrived = self._arrived, deque()
            return ready
        run = []
        index = self._fetched
        while (outcome := self._by_index.pop(index, None)) is not None:
            run.append(outcome)
            index += 1
        return run

    def _forget_finished(self) -> None:
        for offset, batch in list(self._batches.items()):
            if batch.remaining == 0:
                del self._batches[offset]

    def close(self) -> None:
        """Cancel the calls that have not started; those running run on, unheard."""
        self._exhausted = True
        for batch in self._batches.values():
            if batch.remaining:
                self._engine.cancel(batch, None, running=False)
        self._batches.clear()


def _refused(index: int, error: BaseException | None) -> Ended:
    return index, UNPICKLABLE, error, None, None, None
