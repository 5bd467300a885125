"""Where the items of a stream come from whose results are awaited.

Thread: that of the consumer's event loop.
Guarantees: no more items of an async iterable are awaited than there is room for calls; results are
handed out while they are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..work.batch import Ended, Values
from .inputs import Input, input_of

if TYPE_CHECKING:
    from .streams import Stream


class Awaited:
    """The items of an async iterator, which a task awaits."""

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self._items = items
        self.exhausted = False
        self._came: deque[Any] = deque()
        self._error: BaseException | None = None
        # Whether the iterator has ended.
        self._over = False
        # How many items may have come and not been read; who waits for more room.
        self._most = 0
        self._room = asyncio.Event()
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def news(self) -> bool:
        """See :class:`.inputs.Input`."""
        return bool(self._came) or (self._over and not self.exhausted)

    @property
    def awaited(self) -> bool:
        """See :class:`.inputs.Input`."""
        return not self._over

    def begin(self, stream: Stream) -> None:
        """See :meth:`.inputs.Input.begin`."""
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._await(), name="hybridexec-items")

    def read(self, room: int) -> list[Any]:
        """See :meth:`.inputs.Input.read`."""
        came = self._came
        chunk = [came.popleft() for _ in range(min(room, len(came)))]
        self._most = room - len(chunk)
        if self._most > len(came):
            self._room.set()
        if self._over and not came and (self._error is None or not chunk):
            self.exhausted = True
            error, self._error = self._error, None
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # this frame is in its traceback
        return chunk

    def handing(self, entries: Sequence[Ended | Values]) -> Iterable[Ended | Values]:
        """See :meth:`.inputs.Input.handing`."""
        return entries

    def close(self) -> None:
        """See :meth:`.inputs.Input.close`."""
        self.exhausted = self._over = True
        self._came.clear()
        self._stream = None
        task, self._task = self._task, None
        if task is not None and not task.done():
            try:
                self._loop.call_soon_threadsafe(task.cancel)  # a finalizer may run in any thread
            except RuntimeError:
                pass  # the loop was closed

    async def _await(self) -> None:
        try:
            async for item in self._items:
                if self.exhausted:
                    return
                self._came.append(item)
                if len(self._came) == 1:
                    self._tell()
                while len(self._came) >= self._most:
                    self._room.clear()
                    await self._room.wait()
        except BaseException as error:
            self._error = error
        finally:
            self._over = True
            self._tell()

    def _tell(self) -> None:
        if self._stream is not None:
            self._stream.wake()


def async_input_of(iterables: Sequence[Iterable[Any] | AsyncIterable[Any]], ordered: bool) -> Input:
    """What a stream over these reads, of which some, or all, may be async."""
    sync = [each for each in iterables if not isinstance(each, AsyncIterable)]
    if len(sync) == len(iterables):
        return input_of(sync, ordered)
    first = iterables[0]
    if len(iterables) == 1 and isinstance(first, AsyncIterable):
        return Awaited(aiter(first))
    return Awaited(zipped(iterables))


def zipped(
    iterables: Sequence[Iterable[Any] | AsyncIterable[Any]],
) -> AsyncIterator[tuple[Any, ...]]:
    """As ``zip``."""
    return _zipped(
        [aiter(each) if isinstance(each, AsyncIterable) else iter(each) for each in iterables]
    )


async def _zipped(
    iterators: Sequence[Iterator[Any] | AsyncIterator[Any]],
) -> AsyncIterator[tuple[Any, ...]]:
    while iterators:
        item = []
        for each in iterators:
            try:
                item.append(await anext(each) if isinstance(each, AsyncIterator) else next(each))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(item)
