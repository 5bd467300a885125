"""Streams and futures that count how their calls go, for those who watch.

Thread: the watcher's may ask at any time; the rest is said below.
Guarantees: a call that has ended is counted before its outcome can be fetched. Nothing is counted
for those whom nobody watches: these are plain streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

from ... import native
from ...wire import messages
from ..engine.coalescing import Futures
from ..work.batch import PACKED, Ended, Values
from ..work.future import CallFuture
from ..work.keeper import Keeper
from .streams import Stream

T = TypeVar("T")

#: The statuses of calls that have returned.
_RETURNED = frozenset({messages.VALUE, messages.PICKLED, PACKED})


class Counts(NamedTuple):
    """How the calls of a stream, or some futures, are doing; as in :class:`hybridexec.Progress`."""

    #: None until that is sure.
    total: int | None
    #: How many there are by now.
    made: int
    done: int
    failed: int
    #: How many will never be done.
    cancelled: int
    retried: int
    running: int

    @property
    def over(self) -> bool:
        """Whether all were made and have ended."""
        return self.done + self.cancelled == self.total


class Source(Protocol):
    """What counts calls."""

    def counts(self) -> Counts:
        """The counts by now."""


class Watcher(Protocol):
    """Who looks at the counts."""

    def begin(self, source: Source) -> None:
        """The first calls were made. (It may start a thread, and the first workers may be forked by
        the first call: there should be no other thread yet.)"""

    def end(self) -> None:
        """There is nothing more to see; may come more than once, and first."""

    def tie(self, results: object) -> None:
        """End at the latest when these results are dropped."""


class CountedStream(Stream):
    """A stream that counts."""

    def __init__(self, watcher: Watcher, *arguments: Any) -> None:
        """
        Args:
            arguments: as for :class:`Stream`.
        """
        super().__init__(*arguments)
        self._watcher = watcher
        self._begun = False
        self._total: int | None = None  # known when all items were read
        # Native and reentrant: a finalizer may interrupt its holder.
        self._counting = native.new_lock()
        # By the I/O thread; by the consumer's, if calls cannot be sent. Not any more once closed.
        self._done = self._failed = self._cancelled = 0
        self._closed = False
        self._retried = 0  # in batches that were dropped

    # -- the consumer -------------------------------------------------------------------------

    def read_more(self) -> bool:
        """See :meth:`Stream.read_more`."""
        more = super().read_more()
        if self._items.exhausted and self._total is None:
            self._total = self._submitted
        if self._submitted or self._items.exhausted:
            self._begin()
        return more

    def _submit(self, chunk: list[Any]) -> None:
        super()._submit(chunk)
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._watcher.begin(self)

    def _forget_finished(self) -> None:
        if len(self._batches) >= self._forget_at:
            with self._keeping_retried():
                super()._forget_finished()

    def close(self, running: bool = False) -> None:
        """See :meth:`Stream.close`."""
        self._closed = True
        try:
            with self._keeping_retried():
                super().close(running)
        finally:
            self._watcher.end()

    @contextmanager
    def _keeping_retried(self) -> Iterator[None]:
        """Batches may be dropped, but not what they count."""
        with self._counting:
            before = dict(self._batches)
            yield
            dropped = before.keys() - self._batches.keys()
            self._retried += sum(before[offset].retried for offset in dropped)

    # -- who delivers -------------------------------------------------------------------------

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """See :meth:`.batch.Sink.deliver`."""
        with self._counting:
            if self._closed:
                pass
            elif isinstance(ended, Values):
                self._done += len(ended.values)
            else:
                returned = sum(outcome[1] in _RETURNED for outcome in ended)
                cancelled = sum(outcome[1] == messages.CANCELLED for outcome in ended)
                self._cancelled += cancelled
                self._done += len(ended) - cancelled
                self._failed += len(ended) - cancelled - returned
        super().deliver(ended)

    # -- the watcher --------------------------------------------------------------------------

    def counts(self) -> Counts:
        """See :class:`Source`."""
        running = sum(batch.sink is self for batch, _ in self._engine.running_calls())
        with self._counting:
            retried = self._retried + sum(batch.retried for batch in list(self._batches.values()))
            return Counts(
                total=self._total,
                made=self._submitted,
                done=self._done,
                failed=self._failed,
                cancelled=self._cancelled,
                retried=retried,
                running=running,
            )


class CountedFutures:
    """Counts futures, of any executors."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._begun = False
        self._total: int | None = None  # known when all were added
        self._added = 0
        # Those that have ended since the last look, with the number of their earlier runs. One that
        # is there twice does no harm.
        self._ended: deque[tuple[Future[Any], int]] = deque()
        # Invariant: those that were added and not counted.
        self._open: set[Future[Any]] = set()
        self._foreign: set[Future[Any]] = set()  # those of them that are not ours
        self._keepers: set[Keeper] = set()
        self._done = self._failed = self._cancelled = 0
        self._retried = 0

    # -- the consumer -------------------------------------------------------------------------

    def add(self, future: Future[Any]) -> None:
        """Count this one, too."""
        self._added += 1
        self._open.add(future)
        if isinstance(future, CallFuture):
            self._keepers.add(future.keeper)
        else:
            self._foreign.add(future)
        if future.done():
            self._note(future)  # a callback would take longer
        else:
            future.add_done_callback(self._note)

    def complete(self) -> None:
        """No more is added."""
        self._total = self._added

    def each(self, submit: Callable[..., Future[T]]) -> Callable[..., Future[T]]:
        """``submit``, whose futures are added."""

        def counted(*args: Any, **kwargs: Any) -> Future[T]:
            future = submit(*args, **kwargs)
            self.add(future)
            self._begin()
            return future

        return counted

    def until_read(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items that futures are made for: no more is added after their end."""
        yield from items
        self.complete()

    def watched(self, run: Callable[[], Iterator[T]]) -> Iterator[T]:
        """The results that ``run`` returns; the watcher looks until their end."""
        try:
            results = run()
            self._begin()
        except BaseException:
            self._watcher.end()
            raise
        ending = self._until_end(results)
        self._watcher.tie(ending)
        return ending

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._watcher.begin(self)

    def _until_end(self, results: Iterator[T]) -> Generator[T]:
        try:
            yield from results
            # Whoever waits for a future is told before its callbacks are called.
            for future in list(self._open):
                self._note(future)
        finally:
            self._watcher.end()

    # -- who ends a future --------------------------------------------------------------------

    def _note(self, future: Future[Any]) -> None:
        runs = 0
        if isinstance(future, CallFuture) and (batch := future.batch) and batch.histories:
            history = batch.histories.get(future.place)
            runs = len(history.texts) if history else 0
        self._ended.append((future, runs))

    # -- the watcher --------------------------------------------------------------------------

    def counts(self) -> Counts:
        """See :class:`Source`."""
        while self._ended:
            future, runs = self._ended.popleft()
            if future in self._open:
                self._open.discard(future)
                self._foreign.discard(future)
                self._retried += runs
                try:
                    self._failed += future.exception() is not None
                    self._done += 1
                except CancelledError:
                    self._cancelled += 1
        return Counts(
            total=self._total,
            made=self._added,
            done=self._done,
            failed=self._failed,
            cancelled=self._cancelled,
            retried=self._retried,
            running=self._running(),
        )

    def _running(self) -> int:
        running = sum(future.running() for future in list(self._foreign))
        for keeper in list(self._keepers):
            for batch, place in keeper.running_calls():
                sink: Any = batch.sink
                running += (sink.at(place) if isinstance(sink, Futures) else sink) in self._open
        return running
