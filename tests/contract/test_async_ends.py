"""How workers of the async lane begin and end, and what becomes of calls when they do."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, WorkerLost

from .async_lane import burn, double, nap, run, tasks, wait_at
from .conftest import Make
from .helpers import Gate, identity, is_alive, leave, pid_of, wait_until
from .lanes import start_in

pytestmark = pytest.mark.on_cluster

__all__ = ["tasks"]

WHO = contextvars.ContextVar("WHO", default="nobody")

# -- the initializer -----------------------------------------------------------------------------


class Session:
    """What belongs to a loop."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.loop = asyncio.get_running_loop()


session: Session | None = None


async def begin(who: str) -> None:
    global session
    await asyncio.sleep(0.01)
    WHO.set(who)
    session = Session()


async def use_session() -> tuple[str, bool]:
    assert session is not None
    async with session.lock:
        await asyncio.sleep(0.001)
    return WHO.get(), session.loop is asyncio.get_running_loop()


def test_an_initializer_may_be_a_coroutine(make: Make) -> None:
    executor = start_in("async", make(max_workers=1, initializer=begin, initargs=("me",)))
    futures = [executor.submit(use_session) for _ in range(50)]
    assert [future.result(30) for future in futures] == [("me", True)] * 50


async def fail_to_begin() -> None:
    await asyncio.sleep(0)
    raise ValueError("it does not begin")


async def exit_instead() -> None:
    sys.exit(4)


@pytest.mark.parametrize(
    ("initializer", "text"), [(fail_to_begin, "it does not begin"), (exit_instead, "SystemExit: 4")]
)
def test_one_that_fails_breaks_the_executor(make: Make, initializer: Any, text: str) -> None:
    executor = start_in("async", make(max_workers=1, initializer=initializer))
    with pytest.raises(ExecutorBroken) as caught:
        executor.submit(identity, 1).result(30)
    assert text in str(caught.value.__cause__)


# -- the loop ------------------------------------------------------------------------------------


class Mine(asyncio.SelectorEventLoop):
    """A loop of the user's."""


def name_of_loop() -> str:
    return type(asyncio.get_running_loop()).__qualname__


def make_mine() -> Mine:
    loop = Mine()
    loop.set_debug(True)
    return loop


@pytest.mark.parametrize("factory", [Mine, make_mine])
def test_the_loop_is_what_the_factory_makes(make: Make, factory: Any) -> None:
    executor = start_in("async", make(max_workers=1, loop_factory=factory))
    assert executor.submit(name_of_loop).result(30) == "Mine"
    assert list(executor.map(double, range(100))) == [2 * n for n in range(100)]


def test_by_default_it_is_uvloops_where_that_is_installed(make: Make) -> None:
    pytest.importorskip("uvloop")
    executor = start_in("async", make(max_workers=1))
    assert executor.submit(name_of_loop).result(30) == "Loop"


def fail_to_make() -> None:
    raise OSError("no loop today")


def test_a_factory_that_fails_breaks_the_executor(make: Make) -> None:
    executor = start_in("async", make(max_workers=1, loop_factory=fail_to_make))
    with pytest.raises(ExecutorBroken) as caught:
        executor.submit(identity, 1).result(30)
    assert "no loop today" in f"{caught.value} {caught.value.__cause__}"


def test_a_factory_must_be_callable() -> None:
    with pytest.raises(TypeError, match="loop_factory must be a callable"):
        HybridExecutor(loop_factory="uvloop")  # type: ignore[arg-type]


# -- worker loss ---------------------------------------------------------------------------------


async def leave_late(code: int) -> None:
    await asyncio.sleep(0.01)
    leave(code)


def test_calls_that_ran_are_lost_with_their_worker(make: Make, gate: Gate) -> None:
    executor = start_in("async", make(max_workers=1, concurrency=2))
    waiting = executor.submit(wait_at, gate, "one")
    gate.wait_for(1)
    culprit = executor.submit(leave_late, 3)
    later = [executor.submit(identity, n) for n in range(20)]
    for future in (waiting, culprit):
        with pytest.raises(WorkerLost):
            future.result(30)
    assert [future.result(30) for future in later] == list(range(20))


