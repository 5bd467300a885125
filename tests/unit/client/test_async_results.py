"""Results for event loops, over an engine that runs nothing by itself: order, bounds, ends."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable
from typing import Any

import pytest

from hybridexec import Frontier
from hybridexec.parent.client.async_inputs import async_input_of
from hybridexec.parent.client.async_results import AsyncResults, Makes, Signal, outcomes, values
from hybridexec.parent.client.streams import Stream
from hybridexec.parent.work.batch import ALL
from hybridexec.process import Process
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, FakeEngine


def make(
    *items: Iterable[Any] | AsyncIterable[Any],
    bound: int = 100,
    ordered: bool = False,
    made: Makes | None = None,
) -> tuple[FakeEngine, AsyncResults]:
    engine: Any = FakeEngine()
    signal = Signal()
    source = async_input_of(items, ordered)
    single = len(items) == 1
    stream = Stream(engine, FUNCTION, None, source, single, OPTIONS, bound, ordered, signal)
    return engine, AsyncResults(stream, signal, made or values(False), None)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await main

    asyncio.run(limited())


async def until_open(engine: FakeEngine, count: int) -> None:
    while len(engine.open) < count:  # noqa: ASYNC110  # the engine tells nobody
        await asyncio.sleep(0)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("ordered", [True, False])
def test_results_come_as_calls_end(ordered: bool) -> None:
    async def main() -> None:
        engine, results = make(range(4), ordered=ordered)
        first = asyncio.ensure_future(anext(results))
        await until_open(engine, 4)
        assert not first.done()
        engine.finish(3)
        engine.finish_all()
        assert [await first] + [value async for value in results] == (
            [0, 1, 2, 3] if ordered else [3, 0, 1, 2]
        )

    run(main())


def test_no_items_are_no_results() -> None:
    async def main() -> None:
        for items in ([], numbers(0), Frontier()):
            _, results = make(items)
            assert [value async for value in results] == []
            with pytest.raises(StopAsyncIteration):
                await anext(results)

    run(main())


def test_items_are_awaited_while_results_come() -> None:
    async def main() -> None:
        more = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            await more.wait()
            yield 2

        engine, results = make(items())
        first = asyncio.ensure_future(anext(results))
        await until_open(engine, 1)
        engine.finish()
        assert await first == 1
        second = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0)
        more.set()
        await until_open(engine, 1)
        engine.finish()
        assert await second == 2
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


@pytest.mark.parametrize("bound", [1, 3, 10])
def test_no_more_async_items_are_taken_than_the_bound(bound: int) -> None:
    async def main() -> None:
        read = 0

        async def items() -> AsyncIterator[int]:
            nonlocal read
            for number in itertools.count():
                read += 1
                yield number

        engine, results = make(items(), bound=bound)
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert read <= bound + 1
        engine.finish()
        assert await waiting == 0
        for fetched in range(1, 100):
            waiting = asyncio.ensure_future(anext(results))
            await until_open(engine, 1)
            engine.finish()
            assert await waiting == fetched
            assert read <= fetched + 1 + bound + 1
            assert len(engine.open) <= bound

    run(main())


def test_items_of_several_iterables_async_or_not_go_together() -> None:
    async def main() -> None:
        engine, results = make(numbers(5), "abc", ordered=True)
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 3)
        engine.finish_all()
        assert [await waiting] + [value async for value in results] == [0, 1, 2]

    run(main())


def test_an_error_of_the_iterable_comes_after_its_items() -> None:
    async def main() -> None:
        async def items() -> AsyncIterator[int]:
            yield 1
            raise KeyError("no more")

        engine, results = make(items())
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 1)
        with pytest.raises(KeyError):
            await waiting
        assert len(engine.cancelled) == 1

    run(main())


def test_a_loop_that_is_left_ends_the_stream_at_once() -> None:
    async def main() -> None:
        engine, results = make(range(50))
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 50)
        engine.finish()
        await waiting
        del results, waiting
        gc.collect()
        assert len(engine.cancelled) > 0

    run(main())


@pytest.mark.parametrize("items", [range(50), numbers(50)])
def test_a_cancelled_task_ends_the_stream(items: Any) -> None:
    async def main() -> None:
        engine, results = make(items)
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 50)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(engine.cancelled) > 0
        assert [value async for value in results] == []

    run(main())


def test_aclose_ends_the_stream_and_what_awaits_its_items() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                ended.set()

        engine, results = make(items())
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 1)
        engine.finish()
        assert await waiting == 1
        await results.aclose()
        await results.aclose()
        await ended.wait()

    run(main())


def test_results_that_nobody_iterates_leave_no_trace() -> None:
    engine, results = make(numbers(3))
    del results
    gc.collect()
    assert not engine.batches


def test_two_tasks_cannot_wait_for_one_iterator() -> None:
    async def main() -> None:
        engine, results = make(range(2))
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 2)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(results)
        engine.finish_all()
        assert await waiting == 0
        assert await anext(results) == 1

    run(main())


def end(engine: FakeEngine, status: int, value: object) -> None:
    batch, place = engine.open.pop(0)
    batch.sink.deliver([(batch.offset + place, status, value, None, Process(7), None)])


def test_the_end_of_all_calls_is_a_cancellation() -> None:
    async def main() -> None:
        for made in (values(True), None):
            engine, results = make(range(2), made=made)
            waiting = asyncio.ensure_future(anext(results))
            await until_open(engine, 2)
            end(engine, messages.CANCELLED, ALL)
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run(main())


def test_a_frontier_is_fed_by_the_loop() -> None:
    async def main() -> None:
        frontier = Frontier([1])
        engine, results = make(frontier)

        async def finish() -> None:
            while True:
                engine.finish_all()
                await asyncio.sleep(0)

        finishing = asyncio.ensure_future(finish())
        got = []
        async for number in results:
            got.append(number)
            if number < 20:
                frontier.extend([2 * number, 2 * number + 1])
        finishing.cancel()
        assert sorted(got) == list(range(1, 40))

    run(main())


def test_a_slow_iterable_lets_the_loop_go_on_between_its_items() -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        seen = []

        def items() -> Any:
            for number in range(100):
                seen.append(turns)
                yield number

        counting = asyncio.ensure_future(count())
        engine, results = make(items())
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 100)
        assert len(set(seen)) > 2
        counting.cancel()
        engine.finish_all()
        await waiting

    run(main())


def test_outcomes_name_their_items() -> None:
    async def main() -> None:
        engine: Any = FakeEngine()
        signal = Signal()
        source = async_input_of([numbers(2)], False)
        stream = Stream(engine, FUNCTION, None, source, True, OPTIONS, 9, False, signal)
        results = AsyncResults(stream, signal, outcomes(stream), None)
        waiting = asyncio.ensure_future(anext(results))
        await until_open(engine, 2)
        end(engine, messages.VALUE, "a")
        end(engine, messages.CANCELLED, None)
        first, second = await waiting, await anext(results)
        assert (first.item, first.value, second.item, second.ok) == (0, "a", 1, False)

    run(main())
