"""Lanes: which workers a call runs in, and that those of one lane are nothing to another."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any, Literal

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, WorkerLost
from hybridexec.events import WorkerStarted

from .conftest import Make
from .helpers import PATIENCE, Gate, identity, pid_of, pids, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


async def async_square(value: int) -> int:
    await asyncio.sleep(0.001)
    return value * value


async def async_pid() -> int:
    return os.getpid()


async def async_gevent() -> list[str]:
    return gevent_modules()


def gevent_modules() -> list[str]:
    return [name for name in sys.modules if name.startswith(("gevent", "greenlet"))]


def inherited(executor: HybridExecutor) -> list[str]:
    """Those that a worker has because its parent does."""
    return gevent_modules() if executor._mp_context.get_start_method() == "fork" else []


def make_coroutine(value: int) -> Any:
    return async_square(value)


def generate() -> Iterator[int]:
    yield 1


async def generate_async() -> AsyncIterator[int]:
    yield 1


def make_generator() -> Any:
    return generate()


class Async:
    async def __call__(self, value: int) -> int:
        return await async_square(value)

    async def method(self, value: int) -> int:
        return await async_square(value)


request: ContextVar[str] = ContextVar("request")


async def async_request() -> str | None:
    await asyncio.sleep(0)
    return request.get(None)


def running_loop() -> bool:
    return asyncio._get_running_loop() is not None


async def async_running_loop() -> bool:
    return running_loop()


def be_in_loop_only() -> None:
    """An initializer that fails in all lanes but the async one."""
    if not running_loop():
        raise ValueError("no loop")


def fail_in_loop() -> None:
    if running_loop():
        raise ValueError("not in a loop")


def test_async_functions_run_in_their_own_lane(executor: HybridExecutor) -> None:
    calls = [async_square, functools.partial(functools.partial(async_square)), Async().method]
    futures = [executor.submit(call, 3) for call in (*calls, Async())]
    assert [future.result(timeout=PATIENCE) for future in futures] == [9] * 4
    assert list(executor.map(async_square, range(100), timeout=PATIENCE)) == [
        n * n for n in range(100)
    ]
    assert sorted(executor.map_unordered(Async(), range(10))) == [n * n for n in range(10)]
    assert {outcome.value for outcome in executor.outcomes(Async().method, [1, 2])} == {1, 4}
    assert executor.submit(async_running_loop).result(timeout=PATIENCE)
    assert not executor.submit(running_loop).result(timeout=PATIENCE)


def test_a_worker_of_the_async_lane_loads_no_gevent(executor: HybridExecutor) -> None:
    assert executor.submit(async_gevent).result(timeout=PATIENCE) == inherited(executor)


def test_lanes_share_no_worker(executor: HybridExecutor) -> None:
    greenlets = {executor.submit(pid_of).result(timeout=PATIENCE) for _ in range(10)}
    tasks = {executor.submit(async_pid).result(timeout=PATIENCE) for _ in range(10)}
    assert greenlets.isdisjoint(tasks)
    lanes = {worker.pid: worker.lane for worker in executor.stats().workers}
    assert {lanes[pid] for pid in greenlets} == {"greenlet"}
    assert {lanes[pid] for pid in tasks} == {"async"}
    assert pids(executor) >= greenlets | tasks


def in_a_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


def test_threads_are_for_who_asks(executor: HybridExecutor) -> None:
    view = executor.options(lane="thread")
    assert view.submit(in_a_thread).result(timeout=PATIENCE)
    assert view.submit(gevent_modules).result(timeout=PATIENCE) == inherited(executor)
    assert list(view.map(square, range(100), timeout=PATIENCE))[-1] == 99 * 99
    with pytest.raises(TypeError, match=r'options\(lane="async"\)'):
        view.submit(async_square, 3).result(timeout=PATIENCE)
    with pytest.raises(TypeError, match=r"executor\.stream"):
        view.submit(generate)
    assert executor.submit(gevent_modules).result(timeout=PATIENCE)


def test_a_lane_may_be_chosen(executor: HybridExecutor) -> None:
    view = executor.options(lane="async")
    assert view.submit(square, 3).result(timeout=PATIENCE) == 9
    assert view.submit(make_coroutine, 3).result(timeout=PATIENCE) == 9
    assert view.submit(running_loop).result(timeout=PATIENCE)
    assert view.options(timeout=PATIENCE).submit(running_loop).result(timeout=PATIENCE)
    assert not view.options(lane="greenlet").submit(running_loop).result(timeout=PATIENCE)
    assert not view.options(lane=None).submit(running_loop).result(timeout=PATIENCE)
    assert view.options(lane=None).submit(async_running_loop).result(timeout=PATIENCE)


@pytest.mark.parametrize("wrong", ["gevent", "", 3, b"async", "Async"])
def test_another_lane_is_refused(executor: HybridExecutor, wrong: Any) -> None:
    with pytest.raises(ValueError, match='lane must be one of "greenlet", "async", "thread"'):
        executor.options(lane=wrong)


@pytest.mark.parametrize("call", [async_square, make_coroutine])
def test_a_coroutine_that_nobody_awaits_fails_and_says_where_to_go(
    executor: HybridExecutor, call: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    view = executor.options(lane="greenlet")
    with pytest.raises(TypeError, match=r'options\(lane="async"\)'):
        view.submit(call, 3).result(timeout=PATIENCE)
    assert view.submit(identity, 1).result(timeout=PATIENCE) == 1
    assert "never awaited" not in capfd.readouterr().err


@pytest.mark.parametrize("call", [generate, generate_async])
@pytest.mark.parametrize("asked_for", ["greenlet", "async"])
def test_a_generator_function_is_refused(
    executor: HybridExecutor, asked_for: Literal["greenlet", "async"], call: Any
) -> None:
    view = executor.options(lane=asked_for)
    with pytest.raises(TypeError, match=r"executor\.stream"):
        view.submit(call)
    with pytest.raises(TypeError, match=r"executor\.stream"):
        view.map(call, [])


def test_a_generator_that_is_returned_fails_and_says_where_to_go(executor: HybridExecutor) -> None:
    with pytest.raises(TypeError, match=r"executor\.stream"):
        executor.submit(make_generator).result(timeout=PATIENCE)


def set_request() -> None:
    request.set("initial")


def test_context_variables_travel_to_each_lane(make: Make) -> None:
    executor = make(max_workers=1, initializer=set_request)
    view = executor.options(propagate=[request], timeout=PATIENCE, retries=1)
    assert view.submit(async_request).result(timeout=PATIENCE) is None
    token = request.set("r1")
    assert view.submit(async_request).result(timeout=PATIENCE) == "r1"
    request.reset(token)
    assert executor.submit(async_request).result(timeout=PATIENCE) == "initial"
    assert view.submit(async_request).result(timeout=PATIENCE) is None


async def stay(gate: Gate, name: object) -> object:
    gate.arrive(name)
    while not gate.is_open():  # noqa: ASYNC110  # it is another process that opens it
        await asyncio.sleep(0.01)
    return name


async def stay_long(gate: Gate) -> None:
    while not gate.is_open():  # noqa: ASYNC110  # it is another process that opens it
        await asyncio.sleep(0.5)


@pytest.mark.slow
def test_a_hundred_threads_and_thousands_of_coroutines_at_once(make: Make, gate: Gate) -> None:
    executor = make(max_workers=5, concurrency=500, threads=20)
    threads = executor.options(lane="thread").map(gate.wait, range(120))
    tasks = executor.map(stay_long, [gate] * 2600)

    def running() -> dict[str, int]:
        return {lane: each.running for lane, each in executor.stats().lanes.items()}

    wait_until(lambda: running() == {"thread": 100, "async": 2500}, patience=2 * PATIENCE)
    assert executor.submit(square, 3).result(timeout=PATIENCE) == 9
    lanes = executor.stats().lanes
    assert (lanes["thread"].workers, lanes["async"].workers, lanes["greenlet"].workers) == (5, 5, 1)
    assert (lanes["thread"].queued, lanes["async"].queued) == (20, 100)
    gate.open()
    assert list(threads) == list(range(120))
    assert len(list(tasks)) == 2600


def test_one_lane_keeps_no_other_waiting(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=2)
    hogs = executor.map(gate.hog, range(3))
    assert list(executor.map(async_square, range(20), timeout=PATIENCE))[-1] == 361
    with_async = [executor.submit(stay, gate, name) for name in "abc"]
    gate.wait_for(3)

    def under_way() -> list[tuple[int, int]]:
        lanes = executor.stats().lanes
        return [(lanes[lane].running, lanes[lane].queued) for lane in ("greenlet", "async")]

    wait_until(lambda: under_way() == [(1, 2), (2, 1)])
    lanes = executor.stats().lanes
    assert (lanes["async"].finished, lanes["async"].workers) == (20, 1)
    gate.open()
    assert list(hogs) == [0, 1, 2]
    assert [future.result(timeout=PATIENCE) for future in with_async] == list("abc")
    assert executor.stats().finished == 26


def test_a_lane_loses_only_its_own_workers(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    waits = executor.submit(gate.wait, "greenlet")
    stays = executor.submit(stay, gate, "async")
    gate.wait_for(2)
    (pid,) = [worker.pid for worker in executor.stats().workers if worker.lane == "async"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert isinstance(stays.exception(timeout=PATIENCE), WorkerLost)
    gate.open()
    assert waits.result(timeout=PATIENCE) == "greenlet"
    assert executor.submit(async_square, 3).result(timeout=PATIENCE) == 9
    lanes = executor.stats().lanes
    assert (lanes["async"].lost, lanes["greenlet"].lost) == (1, 0)


@pytest.mark.parametrize("initializer", [be_in_loop_only, fail_in_loop])
def test_a_lane_that_cannot_have_workers_breaks_alone(make: Make, initializer: Any) -> None:
    calls = {"async": async_square, "greenlet": square}
    if initializer is be_in_loop_only:
        good, bad = calls["async"], calls["greenlet"]
    else:
        good, bad = calls["greenlet"], calls["async"]
    executor = make(max_workers=1, initializer=initializer)
    assert executor.submit(good, 3).result(timeout=PATIENCE) == 9
    for _ in range(2):
        assert isinstance(executor.submit(bad, 3).exception(timeout=PATIENCE), ExecutorBroken)
    assert executor.submit(good, 4).result(timeout=PATIENCE) == 16
    assert not executor._broken


def test_the_only_lane_that_cannot_have_workers_breaks_the_executor(make: Make) -> None:
    executor = make(max_workers=1, initializer=fail_in_loop)
    assert isinstance(executor.submit(async_square, 3).exception(timeout=PATIENCE), ExecutorBroken)
    with pytest.raises(ExecutorBroken):
        executor.submit(square, 3)


@pytest.mark.this_machine("each node has servers of its own")
def test_the_first_call_starts_only_its_own_lane(make: Make) -> None:
    executor = make()
    assert executor.submit(async_square, 3).result(timeout=PATIENCE) == 9
    lanes = executor._engine._launcher._lanes
    assert [lane for lane, kind in lanes.items() if kind.server is not None] == ["async"]


def test_workers_of_a_lane_can_be_started_ahead(make: Make) -> None:
    executor = make(max_workers=2)
    executor.options(lane="async")._launch_processes()
    wait_until(lambda: [w.lane for w in executor.stats().workers] == ["async", "async"])


def test_calls_of_all_lanes_end_with_the_executor(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    futures = [executor.submit(gate.wait, "greenlet"), executor.submit(stay, gate, "async")]
    gate.wait_for(2)
    processes = list(executor._processes.values())
    executor.kill_workers()
    for future in futures:
        assert isinstance(future.exception(timeout=PATIENCE), WorkerLost)
    executor.shutdown()
    assert not any(process.is_alive() for process in processes)


def test_calls_of_all_lanes_are_finished_at_shutdown(make: Make) -> None:
    executor = make(max_workers=1)
    results = executor.map(async_square, range(50)), executor.map(square, range(50))
    executor.shutdown()
    for values in results:
        assert list(values) == [n * n for n in range(50)]


def test_events_tell_the_lane(make: Make) -> None:
    executor = make(max_workers=1)
    started: list[WorkerStarted] = []
    executor.observe(started.append, events=[WorkerStarted])  # type: ignore[arg-type]  # as asked
    executor.submit(async_square, 3).result(timeout=PATIENCE)
    wait_until(lambda: started)
    assert [event.lane for event in started] == ["async"]


def test_a_call_sent_by_its_caller_finds_its_lane(make: Make) -> None:
    executor = make(max_workers=1)
    for n in range(50):
        assert executor.submit(async_square, n).result(timeout=PATIENCE) == n * n
        assert executor.submit(square, n).result(timeout=PATIENCE) == n * n


async def begin() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("other", ["greenlet", "thread"])
def test_an_async_initializer_is_refused_where_no_loop_runs(
    make: Make, other: Literal["greenlet", "thread"]
) -> None:
    executor = make(max_workers=1, initializer=begin)
    assert executor.submit(async_square, 3).result(timeout=PATIENCE) == 9
    with pytest.raises(ExecutorBroken, match=f"initializer is an async function.* {other} lane"):
        executor.options(lane=other).submit(square, 3).result(timeout=PATIENCE)
    assert executor.submit(async_square, 4).result(timeout=PATIENCE) == 16
