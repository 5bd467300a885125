"""asyncio's loops in calls: which one a call gets by get_event_loop()."""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import Make, make_executor
from .helpers import PATIENCE, Gate
from .loops import FRESH, echo, kept, run_a_loop

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


#: From Python 3.14 on, get_event_loop() makes no loop.
MAKES_LOOPS = sys.version_info < (3, 14)


makes_loops = pytest.mark.skipif(not MAKES_LOOPS, reason="no Python since 3.14 does that")


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
