"""asyncio's loops in calls: which one a call gets, and who sees the running one."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import warnings
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import METHODS, Make, make_executor
from .helpers import PATIENCE, Gate

pytestmark = pytest.mark.slow_on("spawn", "fork")

#: From Python 3.14 on, get_event_loop() makes no loop.
MAKES_LOOPS = sys.version_info < (3, 14)
#: Where "fork" finds asyncio imported (pytest's plugins do that), its C module keeps the running
#: loop per OS thread.
FRESH = [method for method in METHODS if method != "fork"]

makes_loops = pytest.mark.skipif(not MAKES_LOOPS, reason="no Python since 3.14 does that")


async def echo(value: Any, seconds: float = 0.01) -> Any:
    import asyncio

    await asyncio.sleep(seconds)
    return value


# -- the loop that get_event_loop() makes ---------------------------------------------------------


def ask_for_a_loop(n: int) -> tuple[int, bool, list[str]]:
    import asyncio

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = asyncio.get_event_loop().run_until_complete(echo(n))
    same = asyncio.get_event_loop() is asyncio.get_event_loop()
    return answer, same, [f"{w.category.__name__} {os.path.basename(w.filename)}" for w in caught]


@makes_loops
def test_a_call_gets_a_loop_as_a_main_thread_does(executor: HybridExecutor) -> None:
    deprecated = ["DeprecationWarning test_loops.py"] if sys.version_info >= (3, 12) else []
    for n in range(3):  # in one runner
        assert executor.submit(ask_for_a_loop, n).result(PATIENCE) == (n, True, deprecated)


def has_no_loop() -> str:
    import asyncio

    try:
        asyncio.get_event_loop()
    except RuntimeError as error:
        return str(error)
    return "a loop"


@pytest.mark.skipif(MAKES_LOOPS, reason="Pythons before 3.14 make a loop")
def test_a_call_gets_no_loop_where_a_main_thread_does_not(executor: HybridExecutor) -> None:
    assert "There is no current event loop" in executor.submit(has_no_loop).result(PATIENCE)


def loop_beside(gate: Gate, name: int) -> int:
    import asyncio

    loop = asyncio.get_event_loop()
    loop.run_until_complete(echo(name))
    gate.wait(name)
    assert asyncio.get_event_loop() is loop
    return id(loop)


@makes_loops
@pytest.mark.parametrize("method", FRESH)
def test_calls_at_once_have_loops_of_their_own(method: str, gate: Gate) -> None:
    with make_executor(method, max_workers=1) as executor:
        calls = [executor.submit(loop_beside, gate, n) for n in range(10)]
        gate.wait_for(10)
        gate.open()
        assert len({call.result(PATIENCE) for call in calls}) == 10


kept: list[Any] = []


def set_and_keep(setting: bool) -> None:
    import asyncio

    kept.append(asyncio.new_event_loop())
    asyncio.set_event_loop(kept[-1] if setting else None)
    if setting:
        assert asyncio.get_event_loop() is kept[-1]


def is_kept() -> bool:
    import asyncio

    try:
        return asyncio.get_event_loop() in kept
    except RuntimeError:
        return False


def run_a_loop(n: int) -> int:
    import asyncio

    return int(asyncio.run(echo(n)))


@pytest.mark.parametrize("concurrency", [1, 100])
def test_what_a_call_sets_is_not_seen_by_the_next(
    method: str, make_each: Make, concurrency: int
) -> None:
    executor = make_each(max_workers=1, concurrency=concurrency)
    for setting in True, False:
        executor.submit(set_and_keep, setting).result(PATIENCE)
        assert executor.submit(is_kept).result(PATIENCE) is False
        assert executor.submit(run_a_loop, 3).result(PATIENCE) == 3
        if MAKES_LOOPS:
            assert executor.submit(ask_for_a_loop, 5).result(PATIENCE)[0] == 5


def loop_in_a_thread() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(has_no_loop()))
    thread.start()
    thread.join()
    return found[0]


def test_threads_of_a_call_get_none(executor: HybridExecutor) -> None:
    assert "There is no current event loop" in executor.submit(loop_in_a_thread).result(PATIENCE)


from_initializer: list[Any] = []


def use_a_loop() -> None:
    import asyncio

    from_initializer.append(asyncio.get_event_loop().run_until_complete(echo("initialized")))


def initialized() -> list[Any]:
    return from_initializer


@makes_loops
def test_initializers_get_one(make_each: Make) -> None:
    executor = make_each(max_workers=1, initializer=use_a_loop)
    assert executor.submit(initialized).result(PATIENCE) == ["initialized"]


def leave_a_loop() -> int:
    import asyncio

    async def main() -> None:
        await asyncio.wait_for(echo(0), PATIENCE)

    loop = asyncio.get_event_loop()
    loop.run_until_complete(main())
    if not kept:
        kept.append(loop)
    return len(os.listdir("/proc/self/fd"))


def use_the_kept_loop() -> Any:
    return kept[0].run_until_complete(echo("kept"))


def without_collection() -> None:
    gc.disable()


@pytest.mark.slow
@makes_loops
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loops_that_nobody_closes_do_not_pile_up(make: Make) -> None:
    executor = make(max_workers=1, initializer=without_collection)
    counts = [executor.submit(leave_a_loop).result(PATIENCE) for _ in range(300)]
    assert max(counts) < counts[0] + 3 * 100
    assert executor.submit(use_the_kept_loop).result(PATIENCE) == "kept"


# -- the running loop -----------------------------------------------------------------------------


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
