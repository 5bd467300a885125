"""Contenders that run coroutines in two processes."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..harness.question import OURS, require
from .peers import AIO, WORKERS, aio_pool

UVLOOP = "hybridexec, uvloop"
COROUTINES = (OURS, UVLOOP, AIO)

#: Calls an async function with each item; returns the results in order.
Map = Callable[[Callable[[Any], Coroutine[Any, Any, Any]], Sequence[Any]], list[Any]]


@contextmanager
def open_map(contender: str, limit: int) -> Iterator[Map]:
    """A contender with room for ``limit`` calls in each of its two processes. It has asyncio's own
    loops, unless it is the one with uvloop's."""
    if contender == AIO:
        with asyncio.Runner() as runner, aio_pool(runner, childconcurrency=limit) as pool:

            async def map_all(function: Any, items: Sequence[Any]) -> list[Any]:
                results: list[Any] = await pool.map(function, items)
                return results

            yield lambda function, items: runner.run(map_all(function, items))
        return
    from hybridexec import HybridExecutor

    factory = require("uvloop").new_event_loop if contender == UVLOOP else asyncio.new_event_loop
    with warnings.catch_warnings():
        # Not all calls take a descriptor.
        warnings.simplefilter("ignore", RuntimeWarning)
        executor = HybridExecutor(WORKERS, concurrency=limit, loop_factory=factory)
    with executor:
        yield lambda function, items: list(executor.map(function, items))


async def same(value: Any) -> Any:
    """The least that a coroutine can do."""
    return value


async def fetch(url: str) -> int:
    """The size of what ``url`` answers; by one aiohttp session for the process."""
    async with _session().get(url) as response:
        return len(await response.read())


@cache
def _session() -> Any:
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
