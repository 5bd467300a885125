"""Streaming calls whose generators may be asynchronous.

Thread: main, in calls' tasks.
Guarantees: as :mod:`..sources` says; who waits for its consumer lets the loop run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isawaitable
from typing import Any

from ...wire.wording import function_name
from ..sources import Source, Sources, iterator, send

_OVER: Any = object()


class AsyncStreaming:
    """A function whose calls yield, and return what their generators do, if these can."""

    def __init__(self, window: int, sources: Sources, function: Callable[..., Any]) -> None:
        self._function = function
        self._window = window
        self._sources = sources
        # As whoever names the call sees them.
        self.__qualname__ = function_name(function)
        self.__module__ = getattr(function, "__module__", __name__)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, and send what its result yields; see :meth:`.Streaming.__call__`."""
        source = self._sources.open(self._window)
        try:
            result = self._function(*args, **kwargs)
            if isawaitable(result):
                result = await result
            if hasattr(type(result), "__aiter__"):
                return await self._send_all_of(source, aiter(result))
            return await self._send_all(source, iterator(result, self.__qualname__))
        finally:
            self._sources.end(source)

    async def _send_all(self, source: Source, items: Iterator[Any]) -> Any:
        try:
            while True:
                await self._wait(source)
                try:
                    item = next(items)
                except StopIteration as end:
                    return end.value
                send(source, item, self.__qualname__)
                del item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    async def _send_all_of(self, source: Source, items: AsyncIterator[Any]) -> None:
        try:
            while True:
                await self._wait(source)
                item = await anext(items, _OVER)
                if item is _OVER:
                    return
                send(source, item, self.__qualname__)
                del item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    async def _wait(self, source: Source) -> None:
        """Wait until the call may go on; see :meth:`.Streaming.wait`."""
        event: Any = source.event
        while source.has_to_wait:
            stop = self._sources.raised(source.call)
            if stop is not None:
                raise stop
            event.clear()
            if source.has_to_wait:
                await event.wait()
