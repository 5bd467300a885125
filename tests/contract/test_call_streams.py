"""stream: items come as they are yielded, bounded, and whatever ends a stream ends its call."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallStream, CallTimeout, HybridExecutor, WorkerLost

from .conftest import Make, make_executor
from .helpers import PATIENCE, Gate, is_alive, wait_until
from .lanes import start_in

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

TOTAL = ContextVar[int]("TOTAL")


def count(numbers: int) -> Iterator[int]:
    yield from range(numbers)
    return numbers  # type: ignore[return-value]


class Steps:
    """What a generator has come to, told by the size of a file, a byte for each item."""

    def __init__(self, folder: Path) -> None:
        self._made = folder / "made"
        self._closed = folder / "closed"
        self._made.touch()

    @property
    def made(self) -> int:
        return self._made.stat().st_size

    @property
    def closed(self) -> str | None:
        return self._closed.read_text() if self._closed.exists() else None

    def endless(self) -> Iterator[int]:
        """Yields for ever; tells what has ended it."""
        how = "nothing"
        try:
            with open(self._made, "ab", buffering=0) as file:
                for n in itertools.count():
                    file.write(b".")
                    yield n
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            part = self._closed.with_suffix(".part")
            part.write_text(how)
            part.rename(self._closed)


@pytest.fixture(scope="module", params=["greenlet", "thread"])
def single(request: pytest.FixtureRequest) -> Iterator[HybridExecutor]:
    """An executor with one worker, in each lane for plain functions."""
    with make_executor(None, max_workers=1) as made:
        yield start_in(request.param, made)


def wait_for(executor: HybridExecutor, steps: Steps, made: int) -> None:
    """Wait until so many items were made and the generator waits at its ``yield``."""
    wait_until(lambda: steps.made == made)
    wait_until(lambda: _is_left(executor))


def _is_left(executor: HybridExecutor) -> bool:
    """Whether a call runs and its generator does not."""
    groups = [group for worker in executor._engine.stacks() for group in worker["groups"]]
    frames = [frame["function"] for group in groups for frame in group["stack"]]
    return bool(groups) and "endless" not in frames


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


# -- items, errors, the end -----------------------------------------------------------------------


def test_items_come_in_order_and_yield_from_gets_what_is_returned(
    executor: HybridExecutor,
) -> None:
    def outer() -> Iterator[Any]:
        yield (yield from executor.stream(count, 1000))

    assert list(outer()) == [*range(1000), 1000]


def test_each_item_comes_while_the_generator_goes_on(executor: HybridExecutor, gate: Gate) -> None:
    stream = executor.stream(wait_in_the_middle, gate)
    assert next(stream) == "before"
    gate.open()
    assert list(stream) == ["after"]


def wait_in_the_middle(gate: Gate) -> Iterator[str]:
    yield "before"
    gate.wait("middle")
    yield "after"


def test_an_item_leaves_though_its_generator_keeps_the_cpu(
    single: HybridExecutor, gate: Gate
) -> None:
    stream = single.stream(hog_in_the_middle, gate)
    assert next(stream) == "before"
    gate.open()
    assert list(stream) == ["after"]


def hog_in_the_middle(gate: Gate) -> Iterator[str]:
    yield "before"
    gate.hog("middle")
    yield "after"


def test_items_of_all_kinds_and_sizes_arrive_in_order(single: HybridExecutor) -> None:
    got = list(single.stream(all_kinds, 7))
    assert got == list(all_kinds(7))


def all_kinds(rounds: int) -> Iterator[Any]:
    for n in range(rounds):
        yield from (n, "text", {"n": n}, bytes([n]) * 3_000_000, None, [bytes(50_000)] * 3, (n, n))


def test_an_error_comes_after_the_items_before_it(single: HybridExecutor) -> None:
    stream = single.stream(fail_after, 3)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more") as info:
        next(stream)
    assert "fail_after" in str(info.value.__cause__)
    assert list(stream) == []


def fail_after(numbers: int) -> Iterator[int]:
    yield from range(numbers)
    raise ValueError("no more")


def test_whatever_returns_something_to_iterate_is_streamed(single: HybridExecutor) -> None:
    assert list(single.stream(lambda: (n for n in range(3)))) == [0, 1, 2]
    assert list(single.stream(functools.partial(count, 3))) == [0, 1, 2]
    assert list(single.stream(Counting(3))) == [0, 1, 2]
    assert list(single.stream(range, 3)) == [0, 1, 2]
    with pytest.raises(TypeError, match=r"abs returned an object of type int.*submit\(\)"):
        list(single.stream(abs, 3))


class Counting:
    def __init__(self, numbers: int) -> None:
        self._numbers = numbers

    def __call__(self) -> Iterator[int]:
        return count(self._numbers)


def test_what_cannot_be_pickled_fails_the_stream(executor: HybridExecutor) -> None:
    stream = executor.stream(count, executor)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot pickle"):
        next(stream)
    with pytest.raises(TypeError, match="callable"):
        executor.stream(7)  # type: ignore[call-overload]


# -- how far ahead --------------------------------------------------------------------------------


def test_a_generator_waits_when_its_buffer_is_full(single: HybridExecutor, steps: Steps) -> None:
    with single.options(stream_buffersize=5).stream(steps.endless) as stream:
        wait_until(lambda: steps.made == 5)
        for n in range(40):
            assert next(stream) == n
            assert steps.made <= n + 1 + 5
    wait_until(lambda: steps.closed)
    assert steps.made <= 40 + 5


def test_large_items_are_bounded_by_their_size(executor: HybridExecutor, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.touch()
    with executor.stream(megabytes, str(made)) as stream:
        next(stream)
        # The first makes room when it is fetched, and one more is made than fits.
        assert len(next(stream)) == 1_000_000
        time.sleep(0.05)  # so that one that does not wait shows it
        assert made.stat().st_size <= 2 + 2


def megabytes(path: str) -> Iterator[bytes]:
    with open(path, "ab", buffering=0) as file:
        while True:
            file.write(b".")
            yield bytes(1_000_000)


def test_a_stream_holds_a_slot_and_others_wait_for_theirs(make: Make, steps: Steps) -> None:
    executor = make(max_workers=1, concurrency=1)
    first = executor.options(stream_buffersize=1).stream(steps.endless)
    next(first)
    second = executor.stream(count, 3)
    assert executor.stats().running == 1
    first.close()
    assert list(second) == [0, 1, 2]
    assert steps.closed


def test_500_streams_at_once_in_a_worker(make: Make) -> None:
    executor = make(max_workers=1, concurrency=500)
    streams = [executor.stream(count, 300) for _ in range(500)]
    firsts = [next(stream) for stream in streams]
    assert firsts == [0] * 500
    assert executor.stats().running == 500
    for row in zip(*streams, strict=True):
        assert len(set(row)) == 1
    assert executor.stats().finished == 500


# -- what ends one --------------------------------------------------------------------------------


def close(stream: CallStream[Any]) -> None:
    stream.close()


def leave_block(stream: CallStream[Any]) -> None:
    with stream:
        pass


def aclose(stream: CallStream[Any]) -> None:
    asyncio.run(stream.aclose())


@pytest.mark.parametrize("way", [close, leave_block, aclose])
def test_closing_it_closes_its_generator(
    single: HybridExecutor, steps: Steps, way: Callable[[CallStream[Any]], None]
) -> None:
    stream = single.options(stream_buffersize=3).stream(steps.endless)
    wait_for(single, steps, 3)
    way(stream)
    assert wait_until(lambda: steps.closed) == "GeneratorExit"
    assert list(stream) == []
    wait_until(lambda: single.stats().running == 0)


def test_a_loop_that_is_left_closes_it(executor: HybridExecutor, steps: Steps) -> None:
    for n in executor.stream(steps.endless):
        if n == 3:
            break
    gc.collect()
    wait_until(lambda: steps.closed)


def test_a_generator_that_waits_for_something_else_is_stopped_there(
    single: HybridExecutor, gate: Gate
) -> None:
    stream = single.stream(sleep_for_ever, gate)
    assert next(stream) == "asleep"
    gate.wait_for(1)
    stream.close()
    wait_until(lambda: "stopped" in gate.arrived)


def doze() -> None:
    """Wait for long, in steps: a thread can be stopped between them only."""
    for _ in range(1000 * int(PATIENCE)):
        time.sleep(0.01)


def sleep_for_ever(gate: Gate) -> Iterator[str]:
    yield "asleep"
    try:
        gate.arrive("there")
        doze()
    finally:
        gate.arrive("stopped")


def test_a_generator_that_swallows_its_stop_is_closed_at_its_next_yield(
    single: HybridExecutor, gate: Gate
) -> None:
    stream = single.stream(swallow, gate)
    gate.wait_for(1)
    stream.close()
    wait_until(lambda: "closed" in gate.arrived)
    wait_until(lambda: single.stats().running == 0)


def swallow(gate: Gate) -> Iterator[str]:
    try:
        gate.arrive("there")
        doze()
    except BaseException:
        pass
    try:
        while True:
            yield "awake"
    finally:
        gate.arrive("closed")


def test_cancel_all_ends_it_after_what_has_come(single: HybridExecutor, steps: Steps) -> None:
    executor = single
    stream = executor.options(stream_buffersize=3).stream(steps.endless)
    assert next(stream) == 0
    wait_for(executor, steps, 4)
    executor.cancel_all()
    with pytest.raises(CancelledError):
        list(stream)
    assert wait_until(lambda: steps.closed) == "GeneratorExit"
    assert list(executor.stream(count, 3)) == [0, 1, 2]


def test_one_that_has_not_started_is_cancelled_by_a_shutdown(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    running = executor.stream(wait_in_the_middle, gate)
    assert next(running) == "before"
    waiting = executor.stream(count, 3)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        next(waiting)
    gate.open()
    assert list(running) == ["after"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.stream(count, 3)


def test_a_block_is_left_though_nobody_fetches_the_rest(make: Make, steps: Steps) -> None:
    with make(max_workers=1) as executor:
        short = executor.stream(count, 50)
        long = executor.stream(steps.endless)
        assert next(long) == 0
    assert list(short) == list(range(50)), "what fits into the buffer is there"
    assert steps.closed == "GeneratorExit"
    with pytest.raises(CancelledError):
        list(long)


def test_a_timeout_counts_from_the_start_and_all_the_time(
    single: HybridExecutor, steps: Steps
) -> None:
    stream = single.options(timeout=0.3, stream_buffersize=2).stream(steps.endless)
    assert [next(stream), next(stream)] == [0, 1]
    assert wait_until(lambda: steps.closed) == "GeneratorExit"
    with pytest.raises(CallTimeout):
        list(stream)


def test_its_generator_has_a_context_of_its_own(single: HybridExecutor) -> None:
    first, second = single.stream(add_up, 1), single.stream(add_up, 10)
    pairs = zip(first, second, strict=True)
    assert list(pairs) == [(1, 10), (2, 20), (3, 30)]


def add_up(step: int) -> Iterator[int]:
    for _ in range(3):
        TOTAL.set(TOTAL.get(0) + step)
        yield TOTAL.get()
        time.sleep(0)


def test_context_variables_travel_along(executor: HybridExecutor) -> None:
    TOTAL.set(100)
    try:
        assert list(executor.options(propagate=[TOTAL]).stream(add_up, 1)) == [101, 102, 103]
    finally:
        TOTAL.set(0)


# -- runs that come to nothing --------------------------------------------------------------------


def test_a_dead_worker_loses_nothing_that_was_yielded(make: Make) -> None:
    executor = make(max_workers=1)
    stream = executor.options(on_worker_loss="retry").stream(die_after, 10)
    got: list[int] = []
    with pytest.raises(WorkerLost) as info:
        got.extend(stream)
    assert got == list(range(10))
    assert any("not run again" in note for note in info.value.__notes__)
    assert list(executor.stream(count, 3)) == [0, 1, 2]


def die_after(numbers: int) -> Iterator[int]:
    yield from range(numbers)
    time.sleep(0.05)  # they leave
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_runs_again_only_if_nothing_was_yielded(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    view = executor.options(retries=3, backoff=0.001)
    early, late = tmp_path / "early", tmp_path / "late"
    assert list(view.stream(fail_once, str(early), 0)) == ["second time"]
    stream = view.stream(fail_once, str(late), 2)
    assert [next(stream), next(stream)] == ["first", "first"]
    with pytest.raises(OSError, match="first time") as info:
        next(stream)
    assert any("not run again" in note for note in info.value.__notes__)


def fail_once(path: str, before: int) -> Iterator[str]:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        yield "second time"
        return
    for _ in range(before):
        yield "first"
    raise OSError("first time")


# -- asyncio --------------------------------------------------------------------------------------


def test_async_for_does_not_hold_up_the_loop(executor: HybridExecutor, gate: Gate) -> None:
    async def main() -> list[str]:
        stream = executor.stream(wait_in_the_middle, gate)
        got = [await anext(stream)]
        asyncio.get_running_loop().call_soon(gate.open)
        got += [item async for item in stream]
        assert stream.value is None
        return got

    assert asyncio.run(main()) == ["before", "after"]


def test_many_async_streams_take_turns(executor: HybridExecutor) -> None:
    async def total(numbers: int) -> int:
        result = 0
        async for n in executor.stream(count, numbers):
            result += n
        return result

    async def main() -> list[int]:
        return await asyncio.gather(*(total(n) for n in range(0, 500, 10)))

    assert asyncio.run(main()) == [sum(range(n)) for n in range(0, 500, 10)]


def test_leaving_an_async_block_closes_it(executor: HybridExecutor, steps: Steps) -> None:
    async def main() -> None:
        async with executor.stream(steps.endless) as stream:
            async for n in stream:
                if n == 3:
                    break

    asyncio.run(main())
    wait_until(lambda: steps.closed)


# -- forks ----------------------------------------------------------------------------------------


def test_a_child_that_a_generator_forks_yields_nothing_and_ends(
    single: HybridExecutor,
) -> None:
    *items, pid = single.stream(fork_and_yield, 300)
    assert items == list(range(300))
    wait_until(lambda: not is_alive(pid))


def fork_and_yield(numbers: int) -> Iterator[int]:
    pid = os.fork()
    yield from range(numbers)
    if pid:
        os.waitpid(pid, 0)
    yield pid
