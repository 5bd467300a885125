"""How workers begin, come and go, and end: initializers, replacements, deaths."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from hybridexec import ExecutorBroken, WorkerLost

from .conftest import Make, make_executor
from .ends import die, fail_initializing, workers_of
from .helpers import (
    Gate,
    is_alive,
    leave,
    pid_of,
    square,
    wait_until,
)

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


# -- initializer ----------------------------------------------------------------------------------

_initialized: list[Any] = []


def initialize(*values: Any) -> None:
    _initialized.append(values)


def initialized() -> list[Any]:
    return _initialized


def test_the_initializer_runs_once_in_each_worker(make_each: Make, gate: Gate) -> None:
    executor = make_each(initializer=initialize, initargs=("a", 2))
    calls = [executor.submit(wait_initialized, gate, n) for n in range(2)]
    gate.wait_for(2)
    gate.open()
    results = [call.result(timeout=30) for call in calls]
    assert len({pid for pid, _ in results}) == 2
    assert [values for _, values in results] == [[("a", 2)]] * 2


def wait_initialized(gate: Gate, n: int) -> tuple[int, list[Any]]:
    gate.wait(n)
    return os.getpid(), initialized()


def test_an_initializer_may_wait_and_use_gevent(make: Make) -> None:
    executor = make(initializer=time.sleep, initargs=(0.05,))
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_a_failing_initializer_breaks_the_executor_and_says_why(make_each: Make) -> None:
    executor = make_each(initializer=fail_initializing)
    calls = [executor.submit(square, n) for n in range(5)]
    for call in calls:
        error = call.exception(timeout=30)
        assert isinstance(error, ExecutorBroken)
        assert isinstance(error, BrokenProcessPool)
        assert "no luck" in str(error)
        assert "in fail_initializing" in str(error.__cause__)
    with pytest.raises(BrokenProcessPool, match="no luck"):
        executor.submit(square, 1)
    with pytest.raises(BrokenProcessPool):
        executor.map(square, [1])


def fail_at_length() -> None:
    raise ValueError("no luck" + "!" * 1_000_000)


def test_what_an_initializer_fails_with_may_be_more_than_fits_into_a_pipe(make: Make) -> None:
    executor = make(max_workers=1, initializer=fail_at_length)
    error = executor.submit(square, 1).exception(timeout=30)
    assert isinstance(error, ExecutorBroken)
    assert "no luck!" in str(error)


@pytest.mark.every_lane(but=("cluster",))  # which no queue of multiprocessing reaches
def test_a_failing_initializer_is_logged_as_the_standard_librarys_is(
    make_each: Make, method: str | None
) -> None:
    queue = multiprocessing.get_context(method).Queue()
    executor = make_each(max_workers=1, initializer=fail_initializing, initargs=(queue,))
    assert executor.submit(square, 1).exception(timeout=30) is not None
    record = queue.get(timeout=30)
    assert (record.name, record.levelno) == ("concurrent.futures", logging.CRITICAL)
    assert "Exception in initializer" in record.getMessage()
    assert "no luck" in record.getMessage()
    queue.close()
    queue.join_thread()


@pytest.mark.parametrize("initargs", [(), (0,), ("a message",)])
def test_an_initializer_that_exits_breaks_the_executor(make: Make, initargs: Any) -> None:
    executor = make(max_workers=1, initializer=sys.exit, initargs=initargs)
    assert isinstance(executor.submit(square, 1).exception(timeout=30), ExecutorBroken)


def test_initargs_that_cannot_be_pickled_break_the_executor(make: Make) -> None:
    executor = make(initializer=initialize, initargs=((n for n in ()),))
    error = executor.submit(square, 1).exception(timeout=30)
    assert isinstance(error, ExecutorBroken)
    assert "generator" in str(error)


def test_a_broken_executor_leaves_no_worker(make: Make) -> None:
    before = set(workers_of())
    executor = make(initializer=fail_initializing)
    assert executor.submit(square, 1).exception(timeout=30) is not None
    executor.shutdown()
    assert executor.stats().workers == ()
    wait_until(lambda: not set(workers_of()) - before)


# -- staff and recycling --------------------------------------------------------------------------


@pytest.mark.every_lane(but=("cluster",))  # whose processes are not ours
def test_workers_come_with_calls(make: Make) -> None:
    executor = make(max_workers=3)
    assert executor.stats().workers == ()
    for n in range(3):
        assert executor.submit(square, n).result() == n * n
    assert len(executor._processes) == 1


def test_no_more_workers_than_asked_for(make_each: Make) -> None:
    executor = make_each(max_workers=2)
    assert 1 <= len(set(executor.map(pid_of, range(100)))) <= 2
    assert len(executor._processes) <= 2


@pytest.mark.parametrize("method", [None, "forkserver", "spawn"])
def test_a_worker_runs_as_many_calls_as_it_may(method: str | None) -> None:
    with make_executor(method, max_workers=2, max_tasks_per_child=5) as executor:
        pids = Counter(executor.map(pid_of, range(40), timeout=60))
    assert sum(pids.values()) == 40
    assert max(pids.values()) <= 5


def test_one_call_for_each_worker(make: Make) -> None:
    executor = make(max_workers=1, max_tasks_per_child=1)
    assert len({executor.submit(pid_of).result(timeout=30) for _ in range(4)}) == 4


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_a_replacement_works_while_its_predecessor_finishes(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=2, max_tasks_per_child=2)
    slow = executor.submit(gate.wait, "slow")
    gate.wait_for(1)
    old = executor.submit(pid_of).result(timeout=30)
    new = executor.submit(pid_of).result(timeout=30)
    assert new != old
    assert not slow.done()
    gate.open()
    assert slow.result(timeout=30) == "slow"
    wait_until(lambda: not is_alive(old))


@pytest.mark.every_lane(but=("cluster",))  # whose processes are not ours
def test_a_killed_workers_call_is_lost_and_the_others_run_elsewhere(
    make_each: Make, gate: Gate
) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    running = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    waiting = [executor.submit(square, n) for n in range(50)]
    (pid,) = executor._processes
    os.kill(pid, signal.SIGKILL)
    error = running.exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert isinstance(error, BrokenProcessPool)
    assert (error.pid, error.exitcode, error.in_flight) == (pid, -signal.SIGKILL, 1)
    assert str(pid) in str(error)
    assert "SIGKILL" in str(error)
    assert [call.result(timeout=30) for call in waiting] == [n * n for n in range(50)]
    assert pid not in executor._processes


@pytest.mark.every_lane(but=("async", "cluster"))  # where blocking calls wait; no processes of ours
def test_all_calls_that_were_running_are_lost_and_counted(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    running = [executor.submit(gate.wait, n) for n in range(5)]
    gate.wait_for(5)
    (pid,) = executor._processes
    os.kill(pid, signal.SIGTERM)
    errors = [call.exception(timeout=30) for call in running]
    assert [type(error) for error in errors] == [WorkerLost] * 5
    assert {error.in_flight for error in errors} == {5}
    assert len({id(error) for error in errors}) == 5


@pytest.mark.parametrize(
    ("how", "code", "text"), [("exit", 7, "exit code 7"), ("kill", -9, "SIGKILL")]
)
def test_a_call_that_ends_its_worker_hears_how(make: Make, how: str, code: int, text: str) -> None:
    executor = make(max_workers=1)
    error = executor.submit(die, how).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.exitcode == code
    assert text in str(error)
    assert executor.submit(square, 4).result(timeout=30) == 16


@pytest.mark.every_lane(but=("async", "cluster"))  # where blocking calls wait; no processes of ours
def test_only_the_dead_workers_calls_are_lost(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2)
    calls = [executor.submit(wait_and_tell_pid, gate, n) for n in range(10)]
    gate.wait_for(10)
    dead, alive = executor._processes
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: any(call.done() for call in calls))
    gate.open()
    wait_until(lambda: all(call.done() for call in calls))
    lost = [call for call in calls if call.exception() is not None]
    assert lost
    assert {call.result() for call in calls if call not in lost} == {alive}


def wait_and_tell_pid(gate: Gate, n: int) -> int:
    gate.wait(n)
    return os.getpid()


def test_a_map_loses_no_item_that_had_not_started_to_a_dying_worker(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    outcomes = list(executor.outcomes(die_at_five, range(20)))
    lost = {outcome.item: outcome.error for outcome in outcomes if not outcome.ok}
    assert all(isinstance(error, WorkerLost) for error in lost.values())
    # Results of the items before it may have been about to leave.
    assert max(lost) == 5
    assert len(outcomes) == 20


def die_at_five(n: int) -> int:
    if n == 5:
        die("kill")
    return n


def test_workers_that_die_at_birth_break_the_executor(make_each: Make) -> None:
    executor = make_each(initializer=leave, initargs=(3,))
    error = executor.submit(square, 1).exception(timeout=60)
    assert isinstance(error, ExecutorBroken)
    assert "exit code 3" in str(error)
    with pytest.raises(BrokenProcessPool):
        executor.submit(square, 1)
