"""stream in the async lane: asynchronous generators, and what else a loop can iterate."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallStream, CallTimeout, HybridExecutor, WorkerLost

from .async_lane import double, run, tasks, wait_at
from .conftest import Make
from .helpers import PATIENCE, Gate, wait_until
from .lanes import start_in

pytestmark = pytest.mark.on_cluster

__all__ = ["tasks"]


async def count(numbers: int) -> AsyncIterator[int]:
    for n in range(numbers):
        if n % 10 == 0:
            await asyncio.sleep(0)
        yield n


async def counted(numbers: int) -> list[int]:
    await asyncio.sleep(0)
    return list(range(numbers))


async def counting(numbers: int) -> AsyncIterator[int]:
    return count(numbers)


class Counting:
    async def __call__(self, numbers: int) -> AsyncIterator[int]:
        async for n in count(numbers):
            yield n


def count_plainly(numbers: int) -> Iterator[int]:
    yield from range(numbers)


async def endless(path: str) -> AsyncIterator[int]:
    """Yields for ever; tells how far it has come, and what has ended it."""
    folder = Path(path)
    n = 0
    how = "nothing"
    try:
        while True:
            (folder / "made").write_text(str(n + 1))
            yield n
            n += 1
    except BaseException as error:
        how = type(error).__name__
        raise
    finally:
        await asyncio.sleep(0)  # a clean-up may wait
        (folder / "part").write_text(how)
        (folder / "part").rename(folder / "closed")


def closed(folder: Path) -> str:
    """What has ended it, when that is so."""
    wait_until((folder / "closed").exists)
    return (folder / "closed").read_text()


@pytest.mark.parametrize("function", [count, counted, counting, Counting()])
def test_all_that_is_async_is_streamed_there(tasks: HybridExecutor, function: Any) -> None:
    assert list(tasks.stream(function, 1000)) == list(range(1000))


def test_what_turns_out_to_be_asynchronous_is_iterated(tasks: HybridExecutor) -> None:
    view = tasks.options(lane="async")
    assert list(view.stream(run, count, 30)) == list(range(30))
    assert list(view.stream(count_plainly, 300)) == list(range(300))
    with pytest.raises(TypeError, match=r'options\(lane="async"\)'):
        list(tasks.options(lane="greenlet").stream(count, 3))


def test_an_item_comes_while_its_generator_waits(tasks: HybridExecutor, gate: Gate) -> None:
    stream = tasks.stream(wait_in_the_middle, gate)
    assert next(stream) == "before"
    gate.open()
    assert list(stream) == ["after"]
    assert stream.value is None


async def wait_in_the_middle(gate: Gate) -> AsyncIterator[str]:
    yield "before"
    await wait_at(gate, "middle")
    yield "after"


def test_it_waits_when_its_buffer_is_full_and_is_closed(
    tasks: HybridExecutor, tmp_path: Path
) -> None:
    with tasks.options(stream_buffersize=3).stream(endless, str(tmp_path)) as stream:
        for n in range(40):
            assert next(stream) == n
            assert int((tmp_path / "made").read_text() or 0) <= n + 1 + 3
        wait_until(lambda: (tmp_path / "made").read_text() == "43")
        tasks.submit(double, 1).result()  # the generator waits if others run
    assert closed(tmp_path) == "GeneratorExit"
    wait_until(lambda: tasks.stats().running == 0)


def test_one_that_waits_for_something_else_is_stopped_there(
    tasks: HybridExecutor, gate: Gate
) -> None:
    stream = tasks.stream(say_how_it_ends, gate)
    assert next(stream) == "begun"
    gate.wait_for(1)
    stream.close()
    wait_until(lambda: "CancelledError" in gate.arrived)
    wait_until(lambda: tasks.stats().running == 0)


async def say_how_it_ends(gate: Gate) -> AsyncIterator[str]:
    yield "begun"
    try:
        gate.arrive("there")
        await asyncio.sleep(10 * PATIENCE)
    except BaseException as error:
        gate.arrive(type(error).__name__)
        raise


def test_errors_and_timeouts_come_after_the_items_before_them(
    tasks: HybridExecutor, tmp_path: Path
) -> None:
    stream = tasks.stream(fail_after, 3)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(stream)
    view = tasks.options(timeout=0.2, stream_buffersize=2)
    stream = view.stream(endless, str(tmp_path))
    assert [next(stream), next(stream)] == [0, 1]
    assert closed(tmp_path) == "GeneratorExit", "it waits all the time"
    with pytest.raises(CallTimeout):
        list(stream)


async def fail_after(numbers: int) -> AsyncIterator[int]:
    async for n in count(numbers):
        yield n
    raise ValueError("no more")


def test_500_streams_at_once_and_all_that_cancel_all_ends(make: Make) -> None:
    executor = start_in("async", make(max_workers=1, concurrency=500))
    streams = [executor.stream(count, 300) for _ in range(500)]
    assert [next(stream) for stream in streams] == [0] * 500
    assert executor.stats().running == 500
    for row in zip(*streams[:250], strict=True):
        assert len(set(row)) == 1
    executor.cancel_all()
    for stream in streams[250:]:
        with pytest.raises(CancelledError):
            list(stream)
    assert list(executor.stream(count, 3)) == [0, 1, 2]


def test_a_dead_worker_loses_nothing_that_was_yielded(make: Make) -> None:
    executor = make(max_workers=1)
    got: list[int] = []
    with pytest.raises(WorkerLost):
        got.extend(executor.options(on_worker_loss="retry").stream(die_after, 10))
    assert got == list(range(10))


async def die_after(numbers: int) -> AsyncIterator[int]:
    for n in range(numbers):
        yield n
    await asyncio.sleep(0.05)  # they leave
    os.kill(os.getpid(), signal.SIGKILL)


# -- the end of an executor's async with ----------------------------------------------------------


def test_a_task_that_awaits_the_end_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    async def main() -> None:
        async with make(max_workers=1) as executor:
            mine = executor.stream(endless, str(tmp_path))
            assert await asyncio.create_task(first_of(mine)) == 0
            others = executor.options(stream_buffersize=2).stream(count, 300)
            begun = asyncio.Event()
            other = asyncio.create_task(total(others, begun))
            await begun.wait()
        assert await anext(mine) == 1
        with pytest.raises(CancelledError):
            await total(mine, begun)
        assert await other == sum(range(300))

    asyncio.run(main())
    assert closed(tmp_path) == "GeneratorExit"


async def first_of(stream: CallStream[int]) -> int:
    return await anext(stream)


async def total(stream: CallStream[int], begun: asyncio.Event) -> int:
    result = 0
    async for n in stream:
        result += n
        begun.set()
        await asyncio.sleep(0)
    return result
