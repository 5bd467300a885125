"""The contenders of the fault scenarios behind one face.

Each is made and used as its own documentation says; what it does not offer, it is not asked for.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from ..harness.question import OURS, require
from . import calls

WORKERS = 2

Initializer = Callable[[], None] | None


class ExecutorFaults:
    """Anything of the shape of ``concurrent.futures.Executor``."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Begin a call; what comes back has ``result(timeout)``."""
        return self.executor.submit(function, *arguments)

    def submit_limited(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """Begin a call that is to be stopped after so long, by whatever means there are."""
        future = self.submit(function, *arguments)
        threading.Timer(seconds, future.cancel).start()
        return future

    def end(self) -> None:
        """Shut down in the ordinary way."""
        self.executor.shutdown()


class HybridFaults(ExecutorFaults):
    """Ours: calls have timeouts."""

    def submit_limited(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.executor.options(timeout=seconds).submit(function, *arguments)


class _PoolResult:
    def __init__(self, result: Any) -> None:
        self._result = result

    def result(self, timeout: float) -> Any:
        return self._result.get(timeout)


class PoolFaults:
    """``multiprocessing.Pool``: it has no means to stop one call."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return _PoolResult(self._pool.apply_async(function, arguments))

    def submit_limited(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.submit(function, *arguments)

    def end(self) -> None:
        self._pool.close()
        self._pool.join()


class PebbleFaults:
    """``pebble.ProcessPool``: calls have timeouts."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(function, None, *arguments)

    def submit_limited(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(function, seconds, *arguments)

    def end(self) -> None:
        self._pool.close()
        self._pool.join()


class AioFaults:
    """``aiomultiprocess.Pool``, on an event loop in a thread of its own."""

    def __init__(self, **options: Any) -> None:
        aiomultiprocess = require("aiomultiprocess")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def make() -> Any:
            return aiomultiprocess.Pool(WORKERS, **options)

        self._pool = self._run(make()).result()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._run(self._apply(function, arguments))

    async def _apply(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return await self._pool.apply(calls.run, (function, *arguments))

    def submit_limited(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        coroutine = asyncio.wait_for(self._apply(function, arguments), seconds)
        return self._run(coroutine)

    def end(self) -> None:
        async def close() -> None:
            self._pool.close()
            await self._pool.join()

        self._run(close()).result()


def _hybrid(initializer: Initializer, **options: Any) -> Any:
    from hybridexec import HybridExecutor

    return HybridFaults(HybridExecutor(WORKERS, initializer=initializer, **options))


def _process_pool(initializer: Initializer) -> Any:
    context = multiprocessing.get_context("forkserver")
    return ExecutorFaults(ProcessPoolExecutor(WORKERS, mp_context=context, initializer=initializer))


def _multiprocessing_pool(initializer: Initializer) -> Any:
    return PoolFaults(multiprocessing.get_context("forkserver").Pool(WORKERS, initializer))


def _loky(initializer: Initializer) -> Any:
    loky = require("loky")
    return ExecutorFaults(loky.ProcessPoolExecutor(WORKERS, initializer=initializer))


def _pebble(initializer: Initializer) -> Any:
    pebble = require("pebble")
    return PebbleFaults(pebble.ProcessPool(WORKERS, initializer=initializer))


_POOLS: dict[str, Callable[[Initializer], Any]] = {
    OURS: _hybrid,
    f"{OURS}, concurrency=1": lambda initializer: _hybrid(initializer, concurrency=1),
    "ProcessPoolExecutor": _process_pool,
    "multiprocessing.Pool": _multiprocessing_pool,
    "loky": _loky,
    "pebble": _pebble,
    "aiomultiprocess": lambda initializer: AioFaults(initializer=initializer),
}

CONTENDERS = tuple(_POOLS)


def open_pool(contender: str, initializer: Initializer = None) -> Any:
    """The contender of that name, with two workers."""
    return _POOLS[contender](initializer)
