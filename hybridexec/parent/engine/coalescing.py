"""Coalesce calls that were submitted one by one into batches, so that much work is done once for
many of them.

Thread: the turn holder, and the thread that delivers outcomes; for an inline call, the caller's.
Guarantees: the calls of a batch were submitted one after another; each Future gets its own
outcome, and neither it nor its arguments are kept alive for its neighbours' sake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...wire.payload import Segments
from ..work.batch import ENDED, Batch, Ended, Values, deliver
from ..work.future import CallFuture, finish_all

if TYPE_CHECKING:
    from ..pool.pool import Pool

#: Calls in such a batch: a bound for what is done at once.
_MAX_SIZE = 1024


class Futures:
    """The sink of such a batch."""

    def __init__(self, futures: Sequence[CallFuture[Any]]) -> None:
        # Those that have ended are replaced by None.
        self._futures: list[CallFuture[Any] | None] = list(futures)

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """Take outcomes; see :meth:`.batch.Sink.deliver`."""
        values = ended.open() if isinstance(ended, Values) else None
        if isinstance(ended, Values) and values is not None:
            first, end = ended.first, ended.first + len(values)
            finish_all(self._futures[first:end], values)  # type: ignore[arg-type]  # each ends once
            self._futures[first:end] = [None] * len(values)
        else:
            for outcome in ended.singly() if isinstance(ended, Values) else ended:
                future = self._futures[outcome[0]]
                if future is not None:  # None: cancelled after the outcome was noted, or ended
                    deliver(future, (outcome,))
                    self.drop(outcome[0])

    def at(self, place: int) -> CallFuture[Any] | None:
        """The future at ``place``; None if it has ended."""
        return self._futures[place]

    def drop(self, place: int) -> None:
        """Keep the future at ``place`` alive no longer."""
        self._futures[place] = None


def take_batch(submitted: deque[Batch | CallFuture[Any]]) -> Batch:
    """Take the next batch: one that was submitted as such, or one made of consecutive calls that
    share function and options."""
    first = submitted.popleft()
    if isinstance(first, Batch):
        return first
    function, options, prelude = first.function, first.options, first.prelude
    futures = [first]
    for _ in range(min(len(submitted), _MAX_SIZE - 1)):
        following = submitted[0]
        if (
            following.function is not function
            or following.options is not options
            or following.prelude is not prelude
            or isinstance(following, Batch)
        ):
            break
        futures.append(following)
        submitted.popleft()
    return batch_of(futures)


def cancel(pool: Pool, future: CallFuture[Any]) -> None:
    """Cancel a call whose future has been cancelled."""
    batch = future.batch
    if batch is not None and batch.states[future.place] != ENDED:
        pool.cancel(batch, (future.place,), running=True)
        if isinstance(batch.sink, Futures):
            batch.sink.drop(future.place)
        future.leave()


def withdraw(pool: Pool, calls: Batch | CallFuture[Any]) -> None:
    """Cancel calls whose submission has failed after they were queued."""
    if isinstance(calls, Batch):
        pool.cancel(calls, None, running=True)
    elif calls.cancel_quietly():
        cancel(pool, calls)


def alone(future: CallFuture[Any]) -> Batch:
    """A batch of one call, whose sink is the future; it has no key."""
    batch = future.batch = Batch(
        future.function, [future.item], future, future.options, 0, False, future.prelude
    )
    if type(future.item) is Segments:
        batch.weight = future.item.size
    future.item = None
    return batch


def batch_of(futures: list[CallFuture[Any]]) -> Batch:
    """A batch of calls that share function and options."""
    batch = alone(futures[0]) if len(futures) == 1 else _together(futures)
    limits = batch.options.limits
    if limits is not None and limits.key is not None:
        batch.keys = [key for future in futures if (key := future.key) is not None]
    return batch


def _together(futures: list[CallFuture[Any]]) -> Batch:
    first = futures[0]
    items = [future.item for future in futures]
    sink = Futures(futures)
    batch = Batch(first.function, items, sink, first.options, 0, False, first.prelude)
    if Segments in set(map(type, items)):
        batch.weight = sum(i.size for i in items if type(i) is Segments) // len(items)
    for place, future in enumerate(futures):
        future.place = place
        future.batch = batch
        future.item = None
    return batch
