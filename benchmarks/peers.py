"""The contenders behind one face: run many no-op calls, run one, map.

Each is used as its own documentation says, with as little as possible between it and the clock.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from . import calls
from .question import Skip

WORKERS = 2


class Peer(Protocol):
    """A contender that is ready for calls."""

    def run_noops(self, count: int) -> None:
        """Submit ``count`` no-op calls, then wait for each result."""

    def run_one(self) -> None:
        """Submit one no-op call and wait for its result."""

    def map(self, count: int, chunksize: int) -> None:
        """Map over ``count`` items and check the last result."""


class ExecutorPeer:
    """Anything of the shape of ``concurrent.futures.Executor``."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run_noops(self, count: int) -> None:
        submit = self.executor.submit
        futures = [submit(calls.noop) for _ in range(count)]
        for future in futures:
            future.result()

    def run_one(self) -> None:
        self.executor.submit(calls.noop).result()

    def map(self, count: int, chunksize: int) -> None:
        results = list(self.executor.map(calls.same, range(count), chunksize=chunksize))
        assert results[-1] == count - 1


class PoolPeer:
    """``multiprocessing.Pool``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def run_noops(self, count: int) -> None:
        submit = self._pool.apply_async
        for result in [submit(calls.noop) for _ in range(count)]:
            result.get()

    def run_one(self) -> None:
        self._pool.apply_async(calls.noop).get()

    def map(self, count: int, chunksize: int) -> None:
        assert self._pool.map(calls.same, range(count), chunksize)[-1] == count - 1


class PebblePeer:
    """``pebble.ProcessPool``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def run_noops(self, count: int) -> None:
        submit = self._pool.schedule
        for future in [submit(calls.noop) for _ in range(count)]:
            future.result()

    def run_one(self) -> None:
        self._pool.schedule(calls.noop).result()

    def map(self, count: int, chunksize: int) -> None:
        results = list(self._pool.map(calls.same, range(count), chunksize=chunksize).result())
        assert results[-1] == count - 1


class AioPeer:
    """``aiomultiprocess.Pool``, driven by an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, pool: Any) -> None:
        self._runner = runner
        self._pool = pool

    def run_noops(self, count: int) -> None:
        async def run() -> None:
            await asyncio.gather(*[self._pool.apply(calls.async_noop) for _ in range(count)])

        self._runner.run(run())

    def run_one(self) -> None:
        self._runner.run(self._pool.apply(calls.async_noop))

    def map(self, count: int, chunksize: int) -> None:
        raise Skip("its map needs async functions")


@contextmanager
def _hybrid(workers: int, **options: Any) -> Iterator[Peer]:
    from hybridexec import HybridExecutor

    with HybridExecutor(workers, **options) as executor:
        yield ExecutorPeer(executor)


@contextmanager
def _process_pool(workers: int, method: str) -> Iterator[Peer]:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        yield ExecutorPeer(executor)


@contextmanager
def _thread_pool(workers: int) -> Iterator[Peer]:
    with ThreadPoolExecutor(workers) as executor:
        yield ExecutorPeer(executor)


@contextmanager
def _multiprocessing_pool(workers: int) -> Iterator[Peer]:
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield PoolPeer(pool)


@contextmanager
def _loky(workers: int) -> Iterator[Peer]:
    try:
        import loky
    except ImportError:
        raise Skip("loky is not installed") from None
    executor = loky.ProcessPoolExecutor(workers)
    try:
        yield ExecutorPeer(executor)
    finally:
        executor.shutdown(kill_workers=True)


@contextmanager
def _pebble(workers: int) -> Iterator[Peer]:
    try:
        import pebble
    except ImportError:
        raise Skip("pebble is not installed") from None
    with pebble.ProcessPool(workers) as pool:
        yield PebblePeer(pool)


@contextmanager
def _aiomultiprocess(workers: int) -> Iterator[Peer]:
    with asyncio.Runner() as runner, aio_pool(runner, workers) as pool:
        yield AioPeer(runner, pool)


@contextmanager
def aio_pool(runner: asyncio.Runner, workers: int = WORKERS, **options: Any) -> Iterator[Any]:
    """An ``aiomultiprocess.Pool`` on the loop of ``runner``."""
    try:
        import aiomultiprocess
    except ImportError:
        raise Skip("aiomultiprocess is not installed") from None

    async def make() -> Any:
        return aiomultiprocess.Pool(workers, **options)

    pool = runner.run(make())

    async def end() -> None:
        pool.terminate()
        await pool.join()

    try:
        yield pool
    finally:
        runner.run(end())


_PEERS: dict[str, Callable[[int], AbstractContextManager[Peer]]] = {
    "hybridexec": _hybrid,
    "hybridexec, concurrency=1": lambda workers: _hybrid(workers, concurrency=1),
    "ProcessPoolExecutor, fork": lambda workers: _process_pool(workers, "fork"),
    "ProcessPoolExecutor, forkserver": lambda workers: _process_pool(workers, "forkserver"),
    "ProcessPoolExecutor, spawn": lambda workers: _process_pool(workers, "spawn"),
    "ThreadPoolExecutor": _thread_pool,
    "multiprocessing.Pool": _multiprocessing_pool,
    "loky": _loky,
    "pebble": _pebble,
    "aiomultiprocess": _aiomultiprocess,
}

PROCESS_POOLS = ("ProcessPoolExecutor, fork", "ProcessPoolExecutor, forkserver")


def open_peer(name: str, workers: int = WORKERS) -> AbstractContextManager[Peer]:
    """The contender of that name, with two workers or so many, as a context manager."""
    return _PEERS[name](workers)
