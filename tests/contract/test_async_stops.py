"""Cancelling calls in the async lane, and their timeouts."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor

from .async_lane import burn, clean_up, hog_at, nap, tasks, wait_at, within
from .conftest import Make
from .helpers import PATIENCE, Gate, wait_until
from .lanes import start_in

pytestmark = pytest.mark.on_cluster

__all__ = ["tasks"]


def nothing_runs(executor: HybridExecutor) -> bool:
    return all(worker.running == 0 for worker in executor.stats().workers)


# -- calls that wait -------------------------------------------------------------------------------


def test_a_call_that_waits_is_cancelled(tasks: HybridExecutor, gate: Gate) -> None:
    future = tasks.submit(clean_up, gate, "one")
    other = tasks.submit(wait_at, gate, "other")
    gate.wait_for(2)
    assert future.cancel()
    wait_until(lambda: "one-stopped" in gate.arrived)
    wait_until(lambda: tasks.stats().workers[0].running == 1)
    assert not other.done()
    gate.open()
    assert other.result(30) == "other"


async def in_a_group(gate: Gate) -> None:
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(clean_up(gate, n))


async def gathered(gate: Gate) -> None:
    await asyncio.gather(*(clean_up(gate, n) for n in range(3)))


@pytest.mark.parametrize("function", [in_a_group, gathered])
def test_tasks_that_a_call_waits_for_are_stopped(
    tasks: HybridExecutor, gate: Gate, function: Any
) -> None:
    future = tasks.submit(function, gate)
    gate.wait_for(3)
    assert future.cancel()
    wait_until(lambda: {f"{n}-stopped" for n in range(3)} <= set(gate.arrived))
    wait_until(lambda: nothing_runs(tasks))


def test_a_call_whose_time_is_up_is_stopped(tasks: HybridExecutor, gate: Gate) -> None:
    future = tasks.options(timeout=0.1).submit(clean_up, gate, "one")
    with pytest.raises(CallTimeout):
        future.result(30)
    assert "one-stopped" in gate.arrived


async def go_on(gate: Gate, value: str) -> str:
    """Swallow a stop."""
    try:
        await wait_at(gate, value)
    except asyncio.CancelledError:
        gate.arrive("told")
    await wait_at(gate, "going-on")
    return value


def test_one_that_goes_on_keeps_its_slot(make: Make, gate: Gate) -> None:
    executor = start_in("async", make(max_workers=1, concurrency=1, timeout_grace=0.2))
    future = executor.submit(go_on, gate, "one")
    gate.wait_for(1)
    assert future.cancel()
    gate.wait_for(3)
    wait_until(lambda: executor.stats().workers[0].abandoned)
    after = executor.submit(nap, 0)
    assert not after.done()
    gate.open()
    assert after.result(30) == 0


async def finish(gate: Gate) -> str:
    try:
        await wait_at(gate, "waiting")
    except asyncio.CancelledError:
        return "finished"
    return "never told"


def test_a_result_after_the_time_was_up_counts(tasks: HybridExecutor, gate: Gate) -> None:
    assert tasks.options(timeout=0.05).submit(finish, gate).result(30) == "finished"


# -- what is not a stop of ours --------------------------------------------------------------------


async def own_timeout() -> str:
    try:
        await within(0.01, asyncio.sleep(60))
    except TimeoutError:
        return "mine"
    return "none"


async def cancel_own_child() -> str:
    child = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    child.cancel()
    try:
        await child
    except asyncio.CancelledError:
        return "mine"
    return "none"


async def cancel_oneself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("myself")
    await asyncio.sleep(60)


@pytest.mark.parametrize("function", [own_timeout, cancel_own_child])
def test_stops_of_its_own_are_its_own(tasks: HybridExecutor, function: Any) -> None:
    assert tasks.options(timeout=60).submit(function).result(30) == "mine"


def test_a_call_that_cancels_itself_fails(tasks: HybridExecutor) -> None:
    future = tasks.submit(cancel_oneself)
    error = future.exception(30)
    assert type(error) is asyncio.CancelledError
    assert not future.cancelled()


async def take_back(gate: Gate) -> None:
    try:
        await wait_at(gate, "waiting")
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    raise asyncio.CancelledError("my own")


def test_its_own_after_it_took_ours_back(tasks: HybridExecutor, gate: Gate) -> None:
    future = tasks.options(timeout=0.05).submit(take_back, gate)
    error = future.exception(30)
    assert type(error) is asyncio.CancelledError
    assert error.args == ("my own",)


async def within_own_timeout(gate: Gate) -> None:
    await within(60, clean_up(gate, "inner"))


def test_ours_within_a_timeout_of_its_own(tasks: HybridExecutor, gate: Gate) -> None:
    with pytest.raises(CallTimeout):
        tasks.options(timeout=0.05).submit(within_own_timeout, gate).result(30)
    assert "inner-stopped" in gate.arrived


# -- calls that keep the loop ----------------------------------------------------------------------


def hog_and_tell(gate: Gate, name: str) -> None:
    try:
        gate.hog(name)
    except BaseException as error:
        gate.arrive(type(error).__name__)
        raise


async def hog_in_coroutine(gate: Gate, name: str) -> None:
    hog_and_tell(gate, name)


async def hog_after_waiting(gate: Gate, name: str) -> None:
    await asyncio.sleep(0)
    hog_and_tell(gate, name)


async def hog_in_child(gate: Gate, name: str) -> None:
    await asyncio.create_task(hog_in_coroutine(gate, name))


def sleep_in_c(gate: Gate, name: str) -> None:
    try:
        gate.arrive(name)
        time.sleep(PATIENCE)
    except BaseException as error:
        gate.arrive(type(error).__name__)
        raise


HOGS = [hog_and_tell, hog_in_coroutine, hog_after_waiting, hog_in_child, sleep_in_c]


@pytest.mark.parametrize("function", HOGS)
def test_one_that_keeps_the_loop_is_cancelled(
    tasks: HybridExecutor, gate: Gate, function: Any
) -> None:
    other = tasks.submit(wait_at, gate, "other")
    future = tasks.submit(function, gate, "hog")
    gate.wait_for(2)
    assert future.cancel()
    wait_until(lambda: "StopCall" in gate.arrived)
    wait_until(lambda: tasks.stats().workers[0].running == 1)
    assert not other.done()
    gate.open()
    assert other.result(30) == "other"


@pytest.mark.parametrize("function", HOGS)
def test_one_that_keeps_the_loop_is_stopped_when_its_time_is_up(
    tasks: HybridExecutor, gate: Gate, function: Any
) -> None:
    pid = tasks.stats().workers[0].pid if tasks.stats().workers else None
    with pytest.raises(CallTimeout):
        tasks.options(timeout=0.2).submit(function, gate, "hog").result(30)
    assert "CallExpired" in gate.arrived
    assert pid in (None, tasks.stats().workers[0].pid), "no worker was lost"


def test_a_neighbour_of_the_one_that_keeps_the_loop_is_not_hit(
    tasks: HybridExecutor, gate: Gate
) -> None:
    waiting = tasks.submit(clean_up, gate, "one")
    gate.wait_for(1)
    hog = tasks.submit(hog_at, gate, "hog")
    gate.wait_for(2)
    assert waiting.cancel()
    time.sleep(0.1)  # so that it could be hit
    gate.open()
    assert hog.result(30) == "hog"
    wait_until(lambda: nothing_runs(tasks))


def wait_for_an_event(gate: Gate) -> None:
    gate.arrive("waiting")
    threading.Event().wait(PATIENCE)


def test_one_that_waits_as_a_thread_would_is_cancelled(tasks: HybridExecutor, gate: Gate) -> None:
    future = tasks.submit(wait_for_an_event, gate)
    gate.wait_for(1)
    assert future.cancel()
    wait_until(lambda: nothing_runs(tasks), patience=10)
    assert tasks.submit(burn, 0).result(10) is None


def swallow_and_burn(gate: Gate) -> str:
    try:
        gate.hog("hog")
    except BaseException:
        burn(0.15)  # longer than the helper thread waits before it insists
    return "done"


def test_it_is_told_once(tasks: HybridExecutor, gate: Gate) -> None:
    future = tasks.options(timeout=0.1).submit(swallow_and_burn, gate)
    assert future.result(30) == "done"
