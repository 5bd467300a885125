"""What type checkers must see: submit checks the user's arguments, results have their types.

mypy and pyright check this file (``make lint``); it is never run. An unused ``type: ignore`` is an
error, so each ignored line also shows that the mistake on it is found.
"""

from __future__ import annotations

import multiprocessing.pool
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import assert_type

from hybridexec import (
    CallStream,
    ExecutorView,
    Frontier,
    HybridExecutor,
    Outcome,
    Pool,
    Progress,
    as_completed,
)
from hybridexec.pool_results import AsyncResult, IMapIterator, MapResult


def fetch(url: str, timeout: float = 1.0) -> bytes:
    return url.encode()


def count(numbers: int) -> Generator[int, None, str]:
    yield from range(numbers)
    return "done"


async def count_slowly(numbers: int) -> AsyncIterator[int]:
    for n in range(numbers):
        yield n


async def counted(numbers: int) -> list[int]:
    return [numbers]


def names() -> Iterable[str]:
    return ["a", "b"]


async def iterate(executor: HybridExecutor) -> None:
    async with executor.stream(count_slowly, 3) as stream:
        async for n in stream:
            assert_type(n, int)


async def afetch(url: str, delay: float = 1.0) -> bytes:
    return url.encode()


async def urls() -> AsyncIterator[str]:
    yield "url"


def show(progress: Progress) -> None:
    assert_type(progress.total, int | None)


def check(executor: HybridExecutor) -> None:
    as_base: ProcessPoolExecutor = executor
    del as_base
    assert_type(executor.submit(fetch, "url"), Future[bytes])
    assert_type(executor.submit(fetch, "url", timeout=2.0), Future[bytes])
    executor.submit(fetch)  # type: ignore[call-overload]
    executor.submit(fetch, 1)  # type: ignore[call-overload]
    executor.submit(fetch, "url", retries=1)  # type: ignore[arg-type, call-arg]
    assert_type(executor.map(fetch, ["url"]), Iterator[bytes])
    assert_type(executor.map(fetch, ["url"], buffersize=10), Iterator[bytes])
    assert_type(executor.map_unordered(fetch, ["url"]), Iterator[bytes])
    assert_type(executor.outcomes(fetch, ["url"]), Iterator[Outcome[bytes]])
    assert_type(executor.map(fetch, [("url", 2.0)], star=True), Iterator[bytes])
    assert_type(executor.map(fetch, ["url"], progress=True), Iterator[bytes])
    executor.map_unordered(fetch, ["url"], progress=print)
    executor.outcomes(fetch, ["url"], progress=show)
    executor.map(fetch, ["url"], progress="bar")  # type: ignore[call-overload]
    executor.map(fetch, ["url"], progress=fetch)  # type: ignore[arg-type]
    assert_type(executor.stream(count, 3), CallStream[int])
    assert_type(next(executor.stream(count, numbers=3)), int)
    assert_type(executor.stream(count_slowly, 3), CallStream[int])
    assert_type(executor.stream(counted, 3), CallStream[int])
    assert_type(executor.stream(names), CallStream[str])
    assert_type(executor.options(stream_buffersize=3).stream(names), CallStream[str])
    executor.stream(count, "3")  # type: ignore[call-overload]
    executor.stream(len, "3")  # type: ignore[call-overload]
    futures = [executor.submit(fetch, "url")]
    assert_type(as_completed(futures, progress=show), Iterator[Future[bytes]])
    view = executor.options(timeout=5)
    view = view.options(timeout=None, retries=2, retry_on=(OSError,), on_worker_loss="retry")
    executor.options(propagate=[ContextVar[int]("number"), ContextVar[str]("text")])
    executor.options(propagate=["text"])  # type: ignore[list-item]
    executor.options(timeout="5")  # type: ignore[arg-type]
    executor.options(retries=None)  # type: ignore[arg-type]
    executor.options(retry=1)  # type: ignore[call-arg]
    assert_type(view, ExecutorView)
    assert_type(view.submit(fetch, "url"), Future[bytes])
    HybridExecutor("two")  # type: ignore[arg-type]
    HybridExecutor(2, on_worker_loss="explode")  # type: ignore[arg-type]