def test_the_call_that_had_the_loop_is_suspected_first(make: Make, gate: Gate) -> None:
    executor = start_in("async", make(max_workers=1, concurrency=50))
    careful = executor.options(on_worker_loss="retry")
    others = [careful.submit(wait_at, gate, n) for n in range(20)]
    gate.wait_for(20)
    culprit = careful.submit(leave_late, 3)
    with pytest.raises(WorkerLost):
        culprit.result(60)
    gate.open()
    assert [future.result(60) for future in others] == list(range(20))


async def fail_until(gate: Gate, name: str) -> str:
    await asyncio.sleep(0)
    if name not in gate.arrived:
        gate.arrive(name)
        raise ValueError("not yet")
    return name


def test_calls_are_tried_again(tasks: HybridExecutor, gate: Gate) -> None:
    trying = tasks.options(retries=2, retry_on=ValueError, backoff=0.001)
    assert trying.submit(fail_until, gate, "one").result(30) == "one"
    with pytest.raises(ValueError, match="not yet"):
        tasks.options(retries=2, retry_on=KeyError).submit(fail_until, gate, "two").result(30)


def test_workers_are_replaced(make: Make) -> None:
    executor = start_in("async", make(max_workers=1, max_tasks_per_child=5))
    assert len(set(executor.map(pid_of, range(20)))) >= 4


def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


def test_a_call_that_stops_the_loop_stops_no_other(tasks: HybridExecutor, gate: Gate) -> None:
    other = tasks.submit(wait_at, gate, "other")
    gate.wait_for(1)
    tasks.submit(stop_the_loop).result(30)
    gate.open()
    assert other.result(30) == "other"


# -- forks ---------------------------------------------------------------------------------------


def exit_code_of_fork(function: Any, *args: Any) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return function(*args) or 0


async def fork_and_return() -> int:
    return exit_code_of_fork(int)


async def fork_and_raise() -> int:
    return exit_code_of_fork(int, "no number")


async def fork_and_exit() -> int:
    return exit_code_of_fork(sys.exit, 7)


async def fork_and_run() -> int:
    return exit_code_of_fork(asyncio.run, nap(0.01))


async def fork_and_wait(gate: Gate) -> int:
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0)
        gate.arrive("waited")
        os._exit(0)
    _, status = os.waitpid(pid, 0)  # noqa: ASYNC222  # it ends soon
    return os.waitstatus_to_exitcode(status)


async def fork_late(function: Any, *args: Any) -> int:
    await asyncio.sleep(0.01)
    value: int = await function(*args)
    return value


async def fork_in_child_task(function: Any, *args: Any) -> int:
    value: int = await asyncio.create_task(function(*args))
    return value


@pytest.mark.parametrize("where", [run, fork_late, fork_in_child_task])
@pytest.mark.parametrize(
    ("function", "code"),
    [(fork_and_return, 0), (fork_and_raise, 1), (fork_and_exit, 7), (fork_and_run, 0)],
)
def test_a_forked_process_ends_with_its_call(
    tasks: HybridExecutor, gate: Gate, where: Any, function: Any, code: int
) -> None:
    other = tasks.submit(wait_at, gate, "other")
    gate.wait_for(1)
    ended = tasks.submit(where, function).result(30)
    # Of one that ends in a task that a call has started, the error is that task's.
    assert ended == (0 if where is fork_in_child_task and code else code)
    gate.open()
    assert other.result(30) == "other"
    assert tasks.submit(nap, 0).result(30) == 0


