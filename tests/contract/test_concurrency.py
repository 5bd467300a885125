"""Many calls in one worker overlap, keep apart what is theirs, and may use gevent and asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import Make, make_executor
from .helpers import PATIENCE, Gate, nap, overlap, square, use_gevent, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


# -- where calls run ------------------------------------------------------------------------------


def sleep_on(gate: Gate) -> int:
    """Sleep for a second, again and again, until the gate is open."""
    deadline = time.monotonic() + PATIENCE
    while not gate.is_open() and time.monotonic() < deadline:
        time.sleep(1)
    return os.getpid()


def wait_and_tell_pid(gate: Gate, n: int) -> int:
    gate.wait(n)
    return os.getpid()


def hog_and_tell_pid(gate: Gate, n: int) -> int:
    gate.hog(n)
    return os.getpid()


@pytest.mark.parametrize("call", [wait_and_tell_pid, hog_and_tell_pid])
def test_n_blocking_calls_land_on_n_workers(
    make_each: Make, gate: Gate, call: Callable[[Gate, int], int]
) -> None:
    executor = make_each(max_workers=3)
    futures = [executor.submit(call, gate, n) for n in range(3)]
    # Were two hogs on one worker, the second would not get here before the first is done.
    gate.wait_for(3)
    gate.open()
    assert len({future.result(timeout=30) for future in futures}) == 3


def test_idle_workers_get_the_next_n_calls_too(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2)
    list(executor.map(square, range(100)))
    futures = [executor.submit(hog_and_tell_pid, gate, n) for n in range(2)]
    gate.wait_for(2)
    gate.open()
    assert len({future.result(timeout=30) for future in futures}) == 2


def test_two_thousand_sleeping_calls_are_all_in_flight_at_once(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2, concurrency=1_000)
    futures = [executor.submit(sleep_on, gate) for _ in range(2_000)]
    wait_until(lambda: executor.stats().running == 2_000, "2,000 calls in flight")
    gate.open()
    pids = [future.result(timeout=60) for future in futures]
    assert sorted(pids.count(pid) for pid in set(pids)) == [1_000, 1_000]


def wait_if_third(gate: Gate, n: int) -> int:
    return square(n) if n % 3 else len(str(gate.wait(n)))


def test_calls_that_wait_between_others_that_do_not_are_those_that_run(
    make: Make, gate: Gate
) -> None:
    executor = make(max_workers=1, concurrency=20)
    futures = [executor.submit(wait_if_third, gate, n) for n in range(30)]
    gate.wait_for(10)
    wait_until(lambda: all(futures[n].done() for n in range(30) if n % 3))
    waiting = [n % 3 == 0 for n in range(30)]
    wait_until(lambda: [future.running() for future in futures] == waiting)
    gate.open()
    assert [future.result(timeout=30) for future in futures[::3]] == [
        len(str(n)) for n in range(0, 30, 3)
    ]


def test_no_more_calls_than_slots_run_at_once(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2, concurrency=5)
    futures = [executor.submit(gate.wait, n) for n in range(30)]
    gate.wait_for(10)
    wait_until(lambda: executor.stats().queued == 20)
    assert len(gate.arrived) == executor.stats().running == 10
    gate.open()
    assert [future.result(timeout=30) for future in futures] == list(range(30))


def test_with_concurrency_one_calls_of_a_worker_never_overlap(make_each: Make) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    spans = list(executor.map(nap, [0.02] * 6))
    assert not any(overlap(*pair) for pair in itertools.pairwise(spans))
    assert spans == sorted(spans)


def test_calls_of_one_worker_overlap_on_every_start_method(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1)
    futures = [executor.submit(gate.wait, n) for n in range(50)]
    gate.wait_for(50)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == list(range(50))


def test_a_result_leaves_while_the_next_call_hogs_the_cpu(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    results = executor.map(hog_if_second, [gate] * 2, range(2))
    assert next(results) == 0
    gate.wait_for(1)
    assert not gate.is_open()
    gate.open()
    assert next(results) == 1


def hog_if_second(gate: Gate, n: int) -> int:
    if n:
        gate.hog(n)
    return n


@pytest.mark.parametrize("concurrency", [1, 100])
def test_calls_stuck_behind_a_cpu_hog_run_on_the_idle_worker(
    make: Make, gate: Gate, concurrency: int
) -> None:
    executor = make(max_workers=2, concurrency=concurrency)
    list(executor.map(time.sleep, [0.05] * 4))  # both workers are there
    hog = executor.submit(gate.hog, "hog")
    others = [executor.submit(square, n) for n in range(200)]
    assert [future.result(timeout=30) for future in others] == [n * n for n in range(200)]
    assert not hog.done()
    gate.open()
    assert hog.result(timeout=30) == "hog"


def test_items_of_a_map_stuck_behind_a_cpu_hog_run_on_the_idle_worker(
    make: Make, gate: Gate
) -> None:
    executor = make(max_workers=2)
    results = executor.map_unordered(hog_if_tenth, [gate] * 500, range(500), buffersize=500)
    assert sum(next(results) for _ in range(499)) == sum(range(500)) - 10
    gate.open()
    assert next(results) == 10


def hog_if_tenth(gate: Gate, n: int) -> int:
    if n == 10:
        gate.hog(n)
    return n


# -- gevent and asyncio inside calls --------------------------------------------------------------


def use_threads(n: int) -> int:
    found: list[int] = []
    threads = [threading.Thread(target=found.append, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found)


def use_thread_pool(n: int) -> int:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(square, range(n)))


def run_asyncio(gate: Gate, n: int) -> int:
    async def main() -> int:
        await asyncio.sleep(0)
        gate.arrive(n)
        for _ in range(3_000):
            if gate.is_open():
                break
            await asyncio.sleep(0.01)
        return sum(await asyncio.gather(*(coroutine(k) for k in range(n))))

    async def coroutine(k: int) -> int:
        await asyncio.sleep(0.001)
        return k

    return asyncio.run(main())


class BlockingClient:
    """What libraries do that offer a blocking face of asyncio: a loop of their own, kept."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def get(self, n: int) -> int:
        async def answer() -> int:
            await asyncio.sleep(0.01)
            return n

        return self.loop.run_until_complete(answer())

    def close(self) -> None:
        self.loop.close()


