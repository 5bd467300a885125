"""What has come of a streaming call, and what of that was fetched.

Thread: consumers'; :meth:`Arrivals.deliver` where outcomes are delivered.
Guarantees: items are handed out once each, in the order in which they were yielded, and then how
the call has ended. Who is about to wait for items has told the worker first how many it has
fetched. Waiting in an event loop does not block it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from ... import native
from ...errors import WorkerLost
from ...wire import messages, payload
from ...wire.allowance import MOST_BYTES, Fetched, size_of
from ...wire.wording import add_note
from ..engine.consumers import Fetcher
from ..work import mailbox
from ..work.batch import Batch, Ended, Values, Yielded
from ..work.decode import decode

if TYPE_CHECKING:
    from ..engine.engine import Engine

#: No item: none has come yet, or there will be no more.
NOTHING, OVER = object(), object()

_UNREPEATED = "It was not run again, because items of it had been delivered."


class Arrivals:
    """The sink of a streaming call: what has come of it, and what of that was fetched."""

    def __init__(self, engine: Engine, window: int) -> None:
        self._engine = engine
        #: The call's; None if it was never sent.
        self.batch: Batch | None = None
        # What was delivered and is not open: items by their place, how the call has ended, and how
        # many items come before that.
        self._entries: dict[int, Yielded] = {}
        self._ended: Ended | None = None
        self._ends_at = 0
        # Notified after each delivery; and coroutines that are to hear of it, once.
        self._changed = threading.Condition(threading.Lock())
        self._letters: set[mailbox.Letter] = set()
        # Native, and held for a few assignments only: no greenlet ever switches inside.
        self._lock = native.original("_thread", "allocate_lock")()
        # Guarded by _lock: the items that come next, whether they are payloads, how many were
        # opened so far, and the count of those fetched.
        self._items: deque[Any] = deque()
        self._opened = 0
        self._packed = False
        self._fetched = Fetched(window)
        self._over = False
        #: What the generator has returned, once that is known; and the same for a StopIteration,
        #: which takes it out.
        self.returned: tuple[Any, ...] = ()
        self.parting: tuple[Any, ...] = ()
        # Who fetched last, or else made this; and whether it does so no more.
        self._fetcher = Fetcher()
        self._left = False
        self._window = window
        #: Called with what has ended the stream, or None, when that is known; at most once.
        self.on_end: Callable[[BaseException | None], object] | None = None

    # -- where outcomes are delivered -------------------------------------------------------------

    def deliver(self, ended: Sequence[Ended] | Values | Yielded) -> None:
        """Take items, or the call's end; see :meth:`.batch.Sink.deliver`."""
        if isinstance(ended, Yielded):
            self._entries[ended.first] = ended
        else:
            (one,) = ended.singly() if isinstance(ended, Values) else ended
            self._end_with(one)
        if self._left:
            self._end_if_full()
        self.wake_all()

    def wake_all(self) -> None:
        """Let those look who wait for items."""
        with self._changed:
            self._changed.notify_all()
            while self._letters:
                self._letters.pop().release()
        mailbox.deliver()

    def _end_with(self, ended: Ended) -> None:
        if self._ended is None:
            # What has been passed on so far, and may still be on its way.
            self._ends_at = 0 if self.batch is None else self.batch.yielded
            self._ended = ended

    # -- consumers --------------------------------------------------------------------------------

    def fetch(self) -> Any:
        """The next item; NOTHING if it has not come, OVER if there are no more.

        Raises:
            Exception: what has ended the call, or unpickling the item.
        """
        if self._engine.inert:
            self._engine.check_open()  # the lock may have been held at the fork
        end: Ended | None = None
        with self._lock:
            items = self._items
            while not items:
                if self._over:
                    return OVER
                entry = self._entries.pop(self._opened, None)
                if entry is None:
                    if not self._is_at_end():
                        return NOTHING
                    self._over, end = True, self._ended
                    break
                items.extend(entry.values)
                self._packed = entry.packed
                self._opened += len(entry.values)
                self._fetcher = Fetcher()
            if end is None:
                item, packed = items.popleft(), self._packed
                due = self._fetched.fetch(size_of(item))
        if end is not None:
            self._end(end)
            return OVER
        if due:
            self._tell()
        return self._loaded(item) if packed else item

    def wait(self) -> Any:
        """As :meth:`fetch`, but wait for the next item."""
        self._fetcher = Fetcher()
        while (item := self.fetch()) is NOTHING:
            self._tell()
            with self._changed:
                if not self._is_ready():
                    self._changed.wait(native.SLICE)
            self._engine.callbacks.look()
        return item

    async def wait_async(self) -> Any:
        """As :meth:`wait`, in an event loop."""
        import asyncio

        self._fetcher = Fetcher()
        while (item := self.fetch()) is NOTHING:
            self._tell()
            letter = mailbox.Letter(asyncio.get_running_loop())
            with self._changed:
                if self._is_ready():
                    continue
                self._letters.add(letter)
            try:
                await letter.waiter
            finally:
                with self._changed:
                    self._letters.discard(letter)
        return item

    def _is_ready(self) -> bool:
        return self._opened in self._entries or self._over or self._is_at_end()

    def _is_at_end(self) -> bool:
        return self._ended is not None and self._opened >= self._ends_at

    def close(self) -> None:
        """Hand out nothing more, and stop the call. Safe in a finalizer."""
        over, self._over = self._over, True
        if over:
            return
        if self.batch is not None:
            self._engine.cancel(self.batch, None, True)
        self._items, self._entries = deque(), {}
        if self.on_end is not None:
            self.on_end(GeneratorExit())

    def leave(self, awaits: bool) -> None:
        """See :class:`.consumers.Consumer`: the call runs on as far as it may without being
        waited for. Then it is stopped, and a CancelledError comes after its items."""
        if self._fetcher.waits(awaits) and not self._over:
            self._tell()
            self._left = True
            self._end_if_full()

    def _end_if_full(self) -> None:
        """Stop the call if it has to wait for items to be fetched."""
        items = list(self._items)
        for entry in list(self._entries.values()):
            items += entry.values
        full = len(items) >= self._window or sum(map(size_of, items)) >= MOST_BYTES
        if full and self.batch is not None and self.batch.remaining:
            self._engine.cancel(self.batch, None, True)
            self._end_with((0, messages.CANCELLED, None, None, None, None))

    def _tell(self) -> None:
        """Tell the worker what has been fetched, unless it knows, or the call has ended."""
        with self._lock:
            count = self._fetched.tell()
        if count and self.batch is not None and self.batch.remaining:
            self._engine.tell_fetched(self.batch, count)

    def _loaded(self, item: payload.Payload) -> Any:
        value, error = decode(messages.PICKLED, item, None)
        if error is None:
            return value
        self.close()
        raise error

    def _end(self, ended: Ended) -> None:
        _, status, value, _, process, history = ended
        returned, error = decode(status, value, process, history)
        if self.on_end is not None:
            self.on_end(error)
        if error is None:
            self.returned = self.parting = (returned,)
            return
        if self._fetched.count and self._was_to_be_repeated(error):
            add_note(error, _UNREPEATED)
        if isinstance(error, StopIteration | StopAsyncIteration):
            # As Python does in generators: raised here, it would end a loop in silence.
            raise RuntimeError(f"the call raised {type(error).__name__}") from error
        try:
            raise error
        finally:
            del error, value  # this frame is in its traceback

    def _was_to_be_repeated(self, error: BaseException) -> bool:
        if self.batch is None or isinstance(error, CancelledError):
            return False
        options = self.batch.options
        if isinstance(error, WorkerLost):
            return options.on_worker_loss == "retry"
        return options.retries > 0 and isinstance(error, options.retry_on)