@pytest.mark.parametrize("where", [run, fork_late, fork_in_child_task])
def test_one_that_waits_for_the_workers_loop_ends(
    tasks: HybridExecutor, gate: Gate, where: Any
) -> None:
    other = tasks.submit(wait_at, gate, "other")
    gate.wait_for(1)
    assert tasks.submit(where, fork_and_wait, gate).result(30) == 1
    assert "waited" not in gate.arrived
    gate.open()
    assert other.result(30) == "other"


def child_of_multiprocessing() -> int | None:
    process = multiprocessing.get_context("fork").Process(target=burn, args=(0.01,))
    process.start()
    process.join()
    return process.exitcode


def test_multiprocessing_forks(tasks: HybridExecutor) -> None:
    assert tasks.submit(child_of_multiprocessing).result(30) == 0


# -- the end -------------------------------------------------------------------------------------


async def numbers(gate: Gate) -> AsyncIterator[int]:
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        gate.arrive("generator")


async def linger(gate: Gate) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        gate.arrive("task")


left: list[Any] = []


async def leave_things_behind(gate: Gate) -> int:
    generator = numbers(gate)
    await anext(generator)
    left.extend([generator, asyncio.create_task(linger(gate))])
    await asyncio.to_thread(time.sleep, 0)
    await asyncio.sleep(0.01)
    return os.getpid()


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, None])
def test_what_calls_left_behind_ends_as_under_run(make: Make, gate: Gate, factory: Any) -> None:
    executor = start_in("async", make(max_workers=1, loop_factory=factory))
    pid = executor.submit(leave_things_behind, gate).result(30)
    executor.shutdown()
    assert sorted(gate.arrived) == ["generator", "task"]
    assert not is_alive(pid)


def test_killing_workers_ends_what_waits(make: Make, gate: Gate) -> None:
    executor = start_in("async", make(max_workers=2))
    futures = [executor.submit(wait_at, gate, n) for n in range(4)]
    gate.wait_for(4)
    executor.kill_workers()
    for future in futures:
        assert isinstance(future.exception(30), WorkerLost)


# -- what is seen of it ----------------------------------------------------------------------------


async def wait_deep(gate: Gate) -> object:
    return await wait_in_child(gate)


async def wait_in_child(gate: Gate) -> object:
    return await asyncio.create_task(wait_at(gate, "deep"))


def test_stacks_show_where_tasks_wait(tasks: HybridExecutor, gate: Gate) -> None:
    futures = [tasks.submit(wait_deep, gate) for _ in range(3)]
    gate.wait_for(1)

    def told() -> list[tuple[int, list[str]]]:
        (worker,) = tasks._assembly.engine.stacks()
        groups = [(g["count"], [f["function"] for f in g["stack"]]) for g in worker["groups"]]
        return [group for group in groups if group[0] == 3 and len(group[1]) > 2]

    ((_, functions),) = wait_until(told)
    assert functions[:3] == ["wait_deep", "wait_in_child", "wait_at"]
    gate.open()
    assert [future.result(30) for future in futures] == ["deep"] * 3


async def block(gate: Gate) -> None:
    gate.wait("block")  # as users do


@pytest.mark.slow
def test_a_blocked_loop_is_reported(
    make: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hybridexec")
    # The initializer is in this module: or else the first call would import it, which takes long.
    executor = start_in("async", make(max_workers=1, hub_lag_warning=1.0, initializer=name_of_loop))
    executor.submit(identity, 1).result(30)
    futures = [executor.submit(block, gate), executor.submit(nap, 0)]

    def warnings() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    wait_until(warnings)
    gate.open()
    [future.result(30) for future in futures]
    (text,) = warnings()
    assert "has not run for" in text
    assert "in block" in text


async def crash() -> None:
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_crash_shows_where_it_was(tasks: HybridExecutor, make: Make) -> None:
    executor = start_in("async", make(max_workers=1))
    error = executor.submit(crash).exception(30)
    assert isinstance(error, WorkerLost)
    assert "SIGSEGV" in str(error)
    assert "in crash" in str(error) or "crash" in "".join(getattr(error, "__notes__", []))
