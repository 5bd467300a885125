"""The contenders behind one face: make calls, map, stream.

Each is used as its own documentation says, with as little as possible between it and the clock.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from operator import methodcaller
from typing import Any

from ..harness.question import OURS, require
from . import calls

WORKERS = 2
#: How many items those who need chunks get in one, where chunks are what they are good at.
CHUNK = 1000


class Peer:
    """A contender that is ready for calls."""

    #: Starts a call: ``submit(function, *arguments)`` gives a handle.
    submit: Callable[..., Any]
    #: Waits for the result of a handle.
    take: Callable[[Any], Any]

    def run_noops(self, count: int) -> None:
        """Submit ``count`` no-op calls, then wait for each result."""
        submit, take = self.submit, self.take
        for handle in [submit(calls.noop) for _ in range(count)]:
            take(handle)

    def run_one(self) -> None:
        """Submit one no-op call and wait for its result."""
        self.take(self.submit(calls.noop))

    def map(self, count: int, chunksize: int) -> None:
        """Map over ``count`` items and check the last result."""
        assert self.map_over(calls.same, range(count), chunksize)[-1] == count - 1

    def map_over(
        self, function: Callable[[Any], Any], items: Sequence[Any], chunksize: int | None
    ) -> list[Any]:
        """All results; None leaves the chunks' size to those who choose one."""
        raise NotImplementedError

    def stream(self, items: Iterable[int]) -> Iterable[int]:
        """Map over items that are read as lazily as the contender can; results in any order."""
        raise NotImplementedError


class ExecutorPeer(Peer):
    """Anything of the shape of ``concurrent.futures.Executor``."""

    take = staticmethod(methodcaller("result"))

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.submit = executor.submit

    def map_over(
        self, function: Callable[[Any], Any], items: Sequence[Any], chunksize: int | None
    ) -> list[Any]:
        return list(self.executor.map(function, items, chunksize=chunksize or 1))

    def stream(self, items: Iterable[int]) -> Iterable[int]:
        return self.executor.map(calls.same, items, chunksize=CHUNK)


class HybridPeer(ExecutorPeer):
    """This library, which has a call of its own for streams."""

    executor: Any

    def stream(self, items: Iterable[int]) -> Iterable[int]:
        return self.executor.map_unordered(calls.same, items)


class PoolPeer(Peer):
    """``multiprocessing.Pool``."""

    take = staticmethod(methodcaller("get"))

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.apply_async(function, arguments)

    def map_over(
        self, function: Callable[[Any], Any], items: Sequence[Any], chunksize: int | None
    ) -> list[Any]:
        return list(self._pool.map(function, items, chunksize))

    def stream(self, items: Iterable[int]) -> Iterable[int]:
        return self._pool.imap_unordered(calls.same, items, CHUNK)


class MpirePeer(PoolPeer):
    """``mpire.WorkerPool``."""

    def map_over(
        self, function: Callable[[Any], Any], items: Sequence[Any], chunksize: int | None
    ) -> list[Any]:
        return list(self._pool.map(function, items, chunk_size=chunksize))

    def stream(self, items: Iterable[int]) -> Iterable[int]:
        return self._pool.imap_unordered(calls.same, items, chunk_size=CHUNK)


class PebblePeer(Peer):
    """``pebble.ProcessPool``."""

    take = staticmethod(methodcaller("result"))

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.schedule(function, args=arguments)

    def map_over(
        self, function: Callable[[Any], Any], items: Sequence[Any], chunksize: int | None
    ) -> list[Any]:
        return list(self._pool.map(function, items, chunksize=chunksize or 1).result())


class AioPeer(Peer):
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


@contextmanager
def _hybrid(workers: int, **options: Any) -> Iterator[Peer]:
    from hybridexec import HybridExecutor

    with HybridExecutor(workers, **options) as executor:
        yield HybridPeer(executor)


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
    loky = require("loky")
    executor = loky.ProcessPoolExecutor(workers)
    try:
        yield ExecutorPeer(executor)
    finally:
        executor.shutdown(kill_workers=True)


@contextmanager
def _pebble(workers: int) -> Iterator[Peer]:
    pebble = require("pebble")
    with pebble.ProcessPool(workers) as pool:
        yield PebblePeer(pool)


@contextmanager
def _mpire(workers: int) -> Iterator[Peer]:
    mpire = require("mpire")
    with mpire.WorkerPool(workers, start_method="fork", keep_alive=True) as pool:
        yield MpirePeer(pool)


@contextmanager
def _aiomultiprocess(workers: int) -> Iterator[Peer]:
    with asyncio.Runner() as runner, aio_pool(runner, workers) as pool:
        yield AioPeer(runner, pool)


@contextmanager
def aio_pool(runner: asyncio.Runner, workers: int = WORKERS, **options: Any) -> Iterator[Any]:
    """An ``aiomultiprocess.Pool`` on the loop of ``runner``."""
    aiomultiprocess = require("aiomultiprocess")

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


#: ProcessPoolExecutor, with two of its start methods; targets are compared with both.
FORK, FORKSERVER = PROCESS_POOLS = "ProcessPoolExecutor, fork", "ProcessPoolExecutor, forkserver"
SPAWN = "ProcessPoolExecutor, spawn"
ONE_AT_A_TIME = "hybridexec, concurrency=1"
#: Where :data:`OURS` is what its ``map`` does.
SUBMIT = "hybridexec, submit"
THREADS, POOL, AIO = "ThreadPoolExecutor", "multiprocessing.Pool", "aiomultiprocess"
LOKY, PEBBLE, MPIRE, DASK = "loky", "pebble", "mpire", "Dask"

_PEERS: dict[str, Callable[[int], AbstractContextManager[Peer]]] = {
    OURS: _hybrid,
    ONE_AT_A_TIME: lambda workers: _hybrid(workers, concurrency=1),
    FORK: lambda workers: _process_pool(workers, "fork"),
    FORKSERVER: lambda workers: _process_pool(workers, "forkserver"),
    THREADS: _thread_pool,
    POOL: _multiprocessing_pool,
    LOKY: _loky,
    PEBBLE: _pebble,
    MPIRE: _mpire,
    AIO: _aiomultiprocess,
}


def open_peer(name: str, workers: int = WORKERS) -> AbstractContextManager[Peer]:
    """The contender of that name, with two workers or so many, as a context manager."""
    return _PEERS[name](workers)
