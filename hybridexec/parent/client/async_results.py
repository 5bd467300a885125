"""The results of many calls for an event loop: what ``amap`` and its relatives iterate.

Thread: that of the loop in which they are iterated.
Guarantees: it never blocks, but to read what is no async iterable, a few milliseconds at a time;
the end of the iteration, however it comes, is the stream's, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

from ... import native
from .. import lifecycle
from ..work import mailbox
from ..work.batch import Ended, Values
from .results import ends_all, outcome_of, value_of
from .streams import Stream

#: Makes a result of how a call ended, which is the one in the list.
Makes = Callable[[list[Ended]], Any]


class Signal:
    """Wakes the coroutine that waits for a stream; see :class:`.streams.Changed`."""

    def __init__(self) -> None:
        self._lock = native.new_lock()
        # Invariant: guarded by _lock; None while nobody waits.
        self._letter: mailbox.Letter | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        mailbox.deliver()

    def notify(self) -> None:
        """See :meth:`.streams.Changed.notify`."""
        letter, self._letter = self._letter, None
        if letter is not None:
            letter.release()

    def expect(self, letter: mailbox.Letter | None) -> None:
        """Who waits, or None. The lock is held."""
        self._letter = letter


class AsyncResults(AsyncIterator[Any]):
    """An async iterator over a stream's results."""

    def __init__(self, stream: Stream, signal: Signal, make: Makes, keep: object) -> None:
        """
        Args:
            signal: the stream's ``changed``.
            keep: is kept alive.
        """
        self._stream: Stream | None = stream
        self._signal = signal
        self._make = make
        self._keep = keep
        self._begun = self._busy = False
        # Taken from the stream, and not yielded: entries, and values in reverse order.
        self._entries: Iterator[Ended | Values] = iter(())
        self._values: list[Any] = []

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        stream = self._stream
        if stream is None:
            raise StopAsyncIteration
        if self._busy:
            raise RuntimeError("another task waits for the next result of this iterator")
        self._busy = True
        try:
            # No name is bound to a result: see .results.
            taken = await self._next(stream)
            if stream.count_fetched():
                await self._fill(stream)
            return self._values.pop() if taken is None else self._make(taken)
        except BaseException as error:
            self._close(lifecycle.is_interrupt(type(error)))
            if isinstance(error, CancelledError):  # which asyncio has a class of its own for
                raise asyncio.CancelledError from None
            raise
        finally:
            self._busy = False
            del stream

    async def _next(self, stream: Stream) -> list[Ended] | None:
        """How the next call ended, in a list; None if its value is there."""
        while not self._values:
            entry = next(self._entries, None)
            if entry is None:
                await self._take(stream)
            elif isinstance(entry, Values):
                self._values.extend(reversed(entry.values))
                entry.values.clear()
            else:
                if ends_all(*entry[1:3]):
                    raise CancelledError
                return [entry]
        return None

    async def _take(self, stream: Stream) -> None:
        """Take outcomes from the stream, and wait for some.

        Raises:
            StopAsyncIteration: there are no more.
        """
        if not self._begun:
            self._begun = True
            stream.begin()
        while True:
            await self._fill(stream)
            letter = None
            with self._signal:
                ready = stream.poll()
                if ready is None:
                    letter = mailbox.Letter(asyncio.get_running_loop())
                    self._signal.expect(letter)
            if letter is not None:
                await letter.waiter
            elif ready:
                self._entries = stream.handing(ready)
                return
            elif stream.is_over():
                raise StopAsyncIteration

    async def _fill(self, stream: Stream) -> None:
        while stream.read_more():  # noqa: ASYNC110  # no event: others have their turns
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Cancel the calls that have not started, and end."""
        self._close(running=False)

    def _close(self, running: bool) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and self._begun:
            stream.close(running)
        self._values.clear()
        self._entries = iter(())

    def __del__(self) -> None:
        self._close(running=False)


def values(return_exceptions: bool) -> Makes:
    """Results are what calls return, or raise; these may be returned, too."""
    return lambda taken: value_of(taken, return_exceptions)


def outcomes(stream: Stream) -> Makes:
    """Results are ``Outcome`` records."""
    kept = stream.keep_items()

    def make(taken: list[Ended]) -> Any:
        ended = taken.pop()
        return outcome_of(ended, kept.pop(ended[0]))

    return make