class LoopInAThread(BlockingClient):
    """The same with the loop in a thread, shared by all callers."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def get(self, n: int) -> int:
        async def answer() -> int:
            await asyncio.sleep(0.01)
            return n

        return asyncio.run_coroutine_threadsafe(answer(), self.loop).result(PATIENCE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        super().close()


_shared: list[LoopInAThread] = []


def use_own_client(n: int) -> list[int]:
    client = BlockingClient()
    try:
        return [client.get(n), client.get(-n)]
    finally:
        client.close()


def use_shared_client(n: int) -> int:
    if not _shared:
        _shared.append(LoopInAThread())
    return _shared[0].get(n)


def test_gevent_works_inside_calls(executor: HybridExecutor) -> None:
    assert list(executor.map(use_gevent, [3] * 20)) == [3] * 20


@pytest.mark.parametrize("call", [use_threads, use_thread_pool])
def test_threads_work_inside_calls(executor: HybridExecutor, call: Callable[[int], int]) -> None:
    assert list(executor.map(call, [5] * 10)) == [call(5)] * 10


@pytest.fixture(params=[None, "spawn"], ids=["default", "spawn"])
def one_worker(request: pytest.FixtureRequest) -> Any:
    # Not fork: there asyncio may have been imported before there was a worker.
    with make_executor(request.param, max_workers=1) as made:
        yield made


def test_asyncio_run_works_in_several_calls_of_a_worker_at_once(
    one_worker: HybridExecutor, gate: Gate
) -> None:
    futures = [one_worker.submit(run_asyncio, gate, n) for n in range(10)]
    gate.wait_for(10)
    gate.open()
    results = [future.result(timeout=30) for future in futures]
    assert results == [sum(range(n)) for n in range(10)]


def test_libraries_that_keep_a_loop_work_in_many_calls_at_once(
    one_worker: HybridExecutor,
) -> None:
    assert list(one_worker.map(use_own_client, range(20))) == [[n, -n] for n in range(20)]
    assert list(one_worker.map(use_shared_client, range(20))) == list(range(20))


# -- what is kept apart ---------------------------------------------------------------------------

_local = threading.local()


_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="unset")


def count_locally() -> int:
    _local.count = getattr(_local, "count", 0) + 1
    return _local.count


def keep_local_while_waiting(gate: Gate, n: int) -> int:
    _local.mine = n
    gate.wait(n)
    return _local.mine


def set_variable(value: str) -> None:
    _variable.set(value)


def swap_variable(value: str) -> str:
    before = _variable.get()
    _variable.set(value)
    return before


def keep_variable_while_waiting(gate: Gate, n: int) -> str:
    _variable.set(str(n))
    gate.wait(n)
    return _variable.get()


def test_a_runner_keeps_its_thread_locals(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    assert [executor.submit(count_locally).result() for _ in range(3)] == [1, 2, 3]


def test_calls_that_overlap_have_thread_locals_of_their_own(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    futures = [executor.submit(keep_local_while_waiting, gate, n) for n in range(10)]
    gate.wait_for(10)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == list(range(10))


def test_each_call_starts_from_the_initializers_context(make_each: Make) -> None:
    executor = make_each(
        max_workers=1, concurrency=1, initializer=set_variable, initargs=("initial",)
    )
    calls = [executor.submit(swap_variable, str(n)) for n in range(4)]
    assert [call.result(timeout=30) for call in calls] == ["initial"] * 4


def test_calls_that_overlap_have_contexts_of_their_own(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    futures = [executor.submit(keep_variable_while_waiting, gate, n) for n in range(10)]
    gate.wait_for(10)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == [str(n) for n in range(10)]
