"""From asyncio: calls that are awaited, results that are iterated, and ends that block no loop."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, Frontier, HybridExecutor, Progress, WorkerLost

from .conftest import Make
from .helpers import PATIENCE, Gate, fail_on, identity, leave, run_script, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


def run(main: Coroutine[Any, Any, Any], debug: bool = False) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(limited(), debug=debug)


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


class Turns:
    """Counts the turns of a loop, which it keeps going round."""

    def __init__(self) -> None:
        self.count = 0
        self._task = asyncio.ensure_future(self._turn())

    async def _turn(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)

    def end(self) -> None:
        self._task.cancel()


# -- asubmit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_results_and_errors_are_awaited(executor: HybridExecutor, debug: bool) -> None:
    async def main() -> None:
        calls = [executor.asubmit(square, n) for n in range(500)]
        assert await asyncio.gather(*calls) == [n * n for n in range(500)]
        assert await executor.asubmit(fail_on, 3, value=2) == 2
        with pytest.raises(ValueError, match="3 is bad"):
            await executor.asubmit(fail_on, 3, value=3)
        with pytest.raises(TypeError, match="must be callable"):
            await executor.asubmit(7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="pickle"):
            await executor.asubmit(identity, threading.Lock())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(executor.asubmit(square, n)) for n in range(5)]
        assert [task.result() for task in tasks] == [0, 1, 4, 9, 16]

    run(main(), debug)


def test_a_cancelled_task_stops_its_call(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)

    async def main() -> None:
        running = asyncio.create_task(executor.asubmit(gate.wait, "running"))
        waiting = asyncio.create_task(executor.asubmit(gate.wait, "waiting"))
        await until(lambda: gate.arrived == ["running"])
        waiting.cancel()
        running.cancel()
        assert [
            type(e) for e in await asyncio.gather(running, waiting, return_exceptions=True)
        ] == [asyncio.CancelledError] * 2
        assert await executor.asubmit(square, 3) == 9  # the slot is free
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.asubmit(gate.wait, "late"), 0.01)
        assert await executor.asubmit(square, 4) == 16

    run(main())
    assert "waiting" not in gate.arrived


def test_calls_that_are_cancelled_otherwise_cancel_their_tasks(make: Make, gate: Gate) -> None:
    executor = make()

    async def main() -> None:
        task = asyncio.create_task(executor.asubmit(gate.wait, 1))
        await until(lambda: gate.arrived)
        await asyncio.to_thread(executor.cancel_all)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_options_and_losses(make: Make) -> None:
    executor = make()

    async def main() -> None:
        with pytest.raises(CallTimeout):
            await executor.options(timeout=0.05).asubmit(time.sleep, 60)
        with pytest.raises(WorkerLost):
            await executor.asubmit(leave, 3)
        assert await executor.asubmit(square, 5) == 25

    run(main())


def test_max_pending_does_not_block_the_loop(make: Make, gate: Gate) -> None:
    executor = make(max_pending=3)

    async def main() -> None:
        turns = Turns()
        tasks = [asyncio.create_task(executor.asubmit(gate.wait, n)) for n in range(10)]
        await until(lambda: len(gate.arrived) == 3)
        before = turns.count
        await until(lambda: turns.count > before + 100)
        tasks[4].cancel()  # it waits for its turn
        tasks[0].cancel()  # it runs
        await until(lambda: len(gate.arrived) == 4)
        assert "3" in gate.arrived
        gate.open()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1:4] + results[5:] == [1, 2, 3, 5, 6, 7, 8, 9]
        turns.end()

    run(main())
    assert "4" not in gate.arrived
    assert executor.submit(square, 2).result() == 4


def test_threads_and_coroutines_share_the_room(make: Make) -> None:
    executor = make(max_pending=2)

    async def main() -> None:
        calls = asyncio.gather(*[executor.asubmit(square, n) for n in range(200)])
        threaded = asyncio.to_thread(lambda: [executor.submit(square, n) for n in range(200)])
        futures = await threaded
        assert await calls == [future.result() for future in futures]

    run(main())


def test_an_executor_that_was_shut_down_refuses(make: Make) -> None:
    for pending in (None, 5):
        executor = make(max_pending=pending)
        executor.shutdown()

        async def main(executor: HybridExecutor = executor) -> None:
            for _ in range(10):
                with pytest.raises(RuntimeError, match="after shutdown"):
                    await executor.asubmit(square, 2)
            with pytest.raises(RuntimeError, match="after shutdown"):
                executor.amap(square, [2])

        run(main())


def test_loops_in_many_threads_and_one_after_another(executor: HybridExecutor) -> None:
    async def main() -> int:
        return sum(await asyncio.gather(*[executor.asubmit(square, n) for n in range(100)]))

    sums: list[int] = []
    threads = [threading.Thread(target=lambda: sums.append(run(main()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sums += [run(main()) for _ in range(2)]
    assert sums == [328350] * 6


def test_a_loop_that_was_closed_hurts_nobody(make: Make, gate: Gate) -> None:
    executor = make()
    loop = asyncio.new_event_loop()
    task = loop.create_task(executor.asubmit(gate.wait, 1))
    loop.call_soon(loop.stop)
    loop.run_forever()
    wait_until(lambda: gate.arrived)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    gate.open()
    assert executor.submit(square, 3).result() == 9


class Counting(HybridExecutor):
    """Expects all calls to go through ``submit``."""

    submitted = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("pending", [None, 2])
def test_a_submit_of_ones_own_is_passed_through(pending: int | None) -> None:
    async def main() -> None:
        async with Counting(1, max_pending=pending) as executor:
            assert await asyncio.gather(*[executor.asubmit(square, n) for n in range(9)])
            assert executor.submitted == 9
            got = [value async for value in executor.amap(square, numbers(5), buffersize=2)]
            assert got == [0, 1, 4, 9, 16]
            assert executor.submitted == 14
            pairs = executor.amap(pow, [(2, 3), (3, 2)], star=True)
            assert [value async for value in pairs] == [8, 9]
            with pytest.raises(TypeError, match="amap_unordered"):
                executor.amap(square, [1], progress=True)

    run(main())


def test_the_rest_of_asyncio_stays_as_it_is(executor: HybridExecutor) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, square, 3) == 9
        assert await asyncio.wrap_future(executor.submit(square, 4)) == 16

    run(main())


# -- amap and its relatives -----------------------------------------------------------------------


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        if number % 7 == 0:
            await asyncio.sleep(0)
        yield number


async def endless() -> AsyncIterator[int]:
    for number in itertools.count():
        yield number


@pytest.mark.parametrize("bound", [1, 10, None])
def test_amap_keeps_the_order_of_its_items(executor: HybridExecutor, bound: int | None) -> None:
    async def main() -> None:
        for items in (range(300), numbers(300), iter(range(300))):
            results = executor.amap(square, items, buffersize=bound)
            assert [value async for value in results] == [n * n for n in range(300)]
        both = executor.amap(pow, numbers(5), [3, 2, 1])
        assert [value async for value in both] == [0, 1, 2]
        data = executor.amap(dict, [[("a", n)] for n in range(50)])
        assert [value async for value in data] == [{"a": n} for n in range(50)]

    run(main())


def test_results_as_calls_end(executor: HybridExecutor, gate: Gate) -> None:
    async def main() -> None:
        results = executor.amap_unordered(wait_if_first, ((gate, n) for n in range(4)), star=True)
        assert sorted([await anext(results) for _ in range(3)]) == [1, 2, 3]
        gate.open()
        assert [value async for value in results] == [0]

    run(main())


def wait_if_first(gate: Gate, n: int) -> int:
    if n == 0:
        gate.wait(n)
    return n


def test_errors(executor: HybridExecutor) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="2 is bad"):
            async for _ in executor.amap(fail_on, itertools.repeat(2), numbers(5)):
                pass
        errors = executor.amap_unordered(fail_on, [2] * 5, range(5), return_exceptions=True)
        assert [type(e) async for e in errors if isinstance(e, Exception)] == [ValueError]
        outcomes = [o async for o in executor.aoutcomes(fail_on, [2] * 5, numbers(5))]
        assert sorted(o.item for o in outcomes) == [(2, n) for n in range(5)]
        assert [o.item[1] for o in outcomes if not o.ok] == [2]
        with pytest.raises(TypeError):
            executor.amap(square, 5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="buffersize"):
            executor.aoutcomes(square, [1], buffersize=0)
        with pytest.raises(TypeError, match="unexpected keyword argument 'chunksize'"):
            executor.amap(square, [1], chunksize=5)  # type: ignore[call-arg]

    run(main())


@pytest.mark.parametrize("how", ["break", "aclose", "error", "cancel"])
def test_what_is_left_early_starts_no_more_calls(make: Make, gate: Gate, how: str) -> None:
    executor = make(max_workers=1, concurrency=2)

    def results() -> Any:
        return executor.amap_unordered(first_passes, itertools.repeat(gate), endless())

    async def consume() -> None:
        if how == "aclose":
            kept = results()
            assert await anext(kept) == 0
            await until(lambda: len(gate.arrived) == 2)
            await kept.aclose()
            return
        async for _ in results():
            await until(lambda: len(gate.arrived) == 2)
            if how == "break":
                break
            if how == "error":
                raise KeyError
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(consume())
        if how == "cancel":
            await until(lambda: len(gate.arrived) == 2)
            task.cancel()
        await asyncio.wait([task])
        assert (how == "error") == (not task.cancelled() and task.exception() is not None)
        gate.open()
        assert await executor.asubmit(square, 3) == 9

    run(main())
    wait_until(lambda: executor.stats().running + executor.stats().queued == 0)
    assert len(gate.arrived) < 20  # those that the worker took before it heard of the end


def first_passes(gate: Gate, n: int) -> int:
    if n:
        gate.wait(n)
    return n


def test_a_crawl(executor: HybridExecutor) -> None:
    async def main() -> None:
        frontier = Frontier([2000])
        async for outcome in executor.aoutcomes(halves, frontier):
            frontier.extend(outcome.result())
        assert (len(frontier), frontier.seen) == (0, 11)

    run(main())


def halves(number: int) -> list[int]:
    return [number // 2] if number > 1 else []


def test_progress_is_shown(executor: HybridExecutor) -> None:
    seen: list[Progress] = []

    async def main() -> None:
        async for _ in executor.amap(square, numbers(100), progress=seen.append):
            pass

    run(main())
    wait_until(lambda: seen[-1].total == seen[-1].done == 100)


# -- async with -----------------------------------------------------------------------------------


def test_the_end_awaits_calls_and_blocks_no_loop(make: Make, gate: Gate) -> None:
    async def main() -> None:
        turns = Turns()
        async with make(max_workers=1) as executor:
            future = executor.submit(gate.wait, "last")
            await until(lambda: gate.arrived)
            asyncio.get_running_loop().call_later(0.05, gate.open)
            before = turns.count
        assert future.result(0) == "last"
        assert turns.count > before + 10
        turns.end()
        with pytest.raises(RuntimeError, match="after shutdown"):
            await executor.asubmit(square, 2)
        other = make(max_workers=1)
        with pytest.raises(ZeroDivisionError):
            await fail_in(other)
        assert other._shutdown_thread  # type: ignore[attr-defined]

    run(main())


async def fail_in(executor: HybridExecutor) -> None:
    async with executor:
        assert await executor.asubmit(square, 2) == 4
        raise ZeroDivisionError


@pytest.mark.parametrize("where", ["in the block", "at its end"])
def test_a_cancelled_block_cancels_all_calls(make: Make, gate: Gate, where: str) -> None:
    futures: list[Future[Any]] = []

    async def block() -> None:
        async with make(max_workers=1, concurrency=2).options(timeout=60) as view:
            futures.extend(view.submit(gate.wait, n) for n in range(4))
            if where == "in the block":
                await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(block())
        await until(lambda: len(gate.arrived) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(future.cancelled() for future in futures)

    run(main())


INTERRUPTED = """
import asyncio, os, signal, sys, time
from hybridexec import HybridExecutor
from hybridexec.parent import lifecycle

