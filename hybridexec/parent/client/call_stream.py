"""The items of one call that yields them: what ``executor.stream`` returns.

Thread: consumers'.
Guarantees: see :mod:`.arrivals`. A stream that nobody refers to any more is closed: the engine
refers to the :class:`.arrivals.Arrivals`, its user to the :class:`CallStream`.
"""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from .arrivals import NOTHING, OVER, Arrivals

if TYPE_CHECKING:
    from types import TracebackType

T_co = TypeVar("T_co", covariant=True)

#: Items that are fetched without waiting before other tasks of a loop have a turn.
_MOST_IN_TURN = 64


class CallStream(Generic[T_co]):
    """The items of a call, as they come: an iterator, and an asynchronous one.

    ``for`` and ``async for`` take turns as one likes: each item is handed out once. What the
    generator returned is what ``yield from`` makes of a stream, and :attr:`value` when all items
    have been fetched.

    As a context manager it is closed at the end of the block.
    """

    __slots__ = ("__weakref__", "_arrivals", "_in_turn")

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._in_turn = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        """Return the next item; wait for it.

        Raises:
            StopIteration: there are no more; its ``value`` is what the generator returned, the
                first time.
            CancelledError: the executor has cancelled the call.
            RuntimeError: this process was forked.
            Exception: whatever has ended the call, after the items before that.
        """
        item = self._arrivals.fetch()
        if item is NOTHING:
            item = self._arrivals.wait()
        if item is OVER:
            parting, self._arrivals.parting = self._arrivals.parting, ()
            raise StopIteration(*parting)
        return cast("T_co", item)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        """As :meth:`__next__`; at the end it raises StopAsyncIteration, which has no value."""
        if self._in_turn == _MOST_IN_TURN:
            import asyncio

            self._in_turn = 0
            await asyncio.sleep(0)  # before anything is fetched, which would be lost if it raised
        self._in_turn += 1
        item = self._arrivals.fetch()
        if item is NOTHING:
            self._in_turn = 0
            item = await self._arrivals.wait_async()
        if item is OVER:
            raise StopAsyncIteration
        return cast("T_co", item)

    @property
    def value(self) -> Any:
        """What the generator returned.

        Raises:
            InvalidStateError: that is not known: not all items have been fetched, or the call
                failed, or the stream was closed.
        """
        returned = self._arrivals.returned
        if not returned:
            raise InvalidStateError("the generator's return value is known when all items are out")
        return returned[0]

    def close(self) -> None:
        """Stop the call; hand out nothing more.

        As with a generator's ``close()``, a GeneratorExit is raised in the call's generator where
        it waits at its ``yield``, so that its ``finally`` blocks run. Where it waits for something
        else, it is stopped as by ``Future.cancel()``. This returns at once; the call holds its slot
        until it has ended.
        """
        self._arrivals.close()
        self._arrivals.wake_all()

    async def aclose(self) -> None:
        """As :meth:`close`, for ``contextlib.aclosing``."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._arrivals.close()
