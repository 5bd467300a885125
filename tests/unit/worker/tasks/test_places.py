"""Where a task is that waits."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybridexec.wire.page import CURRENT
from hybridexec.worker.tasks import places
from hybridexec.worker.tasks.traced import Traced


async def run(awaitable: Any) -> Any:
    return await awaitable


async def outer(event: asyncio.Event) -> Any:
    return await inner(event)


async def inner(event: asyncio.Event) -> Any:
    return await event.wait()


async def through_a_task(event: asyncio.Event) -> Any:
    return await asyncio.create_task(outer(event))


async def in_a_group(event: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(outer(event))


class Awaitable:
    def __init__(self, event: asyncio.Event) -> None:
        self.event = event

    def __await__(self) -> Any:
        yield from self.event.wait().__await__()


async def by_generator(event: asyncio.Event) -> None:
    await Awaitable(event)


async def numbers(event: asyncio.Event) -> AsyncIterator[int]:
    await event.wait()
    yield 1


async def over_numbers(event: asyncio.Event) -> None:
    async for _ in numbers(event):
        pass


async def functions_of(awaitable: Any, event: asyncio.Event) -> list[str]:
    task = asyncio.create_task(run(awaitable))
    for _ in range(3):
        await asyncio.sleep(0)
    found = places.of(task, run.__code__)
    event.set()
    await task
    assert places.of(task, run.__code__) == [], "it has ended"
    return [function for _, _, function in found][::-1]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (outer, ["outer", "inner", "wait"]),
        (through_a_task, ["through_a_task", "outer", "inner", "wait"]),
        (in_a_group, ["in_a_group", "__aexit__"]),
        (by_generator, ["by_generator", "__await__"]),
        (over_numbers, ["over_numbers"]),
    ],
)
@pytest.mark.parametrize("traced", [False, True])
def test_the_frames_of_what_it_waits_for(function: Any, expected: list[str], traced: bool) -> None:
    words = memoryview(array("q", [0] * 8))

    async def main() -> list[str]:
        event = asyncio.Event()
        awaitable = function(event)
        return await functions_of(Traced(awaitable, words, 1) if traced else awaitable, event)

    assert asyncio.run(main())[: len(expected)] == expected


def test_current_is_the_call_whose_code_runs() -> None:
    words = memoryview(array("q", [0] * 8))
    seen: list[int] = []

    async def call(number: int) -> int:
        seen.append(words[CURRENT])
        await asyncio.sleep(0)
        seen.append(words[CURRENT])
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(words[CURRENT])
        return number

    async def main() -> list[int]:
        tasks = [asyncio.create_task(run(Traced(call(n), words, n))) for n in (1, 2)]
        for _ in range(3):
            await asyncio.sleep(0)
            assert words[CURRENT] == 0
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [1, 2]
    assert seen == [1, 2, 1, 2, 1, 2]