def call(path):
    try:
        open(path, "w").close()
        time.sleep(60)
    finally:
        os.remove(path)

async def main(path):
    async with HybridExecutor(1) as executor:
        task = asyncio.create_task(executor.asubmit(call, path))
        while not os.path.exists(path):
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        await task

if __name__ == "__main__":
    lifecycle.PATIENCE = 20.0  # however busy the machine is
    try:
        asyncio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        print("interrupted", os.path.exists(sys.argv[1]))
"""


def test_ctrl_c_ends_a_block_and_its_calls(tmp_path: Path) -> None:
    done = run_script(tmp_path / "interrupted.py", INTERRUPTED, tmp_path / "running", patience=30)
    assert done.stdout == "interrupted False\n"


def test_a_program_without_asyncio_does_not_load_it(tmp_path: Path) -> None:
    text = (
        "import sys\nfrom hybridexec import HybridExecutor\n"
        'if __name__ == "__main__":\n'
        "    with HybridExecutor(1) as executor:\n"
        "        executor.submit(abs, -1).result()\n"
        "        list(executor.map_unordered(abs, [1]))\n"
        '    print("asyncio" in sys.modules)\n'
    )
    assert run_script(tmp_path / "plain.py", text).stdout == "False\n"


def test_uvloop(executor: HybridExecutor) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        assert await asyncio.gather(*[executor.asubmit(square, n) for n in range(50)])
        assert [n async for n in executor.amap(square, numbers(50))] == [n * n for n in range(50)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await executor.asubmit(time.sleep, 60)
        async with HybridExecutor(1) as other:
            assert await other.asubmit(os.getpid) != os.getpid()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
