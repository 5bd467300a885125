"""A stream whose items are read ahead of its consumer, whether or not there is one.

Thread: one at a time feeds it; any may take outcomes, stop it, or forget it; :meth:`FedStream.
deliver` where outcomes are delivered.
Guarantees: every item that was read has an outcome, and what ends the reading early is the last
one; the calls that are unfinished have no more than a few megabytes of arguments, but for those
that keep the workers busy; none of the user's code runs while a lock is held.

Items of an iterator that runs the user's code are submitted as soon as they are read: it may wait
for their results before it yields more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from ... import native
from ...options import CallOptions
from ...wire import payload
from ..work.batch import Ended, Item, Values
from ..work.function import Function
from .limited import limited
from .packing import Packing
from .sending import Sending, refused
from .streams import size
from .untaken import Outcome, Untaken, decoded

if TYPE_CHECKING:
    from ..engine.engine import Engine

#: Items that are read at once at most, of those that lie ready.
_MAX_CHUNK = 4096
#: If so many of the first ones are small, many are sent at once from the beginning.
_SAMPLE = 64
#: Bytes of arguments of unfinished calls, roughly, of which only large ones count.
_MAX_WEIGHT = 4 << 20


class FedStream(Sending):
    """Calls of one function over many items, and their outcomes."""

    def __init__(
        self,
        engine: Engine,
        function: Function | None,
        refusal: BaseException | None,
        single: bool,
        options: CallOptions,
        ordered: bool,
        least: int,
        most: int | None,
        buffersize: int | None,
        over: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            least: how many calls may be unfinished, however large their arguments are.
            most: how many may be, however small; None for any number.
            buffersize: how many may be unfinished or not taken; None for any number.
            over: called when there is an outcome for all items, and there will be no more; where
                outcomes are delivered, or by who feeds or stops.

        The others are those of :class:`.streams.Stream`.
        """
        self._engine = engine
        self._function = function
        self._refusal = refusal
        self._single = single
        self._options = options
        self._bound = buffersize
        self._kept = None
        self._packing = Packing(single)
        self._limited = limited(options)
        self._batches = {}
        self._forget_at = 8  # the number of batches at which finished ones are dropped
        # Reentrant: a finalizer may interrupt its holder.
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._space = threading.Condition(lock)  # that there is, for who feeds
        self._least, self._most = least, most
        self._over = over
        self._source: Iterator[Any] = iter(())
        self._chunksize = 1
        self._bulk = 1  # how many items are read at once
        self._growth = 1  # by which factor that grows
        self._weight = 0  # of a call's large arguments, for the latest ones
        # These are guarded by the lock.
        # Invariant: _fetched <= _delivered <= _submitted.
        self._submitted = self._delivered = self._fetched = 0
        self._untaken = Untaken(ordered)
        self._ending = False  # no more items
        self._last: BaseException | None = None  # the outcome in their place
        #: Whether there is an outcome for all items, and there will be no more.
        self.is_over = False
        self._submitting = False
        self._stopped_by: BaseException | None = None
        self._forgotten = False  # nobody will take outcomes
        self._fault: BaseException | None = None  # why calls could not be sent

    # -- who feeds --------------------------------------------------------------------------------

    def begin(self, items: Iterable[Any], chunksize: int) -> None:
        """Take what the items are to be read from, ``chunksize`` at a time; what that raises is an
        outcome."""
        self._chunksize = chunksize
        try:
            self._source = iter(items)
        except Exception as error:
            self._end(error)
        # An iterator that knows its length has its items at hand.
        ready = hasattr(self._source, "__length_hint__")
        self._bulk = _rounded(self._least, chunksize) if ready else chunksize
        self._growth = 4 if ready else 1
        if isinstance(items, list | tuple | range) and payload.are_all_plain(list(items[:_SAMPLE])):
            self._bulk = _rounded(_MAX_CHUNK, chunksize)

    def feed(self, wait: bool) -> bool:
        """Read items and submit their calls; returns whether that is done.

        Args:
            wait: whether to wait where too many calls are unfinished, instead of returning False.
        """
        while room := self._allowance(wait):
            chunk, error = self._read_chunk(min(self._bulk, _rounded(room, self._chunksize)))
            if chunk and not self._submit_chunk(chunk):
                break
            if error is not None or not chunk:
                self._end(error)
                break
            self._bulk = min(self._bulk * self._growth, _MAX_CHUNK)
            if self._weight:
                self._bulk = self._chunksize
        return self._ending

    def _allowance(self, wait: bool) -> int:
        """How many items may be read; 0 if none may, or there are no more."""
        with self._changed:
            while not self._ending:
                if self._forgotten and self._bound is not None:
                    self._ending = True
                elif (room := self._free()) > 0:
                    return room
                elif not wait:
                    break
                else:
                    self._space.wait(native.SLICE)  # who forgets tells nobody
            return 0

    def _free(self) -> int:
        """How many more calls may be unfinished, or not taken."""
        most = _MAX_CHUNK if self._most is None else self._most
        if self._weight:
            most = min(most, max(self._least, _MAX_WEIGHT // self._weight))
        free = most
        if self._most is not None or self._weight:
            free -= self._submitted - self._delivered
        if self._bound is not None:
            free = min(free, self._bound - (self._submitted - self._fetched))
        return free

    def _read_chunk(self, count: int) -> tuple[list[Any], Exception | None]:
        """Up to ``count`` items, and what kept it from reading more."""
        chunk: list[Any] = []
        try:
            chunk.extend(islice(self._source, count))
        except Exception as error:
            # As multiprocessing has it, items are read by the chunk.
            del chunk[len(chunk) // self._chunksize * self._chunksize :]
            return chunk, error
        return chunk, None

    def _submit_chunk(self, chunk: list[Any]) -> bool:
        """Submit calls; whether there may be more."""
        with self._changed:
            if self._ending:
                return False
            self._submitting = True
        if len(self._batches) >= self._forget_at:
            for offset, batch in list(self._batches.items()):
                if batch.remaining == 0:
                    self._batches.pop(offset, None)  # it may have been closed just now
            self._forget_at = 2 * len(self._batches) + 8
        try:
            self._submit(chunk)
        finally:
            if self._forgotten and self._bound is not None:  # maybe meanwhile
                self.close(running=False)
            with self._changed:
                self._submitting = False
            ending = self._stopped_by
            if ending is not None or self._fault is not None:
                # Each call that could not be sent has failed with that.
                self._end(ending)
        if isinstance(self._fault, KeyboardInterrupt):
            raise self._fault
        return self._fault is None and ending is None

    def _send(
        self,
        items: list[Item],
        offset: int,
        arguments: object,
        prelude: bytes | None = None,
        weight: int = 0,
    ) -> None:
        if self._fault is None:
            try:
                super()._send(items, offset, arguments, prelude, weight)
            except BaseException as error:
                self._fault = error
                self._batches.pop(offset, None)
            else:
                if items:
                    self._weight = weight // len(items)
                return
        self.deliver([refused(place, self._fault) for place in range(offset, offset + len(items))])

    def _end(self, error: BaseException | None) -> None:
        """There are no more items, because of ``error``, if there is one."""
        with self._changed:
            if self._ending:
                return
            self._ending = True
            self._last = error
            self._space.notify_all()
        self._settle()

    def _settle(self) -> None:
        """Once all calls have ended, and there are no more items: tell who waits."""
        with self._changed:
            if not self._ending or self._delivered < self._submitted:
                return
            place, last, self._last = self._submitted, self._last, None
            over = None
            if last is not None:
                self._submitted += 1
            else:
                self.is_over = True
                self._batches.clear()
                self._changed.notify_all()
                over, self._over = self._over, None
        if last is not None:
            self.deliver([refused(place, last)])
        elif over is not None:
            over()

    # -- who delivers -----------------------------------------------------------------------------

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """See :meth:`.batch.Sink.deliver`."""
        entries: Sequence[Ended | Values] = (ended,) if isinstance(ended, Values) else ended
        with self._changed:
            self._delivered += sum(map(size, entries))
            self._untaken.add(entries)
            if self._untaken:
                self._changed.notify()
            if self._free() >= self._refilled():
                self._space.notify()
        if self._ending:
            self._settle()

    def _refilled(self) -> int:
        """The room at which more is read: reading few at a time would make small batches."""
        if self._growth == 1 or self._weight:
            return 1
        return max(1, min(self._most or _MAX_CHUNK, self._bound or _MAX_CHUNK) // 4)

    # -- any thread -------------------------------------------------------------------------------

    def check_forked(self) -> None:
        """Raise a RuntimeError in a process that was forked: no more outcomes will come."""
        if self._engine.inert:
            self._engine.check_open()

    def stop(self, error: BaseException) -> None:
        """Read no more items; if that was not done anyway, ``error`` is the last outcome."""
        with self._changed:
            self._stopped_by = error
            if self._submitting:  # who feeds ends it
                return
        self._end(error)

    def forget(self) -> None:
        """Nobody will take outcomes any more. Calls are made all the same, unless their number is
        bound to what is taken. Safe in a finalizer, which may interrupt a holder of the lock."""
        self._forgotten = True
        if self._bound is not None:
            self.close(running=False)
        self._untaken.forget()

    def close(self, running: bool) -> None:
        """Cancel the calls that have not started, and those that run, too, if ``running``. They
        will have no outcomes."""
        while batches := list(self._batches.items()):  # who feeds may add one meanwhile
            for offset, batch in batches:
                self._batches.pop(offset, None)
                if batch.remaining:
                    self._engine.cancel(batch, None, running)

    def gather(self) -> Outcome:
        """All values, when they are there, in the order of the items; or the first error."""
        return self._untaken.gather()

    def take(self, seconds: float | None) -> Outcome | None:
        """Take the next outcome, waiting for it for ``seconds`` at most; None if there are no more.

        Raises:
            TimeoutError: it was not there by then.
            RuntimeError: it was not there when this process was forked.
        """
        deadline = None if seconds is None else native.monotonic() + seconds
        while True:
            if self._engine.inert:  # the lock may have been held at the fork
                if self._untaken:
                    return decoded(self._untaken.take())
                if self.is_over:
                    return None
                self._engine.check_open()
            with self._changed:
                if self._untaken:
                    ended = self._untaken.take()
                    self._fetched += 1
                    if self._bound is not None and self._free() >= self._refilled():
                        self._space.notify()
                    if self._untaken:
                        self._changed.notify()  # others that wait
                    break
                if self.is_over:
                    return None
                left = native.SLICE
                if deadline is not None:
                    left = min(left, deadline - native.monotonic())
                    if left <= 0:
                        raise TimeoutError
                self._changed.wait(left)
        return decoded(ended)


def _rounded(count: int, chunksize: int) -> int:
    """``count`` in whole chunks, at least one."""
    return max(chunksize, count // chunksize * chunksize)
