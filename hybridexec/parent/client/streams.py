"""The results of many calls without a Future for each: what ``map`` and its relatives iterate.

Thread: the consumer's; :meth:`Stream.deliver` where outcomes are delivered.
Guarantees: each call's outcome is handed out once; with a bound, no more calls than that are
unfinished or waiting to be fetched; closing the stream cancels the calls that have not started.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from ... import native
from ...options import CallOptions
from ..work.batch import Batch, Ended, Values
from ..work.function import Function
from .limited import limited
from .packing import Packing, opened
from .sending import Sending

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from .inputs import Input

#: Items in one batch at most: bounds how long a long iterable is read before calls start.
MAX_BATCH = 4096


class Changed(Protocol):
    """As a condition."""

    def __enter__(self) -> Any:
        """Take its lock."""

    def __exit__(self, *error: object) -> None:
        """Release its lock."""

    def notify(self) -> None:
        """An outcome has come, or items; the lock is held."""


class Stream(Sending):
    """Calls of one function over many items, and their outcomes."""

    def __init__(
        self,
        engine: Engine,
        function: Function | None,
        refusal: BaseException | None,
        items: Input,
        single: bool,
        options: CallOptions,
        bound: int | None,
        ordered: bool,
        changed: Changed | None = None,
    ) -> None:
        """
        Args:
            function: what to call, or None if it could not be pickled: every call then fails with
                ``refusal``.
            items: the arguments of each call, as tuples or other iterables; or, if ``single``, the
                one argument of each. Read in the consumer's thread.
            bound: how many calls may be unfinished or unfetched; None reads all items at once.
            ordered: whether to hand outcomes out in the order of the items, not of completion.
            changed: wakes a consumer that does not block in :meth:`entries`.
        """
        self._engine = engine
        self._function = function
        self._refusal = refusal
        self._items = items
        self._single = single
        self._options = options
        self._bound = bound
        self._ordered = ordered
        # Reentrant: a finalizer that interrupts its holder may add to a frontier.
        self._changed: Any = changed or threading.Condition(threading.RLock())
        self._arrived: deque[Ended | Values] = deque()  # unordered: in order of arrival
        self._by_place: dict[int, Ended | Values] = {}  # ordered: until their turn
        # Invariant: _fetched <= _handed <= outcomes delivered <= _submitted. (Without a bound,
        # _fetched is not kept.)
        self._submitted = 0
        self._handed = 0  # out of this object
        self._fetched = 0  # by the consumer
        self._fill_at: float = inf  # the value of _fetched at which there is room for more calls
        self._batches: dict[int, Batch] = {}
        self._forget_at = 8  # the number of batches at which finished ones are dropped
        self._kept: dict[int, Any] | None = None
        self._packing = Packing(single)
        # Whether items are being read one after another, or none was yet.
        self._filling = True
        self._limited = limited(options, self.wake)
        # The room at which more items are read: reading one at a time would make batches of one.
        self._refill = 1 if bound is None else max(1, min(bound // 4, 512))

    @property
    def bounded(self) -> bool:
        """Whether :meth:`fetch` matters."""
        return self._bound is not None

    @property
    def submitted(self) -> int:
        """The number of items that were read."""
        return self._submitted

    @property
    def name(self) -> str:
        """That of the function."""
        return "..." if self._function is None else self._function.name

    def keep_items(self) -> dict[int, Any]:
        """Keep each call's item in the returned dict, until the caller takes it out."""
        self._kept = {}
        return self._kept

    def look_ahead(self) -> None:
        """Count the calls that wait for limits apart from those that the bound is for."""
        if self._limited is not None:
            self._limited.look_ahead()

    def fill(self) -> None:
        """Read items and submit their calls, as far as the bound allows.

        A slow iterable keeps nobody waiting for long: as many items are read at once as take a few
        milliseconds, and outcomes that are ready are handed out before more is read.
        """
        while self.read_more():
            pass

    def read_more(self) -> bool:
        """A step of :meth:`fill`; returns whether there may be another now."""
        if self._items.exhausted:
            return False
        room, chunk = MAX_BATCH, []
        if self._bound is not None:
            room = min(room, self._room())
        if self._limited is not None:
            self._limited.has_news = False
        if room >= (1 if self._filling else self._least_room()):
            chunk = self._items.read(room)
        if chunk:
            self._submit(chunk)
        self._filling = bool(chunk) and (self._bound is None or not self._has_ready())
        if self._bound is not None and not self._items.exhausted:
            self._fill_at = self._fetched + max(1, self._refill - self._room())
        return self._filling

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """Take outcomes; see :meth:`.batch.Sink.deliver`."""
        with self._changed:
            if not self._ordered:
                if isinstance(ended, Values):
                    self._arrived.append(ended)
                else:
                    self._arrived.extend(ended)
            else:
                if isinstance(ended, Values):
                    self._by_place[ended.first] = ended
                else:
                    self._by_place.update((outcome[0], outcome) for outcome in ended)
                if self._handed not in self._by_place:
                    return
            self._changed.notify()

    def entries(self, deadline: float | None = None) -> Iterator[Ended | Values]:
        """Hand out outcomes until every item's was; the consumer calls :meth:`fetch` for each.

        Raises:
            TimeoutError: ``deadline`` (``time.monotonic()`` seconds) passed while waiting.
        """
        self.begin()
        while True:
            self.fill()
            ready = self._wait(deadline)
            if not ready and self.is_over():
                return
            yield from self.handing(ready)

    def begin(self) -> None:
        """A consumer begins to fetch outcomes."""
        self._items.begin(self)

    def handing(self, ready: Sequence[Ended | Values]) -> Iterator[Ended | Values]:
        """Hand out outcomes that have been taken."""
        for entry in self._items.handing(ready):
            if isinstance(entry, Values) and entry.prelude is not None:
                yield from opened(entry)
            else:
                yield entry

    def fetch(self) -> None:
        """One more outcome reaches the consumer: submit more calls if there is room now."""
        self._fetched += 1  # as count_fetched(), in line: a map's loop is hot
        if self._fetched >= self._fill_at:
            self.fill()

    def count_fetched(self) -> bool:
        """One more outcome reaches the consumer; returns whether there is room for more calls."""
        self._fetched += 1
        return self._fetched >= self._fill_at

    def wake(self) -> None:
        """Items have come: if the consumer waits for outcomes, it is to read them."""
        with self._changed:
            self._changed.notify()

    def is_held_up(self) -> bool:
        """Whether an outcome waits for the consumer, or there is none without another item."""
        return self._has_ready() or self._handed == self._submitted

    def is_over(self) -> bool:
        """Whether all outcomes were handed out, and there are no more items. If so, it stays so."""
        if self._handed != self._submitted or self._items.news or self._items.awaited:
            return False
        self._items.close()
        self.read_more()  # knows by now that there is no more
        return True

    def _may_go_on(self) -> bool:
        """Whether nothing is to be waited for, though no outcome is there: all was handed out, or
        there is something to read, and room for it."""
        news = self._items.news or (self._limited is not None and self._limited.has_news)
        if news:
            return self._bound is None or self._room() >= self._least_room()
        return self._handed == self._submitted and not self._items.awaited

    def _least_room(self) -> int:
        """The room at which more is read: any at all, if the items of keys that must wait fill what
        there is, and others may not have to."""
        is_filled = self._limited is not None and self._limited.waiting
        return 1 if is_filled else self._refill

    def _room(self) -> int:
        assert self._bound is not None
        unfetched = self._submitted - self._fetched
        if self._limited is None:
            return self._bound - unfetched
        return self._limited.room(self._bound, unfetched)

    def _wait(self, deadline: float | None) -> Sequence[Ended | Values]:
        """Wait for the next outcomes; none are returned if all were handed out, or more items have
        come."""
        if self._engine.inert:
            ready = self._take()  # no more will come; the lock may have been held at the fork
            if not ready and self._handed != self._submitted:
                self._engine.check_open()
            return ready
        while True:
            with self._changed:
                taken = self.poll()
                if taken is not None:
                    break
                timeout = None if deadline is None else deadline - native.monotonic()
                if timeout is not None and timeout <= 0:
                    raise TimeoutError()
                seconds = native.SLICE if timeout is None else min(timeout, native.SLICE)
                self._changed.wait(seconds)
            self._engine.callbacks.look()
        self._forget_finished()
        return taken

    def poll(self) -> Sequence[Ended | Values] | None:
        """Take the outcomes that have come; None if some are to be waited for. The caller holds the
        lock of ``changed``, and is woken after that if he is to look again."""
        ready = self._take()
        return ready if ready or self._may_go_on() else None

    def _has_ready(self) -> bool:
        if self._ordered:
            return self._handed in self._by_place
        return bool(self._arrived)

    def _take(self) -> Sequence[Ended | Values]:
        ready: Sequence[Ended | Values]
        if self._ordered:
            ready = run = []
            place = self._handed
            while (entry := self._by_place.pop(place, None)) is not None:
                run.append(entry)
                place += size(entry)
            self._handed = place
        else:
            ready, self._arrived = self._arrived, deque()
            self._handed += sum(map(size, ready))
        return ready

    def _forget_finished(self) -> None:
        """Drop the batches that have ended, when there are twice as many as after the last time."""
        if len(self._batches) < self._forget_at:
            return
        for offset, batch in list(self._batches.items()):
            if batch.remaining == 0:
                del self._batches[offset]
        self._forget_at = 2 * len(self._batches) + 8

    def close(self, running: bool = False) -> None:
        """Cancel the calls that have not started. Running calls are stopped if ``running``; if not,
        they go on, and their outcomes are dropped."""
        self._items.close()
        for batch in list(self._batches.values()):
            if batch.remaining:
                self._engine.cancel(batch, None, running)
        self._batches.clear()
        # Drop errors of calls that were never sent: their tracebacks hold the frames that hold
        # this. Without the lock, because a finalizer may interrupt its holder.
        self._refusal, self._arrived, self._by_place = None, deque(), {}


def size(entry: Ended | Values) -> int:
    """The number of outcomes in an entry."""
    return len(entry.values) if isinstance(entry, Values) else 1
