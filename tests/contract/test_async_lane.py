"""Calls in the async lane: they run as tasks of one loop, as under `asyncio.run`."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
import threading
import time
from concurrent.futures import wait
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .async_lane import burn, double, hog_at, nap, tasks, wait_at
from .conftest import Make
from .helpers import Gate, identity, square, wait_until
from .lanes import start_in

pytestmark = pytest.mark.on_cluster

__all__ = ["tasks"]

HERE = contextvars.ContextVar("HERE", default="nowhere")

# -- results ---------------------------------------------------------------------------------------


async def echo(value: Any) -> Any:
    return value


async def echo_late(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


VALUES = [None, 1, "text", b"bytes", (1, "two"), {"a": [1]}, [2.5], "x" * 100_000, {3}, range(4)]


@pytest.mark.parametrize("function", [echo, echo_late])
def test_what_a_coroutine_returns_is_the_result(tasks: HybridExecutor, function: Any) -> None:
    futures = [tasks.submit(function, value) for value in VALUES]
    assert [future.result(30) for future in futures] == VALUES
    assert list(tasks.map(function, VALUES)) == VALUES


@pytest.mark.parametrize("function", [echo, echo_late])
def test_results_of_many_calls_come_in_order(tasks: HybridExecutor, function: Any) -> None:
    many: list[Any] = [*range(3000), *({"n": n} for n in range(3000))]
    assert list(tasks.map(function, many, chunksize=100)) == many


def test_plain_functions_run_there_too(tasks: HybridExecutor) -> None:
    assert list(tasks.map(square, range(1000))) == [n * n for n in range(1000)]


def call(function: Any, *args: Any) -> Any:
    return function(*args)


def test_what_a_plain_function_returns_is_awaited_if_it_can_be(tasks: HybridExecutor) -> None:
    assert tasks.submit(call, echo_late, 5).result(30) == 5


async def task_and_loop() -> tuple[int, int, bool]:
    task = asyncio.current_task()
    assert task is not None
    await asyncio.sleep(0.01)
    return id(asyncio.get_running_loop()), id(task), asyncio.current_task() is task


def test_each_call_is_a_task_of_one_loop(tasks: HybridExecutor) -> None:
    futures = [tasks.submit(task_and_loop) for _ in range(50)]
    loops, ids, same = zip(*(future.result(30) for future in futures), strict=True)
    assert len(set(loops)) == 1
    assert len(set(ids)) == 50
    assert all(same)


def plain_task() -> bool:
    return asyncio.current_task() is not None and asyncio.get_running_loop().is_running()


def test_a_plain_function_is_called_in_a_task(tasks: HybridExecutor) -> None:
    assert tasks.submit(plain_task).result(30)


async def future_of(value: int) -> asyncio.Future[int]:
    return asyncio.ensure_future(double(value))


def future_itself(value: int) -> asyncio.Future[int]:
    return asyncio.ensure_future(double(value))


def test_a_future_that_a_plain_function_returns_is_awaited(tasks: HybridExecutor) -> None:
    assert tasks.submit(future_itself, 4).result(30) == 8
    with pytest.raises(TypeError, match="Task, could not be pickled"):
        tasks.submit(future_of, 4).result(30)


# -- many at once ----------------------------------------------------------------------------------


def test_as_many_run_at_once_as_there_are_slots(make: Make, gate: Gate) -> None:
    executor = start_in("async", make(max_workers=1, concurrency=500))
    futures = [executor.submit(wait_at, gate, n) for n in range(600)]
    gate.wait_for(500)
    assert executor.submit(identity, 1).cancel()
    wait_until(lambda: executor.stats().workers[0].running == 500)
    assert len(gate.arrived) == 500
    gate.open()
    assert [future.result(30) for future in futures] == list(range(600))


@pytest.mark.slow
def test_thousands_wait_at_once(make: Make) -> None:
    executor = start_in("async", make(max_workers=2, concurrency=10_000))
    began = time.monotonic()
    assert sum(executor.map(nap, [1.0] * 20_000)) == 20_000
    assert time.monotonic() - began < 60


def test_one_at_a_time(make: Make, gate: Gate) -> None:
    executor = start_in("async", make(max_workers=1, concurrency=1))
    first, second = (executor.submit(wait_at, gate, n) for n in range(2))
    gate.wait_for(1)
    wait_until(first.running)
    assert not second.running()
    gate.open()
    assert (first.result(30), second.result(30)) == (0, 1)


def test_a_result_leaves_while_a_neighbour_computes(tasks: HybridExecutor, gate: Gate) -> None:
    ended = [tasks.submit(echo, {"a": n}) for n in range(20)]
    hog = tasks.submit(hog_at, gate, "hog")
    gate.wait_for(1)
    assert [future.result(20) for future in ended] == [{"a": n} for n in range(20)]
    assert not hog.done()
    gate.open()
    assert hog.result(30) == "hog"


def test_a_call_that_computes_lets_others_have_their_turn(
    tasks: HybridExecutor, gate: Gate
) -> None:
    waiting = tasks.submit(nap, 0.01)
    many = [tasks.submit(burn, 0.005) for _ in range(100)]
    last = tasks.submit(hog_at, gate, "last")
    assert waiting.result(30) == 0.01
    assert not last.done()
    gate.open()
    wait([*many, last])


# -- contexts --------------------------------------------------------------------------------------


def set_here(where: str) -> None:
    HERE.set(where)


async def move(where: str) -> tuple[str, str, str]:
    before = HERE.get()
    HERE.set(where)
    await asyncio.sleep(0.001)
    return before, HERE.get(), await asyncio.create_task(where_am_i())


async def where_am_i() -> str:
    return HERE.get()


def test_each_call_has_a_context_of_its_own(make: Make) -> None:
    executor = start_in("async", make(max_workers=1, initializer=set_here, initargs=("there",)))
    moves = list(executor.map(move, map(str, range(20))))
    assert moves == [("there", str(n), str(n)) for n in range(20)]
    assert executor.submit(HERE.get).result(30) == "there"


# -- errors ----------------------------------------------------------------------------------------


class Odd(BaseException):
    pass


async def fail(error: BaseException, seconds: float = 0) -> None:
    await asyncio.sleep(seconds)
    raise error


async def fail_in_child(error: BaseException) -> None:
    await asyncio.create_task(fail(error))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        Odd("odd"),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError("mine"),
        ExceptionGroup("two", [ValueError(1), KeyError(2)]),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("function", [fail, fail_in_child])
def test_what_a_task_raises_ends_that_call_only(
    tasks: HybridExecutor, gate: Gate, error: BaseException, function: Any
) -> None:
    other = tasks.submit(wait_at, gate, "other")
    gate.wait_for(1)
    future = tasks.submit(function, error)
    raised = future.exception(30)
    assert type(raised) is type(error)
    assert raised.args[:1] == error.args[:1]
    assert not future.cancelled()
    gate.open()
    assert other.result(30) == "other"


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(ValueError("one")))
        group.create_task(nap(60))


def test_a_group_of_errors_comes_with_its_traceback(tasks: HybridExecutor) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        tasks.submit(in_a_group).result(30)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert "in_a_group" in str(caught.value.__cause__)
    assert "raise error" in str(caught.value.__cause__)


async def leave_behind(gate: Gate) -> None:
    asyncio.get_running_loop().behind = [  # type: ignore[attr-defined]  # held by something
        asyncio.create_task(wait_at(gate, "behind")),
        asyncio.create_task(fail(SystemExit(5), 0.01)),
    ]


def test_tasks_that_a_call_leaves_behind_go_on(tasks: HybridExecutor, gate: Gate) -> None:
    tasks.submit(leave_behind, gate).result(30)
    gate.wait_for(1)
    assert tasks.submit(nap, 0.05).result(30) == 0.05
    assert tasks.submit(os.getpid).result(30) == tasks.stats().workers[0].pid


async def forget_an_error() -> None:
    task = asyncio.create_task(fail(ValueError("forgotten")))
    await asyncio.wait([task])


def test_errors_that_nobody_retrieved_are_logged(
    tasks: HybridExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.submit(forget_an_error).result(30)

    def logged() -> list[logging.LogRecord]:
        return [r for r in caplog.records if "exception was never retrieved" in r.getMessage()]

    wait_until(logged)
    assert logged()[0].name == "asyncio"
    assert "forgotten" in str(logged()[0].exc_text or logged()[0].exc_info)


async def log_from(name: str) -> None:
    logging.getLogger("there").warning("from %s", name)
    await asyncio.create_task(log_in_child(name))
    await asyncio.to_thread(logging.getLogger("there").warning, "from thread of %s", name)


async def log_in_child(name: str) -> None:
    logging.getLogger("there").warning("from child of %s", name)


def test_log_records_tell_their_call(
    tasks: HybridExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.submit(log_from, "me").result(30)

    def told() -> list[tuple[str, str]]:
        records = [r for r in caplog.records if r.name == "there"]
        return [(r.getMessage(), r.call) for r in records]  # type: ignore[attr-defined]

    wait_until(lambda: len(told()) == 3)
    assert {text for text, _ in told()} == {"from me", "from child of me", "from thread of me"}
    assert {call for _, call in told()} == {"log_from('me')"}


# -- what a process has --------------------------------------------------------------------------


def modules() -> set[str]:
    return set(sys.modules)


def test_the_worker_is_not_patched(tasks: HybridExecutor) -> None:
    assert "gevent" not in tasks.submit(modules).result(30)
    assert tasks.submit(threading.current_thread).exception(30) is not None
