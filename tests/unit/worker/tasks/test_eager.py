"""Tasks that start at once."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybridexec.worker.tasks.eager import Start, starter

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def in_callback(loop: asyncio.AbstractEventLoop, do: Callable[[Start], Any]) -> Any:
    """Call ``do`` in a callback of the loop, as calls are taken; return what it returns."""
    future = loop.create_future()
    loop.call_soon(lambda: future.set_result(do(starter(loop))))
    return loop.run_until_complete(future)


def test_the_first_step_runs_at_once(loop: asyncio.AbstractEventLoop) -> None:
    steps: list[object] = []

    async def call() -> None:
        steps.append(asyncio.current_task())
        await asyncio.sleep(0)
        steps.append(asyncio.current_task())

    def do(start: Start) -> tuple[asyncio.Task[None], int]:
        task = start(call(), contextvars.Context())
        assert not task.done()
        assert asyncio.current_task() is None
        return task, len(steps)

    task, after_first = in_callback(loop, do)
    loop.run_until_complete(task)
    assert (after_first, steps) == (1, [task, task])


def test_one_that_never_waits_has_ended(loop: asyncio.AbstractEventLoop) -> None:
    async def call() -> None:
        VARIABLE.set("set")

    def do(start: Start) -> bool:
        context = contextvars.Context()
        done = start(call(), context).done()
        assert context.run(VARIABLE.get) == "set"
        assert VARIABLE.get() == "unset"
        return done

    assert in_callback(loop, do)


def test_what_a_call_does_itself_with_the_loop_goes_there(loop: asyncio.AbstractEventLoop) -> None:
    called: list[str] = []

    async def call() -> None:
        asyncio.get_running_loop().call_soon(called.append, "soon")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        called.append("end")

    task = in_callback(loop, lambda start: start(call(), contextvars.Context()))
    loop.run_until_complete(task)
    assert called == ["soon", "end"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python does it itself")
def test_a_loop_that_cannot_be_used_is_refused() -> None:
    class Closed(asyncio.AbstractEventLoop):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    with pytest.raises(TypeError, match="loop_factory"):
        starter(Closed())
