"""Contenders that run many sleeps at once: several questions are about these."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from . import calls
from .pair import PAIR, Pair
from .peers import AIO, SUBMIT, WORKERS, aio_pool

#: Runs a number of sleeps of so many seconds at once; returns when all have ended.
Run = Callable[[int, float], None]


def open_runner(contender: str, limit: int) -> AbstractContextManager[Run]:
    """A contender with room for ``limit`` calls in each of its two processes."""
    opener = {PAIR: _pair, AIO: _aio}.get(contender, _hybrid)
    return opener(limit, contender)


@contextmanager
def _hybrid(limit: int, contender: str) -> Iterator[Run]:
    from hybridexec import HybridExecutor

    with warnings.catch_warnings():
        # Sleeping takes no descriptors.
        warnings.simplefilter("ignore", RuntimeWarning)
        executor = HybridExecutor(WORKERS, concurrency=limit)
    with executor:

        def run_map(count: int, seconds: float) -> None:
            for _ in executor.map(calls.sleep, [seconds] * count):
                pass

        def run_submit(count: int, seconds: float) -> None:
            futures = [executor.submit(calls.sleep, seconds) for _ in range(count)]
            for future in futures:
                future.result()

        yield run_submit if contender == SUBMIT else run_map


@contextmanager
def _pair(limit: int, _: str) -> Iterator[Run]:
    with Pair(WORKERS) as pair:

        def run(count: int, seconds: float) -> None:
            assert len(pair.run(calls.sleep, [seconds] * count, limit)) == count

        yield run


@contextmanager
def _aio(limit: int, _: str) -> Iterator[Run]:
    with asyncio.Runner() as runner, aio_pool(runner, childconcurrency=limit) as pool:

        async def sleep_all(count: int, seconds: float) -> None:
            await pool.map(calls.async_sleep, [seconds] * count)

        yield lambda count, seconds: runner.run(sleep_all(count, seconds))
