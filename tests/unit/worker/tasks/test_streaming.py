"""Streaming calls in a loop: what they send, how they wait, and what closes their generators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hybridexec.worker.sources import Sources
from hybridexec.worker.tasks.streaming import AsyncStreaming

CALL = 5


class Stopped(BaseException):
    """Has been raised in a call."""


class Lane:
    """Runs one call in a task, and keeps what it puts out."""

    def __init__(self) -> None:
        self.put: list[Any] = []
        self.got: list[Any] = []
        self.stop: BaseException | None = None
        self.sources = Sources(lambda: CALL, self.put.append, asyncio.Event, lambda call: self.stop)

    def fetch(self) -> None:
        entries, self.put[:] = self.put[:], []
        for entry in entries:
            self.got += entry.take()
        self.sources.more(CALL, len(self.got))
        self.sources.look()

    def begin(self, function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
        return asyncio.ensure_future(AsyncStreaming(3, self.sources, function)(*args))

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        task = self.begin(function, *args)
        while not task.done():
            await asyncio.sleep(0)
            self.fetch()
        return task.result()


async def count(numbers: int) -> AsyncIterator[int]:
    for n in range(numbers):
        await asyncio.sleep(0)
        yield n


def count_at_once(numbers: int) -> Iterator[int]:
    yield from range(numbers)
    return "that was it"  # type: ignore[return-value]


async def counted(numbers: int) -> list[int]:
    await asyncio.sleep(0)
    return list(range(numbers))


async def counting(numbers: int) -> AsyncIterator[int]:
    return count(numbers)


@pytest.mark.parametrize(
    ("function", "returned"),
    [(count, None), (count_at_once, "that was it"), (counted, None), (counting, None)],
)
def test_all_that_yields_is_sent(function: Callable[..., Any], returned: Any) -> None:
    lane = Lane()
    assert asyncio.run(lane.run(function, 10)) == returned
    assert lane.got == list(range(10))


@pytest.mark.parametrize("function", [count, count_at_once])
def test_it_waits_when_its_window_is_full_and_lets_others_run(function: Callable[..., Any]) -> None:
    lane = Lane()

    async def main() -> None:
        task = lane.begin(function, 10)
        for _ in range(30):
            await asyncio.sleep(0)
        assert [entry.values for entry in lane.put] == [[0, 1, 2]]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_generator_is_closed_where_its_call_is_cancelled() -> None:
    lane = Lane()
    closed: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 0
        except GeneratorExit:
            await asyncio.sleep(0)  # it may wait for its clean-up
            closed.append("closed")
            raise

    async def main() -> None:
        task = lane.begin(endless)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert closed == ["closed"]


def test_one_that_has_swallowed_its_stop_is_closed_when_it_would_wait() -> None:
    lane = Lane()
    closed: list[bool] = []

    async def deaf() -> AsyncIterator[int]:
        try:
            while True:
                lane.stop = Stopped()
                yield 0
        finally:
            closed.append(True)

    async def main() -> None:
        with pytest.raises(Stopped):
            await lane.begin(deaf)

    asyncio.run(main())
    assert closed == [True]


def test_what_cannot_be_iterated_is_refused() -> None:
    async def one() -> int:
        return 1

    with pytest.raises(TypeError, match="one returned an object of type int"):
        asyncio.run(Lane().run(one))