def length(text: str) -> int:
    return len(text)


def check_pool(pool: Pool) -> None:
    as_base: multiprocessing.pool.Pool = pool
    del as_base
    assert_type(pool.apply(length, ("url",)), int)
    assert_type(pool.apply_async(length, ("url",)), AsyncResult[int])
    result: multiprocessing.pool.AsyncResult[int] = pool.apply_async(length, ("url",))
    assert_type(result.get(5), int)
    assert_type(pool.map(length, ["url"]), list[int])
    assert_type(pool.map_async(length, ["url"]), MapResult[int])
    assert_type(pool.map_async(length, ["url"]).get(), list[int])
    assert_type(pool.starmap(fetch, [("url", 2.0)]), list[bytes])
    assert_type(pool.imap(length, ["url"]), IMapIterator[int])
    assert_type(next(pool.imap_unordered(length, ["url"], buffersize=3)), int)
    pool.map(length, [1])  # type: ignore[arg-type]
    pool.apply_async(length, ("url",), callback=fetch)  # type: ignore[misc]
    assert_type(pool.busy + pool.idle, int)
    with pool as same:
        assert_type(same, Pool)
    Pool("two")  # type: ignore[arg-type]


def check_async_functions(executor: HybridExecutor) -> None:
    assert_type(executor.submit(afetch, "url"), Future[bytes])
    assert_type(executor.submit(partial(afetch, delay=2.0), "url"), Future[bytes])
    executor.submit(afetch, 1)  # type: ignore[call-overload]
    assert_type(executor.map(afetch, ["url"]), Iterator[bytes])
    assert_type(executor.map(afetch, ["url"], timeout=5, chunksize=2), Iterator[bytes])
    assert_type(executor.map_unordered(afetch, ["url"]), Iterator[bytes])
    assert_type(executor.map_unordered(afetch, ["url"], buffersize=9), Iterator[bytes])
    assert_type(executor.outcomes(afetch, ["url"], progress=show), Iterator[Outcome[bytes]])


async def check_asyncio(executor: HybridExecutor) -> None:
    assert_type(await executor.asubmit(fetch, "url", timeout=2.0), bytes)
    assert_type(await executor.asubmit(afetch, "url"), bytes)
    await executor.asubmit(fetch, 1)  # type: ignore[call-overload]
    assert_type(executor.amap(fetch, ["url"]), AsyncIterator[bytes])
    assert_type(executor.amap(afetch, urls(), buffersize=5), AsyncIterator[bytes])
    assert_type(executor.amap_unordered(fetch, urls(), ["url"]), AsyncIterator[bytes])
    assert_type(executor.amap_unordered(afetch, urls()), AsyncIterator[bytes])
    assert_type(executor.aoutcomes(afetch, urls()), AsyncIterator[Outcome[bytes]])
    executor.amap(fetch, ["url"], chunksize=5)  # type: ignore[call-overload]
    async with HybridExecutor(2) as entered, entered.options(timeout=5) as view:
        assert_type(entered, HybridExecutor)
        assert_type(view, ExecutorView)


def check_frontier(executor: HybridExecutor) -> None:
    frontier = Frontier(["url"])
    assert_type(frontier, Frontier[str])
    assert_type(frontier.add("url"), bool)
    assert_type(frontier.extend(["url"]), int)
    frontier.add(1)  # type: ignore[arg-type]
    assert_type(executor.outcomes(fetch, frontier), Iterator[Outcome[bytes]])
    assert_type(Frontier([("url", 1)], key=lambda item: item[0]), Frontier[tuple[str, int]])
