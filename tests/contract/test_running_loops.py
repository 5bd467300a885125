"""asyncio's running loop in calls: who sees it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import make_executor
from .helpers import PATIENCE, Gate
from .loops import FRESH, echo, kept, run_a_loop

pytestmark = pytest.mark.slow_on("spawn", "fork")


def drive(inside: Any = None) -> list[Any]:
    """Do as Playwright's synchronous API does: a raw greenlet runs the loop, and its parent has the
    CPU while there is nothing to do."""
    import asyncio

    import greenlet

    loop = asyncio.new_event_loop()
    me = greenlet.getcurrent()
    answers: list[Any] = []

    def run() -> None:
        loop.run_until_complete(serve())

    async def serve() -> None:
        # Leaves the loop in the middle of its turn.
        me.switch()
        answers.append(await echo("served"))
        me.switch()

    fiber = greenlet.greenlet(run)
    fiber.switch()
    assert asyncio.get_running_loop() is loop
    answers.append(asyncio._get_running_loop() is loop)
    if inside is not None:
        answers.append(inside())
    fiber.switch()
    assert asyncio.get_running_loop() is loop
    fiber.switch()
    assert fiber.dead
    answers.append(asyncio._get_running_loop() is None)
    loop.close()
    return answers


def test_raw_greenlets_share_their_calls_running_loop(executor: HybridExecutor) -> None:
    expected = [True, "served", True]
    calls = [executor.submit(drive).result(PATIENCE) for _ in range(3)]
    assert calls == [expected] * 3


@pytest.mark.parametrize("method", FRESH)
@pytest.mark.parametrize("concurrency", [1, 100])
def test_many_calls_drive_loops_in_raw_greenlets(method: str, concurrency: int) -> None:
    with make_executor(method, max_workers=1, concurrency=concurrency) as executor:
        calls = [executor.submit(drive, time_passes) for _ in range(20)]
        assert [call.result(PATIENCE) for call in calls] == [[True, 1, "served", True]] * 20


def time_passes() -> int:
    time.sleep(0.01)
    return 1


def leave_it_running() -> bool:
    import asyncio

    import greenlet

    loop = asyncio.new_event_loop()
    me = greenlet.getcurrent()
    loop.call_soon(me.switch)
    fiber = greenlet.greenlet(loop.run_forever)
    fiber.switch()
    kept.append(fiber)
    return asyncio.get_running_loop() is loop


@pytest.mark.parametrize("method", FRESH)
def test_a_loop_that_was_left_running_is_not_the_next_calls(method: str) -> None:
    with make_executor(method, max_workers=1) as executor:
        for n in range(3):
            assert executor.submit(leave_it_running).result(PATIENCE) is True
            assert executor.submit(run_a_loop, n).result(PATIENCE) == n


def loops_in_threads() -> list[Any]:
    """Threads and greenlets that a coroutine starts are outside of its loop."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import gevent

    async def main() -> list[Any]:
        assert asyncio.get_running_loop()
        with ThreadPoolExecutor(3) as pool:
            in_threads = list(pool.map(run_a_loop, range(3)))
        spawned = [gevent.spawn(run_a_loop, n) for n in range(3)]
        gevent.joinall(spawned, raise_error=True)
        return [
            *in_threads,
            *(greenlet.value for greenlet in spawned),
            await asyncio.to_thread(run_a_loop, 7),
            *(await asyncio.gather(*map(echo, range(3)))),
        ]

    with asyncio.Runner() as runner:
        return runner.run(main())


@pytest.mark.parametrize("method", FRESH)
def test_threads_and_greenlets_have_loops_of_their_own(method: str) -> None:
    with make_executor(method, max_workers=1) as executor:
        expected = [0, 1, 2, 0, 1, 2, 7, 0, 1, 2]
        calls = [executor.submit(loops_in_threads) for _ in range(5)]
        assert [call.result(PATIENCE) for call in calls] == [expected] * 5


def nest() -> list[str]:
    import asyncio

    async def main() -> None:
        asyncio.run(asyncio.sleep(0))

    try:
        asyncio.run(main())
    except RuntimeError as error:
        return [str(error)]
    return []


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_loop_within_a_loop_is_refused(executor: HybridExecutor) -> None:
    assert executor.submit(nest).result(PATIENCE) == [
        "asyncio.run() cannot be called from a running event loop"
    ]


def run_at_the_gate(gate: Gate, n: int) -> int:
    import asyncio

    async def main() -> int:
        gate.arrive(n)
        while not gate.is_open():  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(0.05)
        return int(await echo(n))

    return asyncio.run(main())


@pytest.mark.parametrize("method", FRESH)
def test_many_loops_run_at_once(method: str, gate: Gate) -> None:
    with make_executor(method, max_workers=1) as executor:
        calls = [executor.submit(run_at_the_gate, gate, n) for n in range(50)]
        gate.wait_for(50)
        gate.open()
        assert [call.result(PATIENCE) for call in calls] == list(range(50))


def loop_in_a_native_thread() -> list[Any]:
    import asyncio

    import gevent

    async def main() -> list[Any]:
        pool = gevent.get_hub().threadpool
        return [asyncio._get_running_loop() is not None, pool.apply(see_running)]

    return asyncio.run(main())


def see_running() -> bool:
    import asyncio

    return asyncio._get_running_loop() is not None


def test_native_threads_are_outside_of_it(executor: HybridExecutor) -> None:
    assert executor.submit(loop_in_a_native_thread).result(PATIENCE) == [True, False]
