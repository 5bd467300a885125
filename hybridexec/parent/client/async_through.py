"""``amap`` for a subclass that has a ``submit`` of its own, which all calls are to go through.

Thread: that of the consumer's event loop.
Guarantees: results come in the order of the items, whatever else is awaited; at most so many calls
as the bound says are unfinished or unfetched.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from typing import Any

from .async_inputs import zipped


async def map_through(
    asubmit: Callable[..., Awaitable[Any]],
    fn: Callable[..., Any],
    iterables: Sequence[Iterable[Any] | AsyncIterable[Any]],
    star: bool,
    bound: int,
) -> AsyncGenerator[Any]:
    """See ``HybridExecutor.amap``."""
    rows = zipped(iterables)
    coming: asyncio.Future[Any] | None = asyncio.ensure_future(anext(rows))
    calls: deque[asyncio.Future[Any]] = deque()
    try:
        while calls or coming is not None:
            waited = {coming} if coming is not None and len(calls) < bound else set()
            waited |= {calls[0]} if calls else set()
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if coming in done:
                coming = _call(asubmit, fn, coming, calls, rows, star)
            else:
                yield calls.popleft().result()
    finally:
        for call in calls:
            call.cancel()
        if coming is not None:
            coming.cancel()


def _call(
    asubmit: Callable[..., Awaitable[Any]],
    fn: Callable[..., Any],
    came: asyncio.Future[Any],
    calls: deque[asyncio.Future[Any]],
    rows: AsyncIterator[tuple[Any, ...]],
    star: bool,
) -> asyncio.Future[Any] | None:
    """Make the call for an item that has come, and wait for the next; None if there is none."""
    try:
        row = came.result()
    except StopAsyncIteration:
        return None
    calls.append(asyncio.ensure_future(asubmit(fn, *(row[0] if star else row))))
    return asyncio.ensure_future(anext(rows))
