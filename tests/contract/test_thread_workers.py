"""Workers of the thread lane: how they are lost, watched, asked, forked in, and ended."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, is_alive, leave, pid_of, square, wait_until
from .stopped_calls import hold_gil

pytestmark = pytest.mark.on_cluster


def crash() -> None:
    faulthandler._sigsegv()


def test_a_lost_worker_takes_the_calls_that_ran_and_no_other(
    make_threads: Make, gate: Gate
) -> None:
    executor = make_threads(max_workers=1, threads=2)
    futures = [executor.submit(gate.wait, n) for n in range(2)]
    gate.wait_for(2)
    later = [executor.submit(square, n) for n in range(50)]
    pid = executor.stats().workers[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for future in futures:
        with pytest.raises(WorkerLost):
            future.result(30)
    assert [future.result(30) for future in later] == [n * n for n in range(50)]


def test_a_crash_says_where(make_threads: Make) -> None:
    executor = make_threads(max_workers=1)
    assert executor.submit(square, 3).result(30) == 9
    with pytest.raises(WorkerLost, match="in crash"):
        executor.submit(crash).result(30)


def die_once(gate: Gate, n: int) -> int:
    """Take the worker along, the first time, if n is 3."""
    if n == 3 and "dead" not in gate.arrived:
        gate.arrive("dead")
        leave(1)
    time.sleep(0.01)
    return n


@pytest.mark.slow
def test_calls_that_ran_when_their_worker_died_run_again(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=8).options(on_worker_loss="retry")
    futures = [executor.submit(die_once, gate, n) for n in range(30)]
    assert [future.result(60) for future in futures] == [*range(30)]


def test_workers_are_replaced_after_their_share(make_threads: Make) -> None:
    executor = make_threads(max_workers=1, threads=4, max_tasks_per_child=50)
    pids = list(executor.map(pid_of, range(200)))
    # One that is slow at its end has calls taken back.
    assert 4 <= len(set(pids)) < 8
    assert max(pids.count(pid) for pid in pids) <= 50


# -- what is seen from outside --------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_whose_threads_compute_and_wait_is_not_blocked(
    make_threads: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make_threads(max_workers=1, threads=3, hub_lag_warning=4.0)
    futures = [executor.submit(gate.hog, "hog"), executor.submit(gate.wait, "waits")]
    gate.wait_for(2)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 5.0)
    assert executor.stats().workers[0].hub_lag < 4.0
    gate.open()
    assert [future.result(30) for future in futures] == ["hog", "waits"]
    assert "blocked" not in caplog.text
    assert "has not run" not in caplog.text


@pytest.mark.slow
def test_a_call_that_holds_the_gil_is_reported_with_all_stacks(
    make_threads: Make, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make_threads(max_workers=1, threads=3, hub_lag_warning=1.0)
    executor.submit(gate.wait, "waits")
    gate.wait_for(1)
    executor.submit(hold_gil, gate)
    wait_until(lambda: "has not run" in caplog.text)
    assert "hold_gil(" in caplog.text
    assert "in hold_gil" in caplog.text
    assert "in wait" in caplog.text
    _kill(executor)


def _kill(executor: HybridExecutor) -> None:
    for worker in executor.stats().workers:
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGKILL)


def test_running_calls_tell_where_they_are(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=3)
    futures = [executor.submit(gate.wait, 1), executor.submit(gate.hog, 2)]
    gate.wait_for(2)

    def answer() -> dict[str, Any] | None:
        (worker,) = executor._engine.stacks()
        return None if worker["no_answer"] else worker

    worker = wait_until(answer)
    told = {tuple(call["call"] for call in group["calls"]): group for group in worker["groups"]}
    assert sorted(told) == [("Gate.hog(2)",), ("Gate.wait(1)",)]
    for group in told.values():
        assert group["stack"][0]["function"] in ("wait", "hog")
    gate.open()
    assert [future.result(30) for future in futures] == [1, 2]


def say(text: str) -> None:
    logging.getLogger("calls").warning("said %s", text)


def test_log_records_name_their_calls(make_threads: Make, caplog: pytest.LogCaptureFixture) -> None:
    executor = make_threads(max_workers=1)
    list(executor.map(say, ["a", "b"]))
    wait_until(lambda: len([r for r in caplog.records if r.name == "calls"]) == 2)
    records = [r for r in caplog.records if r.name == "calls"]
    # In whichever order their threads have logged.
    said = {r.getMessage(): getattr(r, "call", "") for r in records}
    assert said == {"said a": "say('a')", "said b": "say('b')"}


# -- what calls do to their process ---------------------------------------------------------------


def fork_and_wait() -> int:
    """What the child leaves as its status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    raise SystemExit(7)


def run_in_child(n: int) -> int:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=queue.put, args=(n,))
    child.start()
    value: int = queue.get()
    child.join()
    return value


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_a_call_forks_is_no_worker(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=4)
    neighbour = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    assert [executor.submit(fork_and_wait).result(30) for _ in range(3)] == [7] * 3
    assert executor.submit(run_in_child, 5).result(30) == 5
    gate.open()
    assert neighbour.result(30) == "a"
    assert executor.stats().finished == 5


def raise_in_thread() -> None:
    def fail() -> None:
        raise ValueError("nobody's")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def hook(name: str) -> None:
    threading.excepthook = lambda args: Path(name).touch()


def test_what_a_thread_of_a_call_raises_goes_to_excepthook(
    make_threads: Make, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    executor = make_threads(max_workers=1, initializer=hook, initargs=(str(said),))
    executor.submit(raise_in_thread).result(30)
    assert said.exists()
    assert executor.submit(square, 3).result(30) == 9


def handle(name: str) -> None:
    def note(number: int, frame: object) -> None:
        Path(name).touch()
        raise ValueError("in a handler")

    signal.signal(signal.SIGUSR1, note)


def test_a_handler_of_the_initializers_is_called_and_breaks_nothing(
    make_threads: Make, gate: Gate, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    executor = make_threads(max_workers=1, initializer=handle, initargs=(str(said),))
    neighbour = executor.submit(gate.wait, "a")
    pid = executor.submit(pid_of).result(30)
    os.kill(pid, signal.SIGUSR1)
    wait_until(said.exists)
    gate.open()
    assert neighbour.result(30) == "a"
    assert executor.submit(pid_of).result(30) == pid


def leave_a_thread(gate: Gate) -> int:
    threading.Thread(target=gate.wait, args=("left",)).start()
    return os.getpid()


def test_threads_that_calls_have_left_keep_no_worker(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1)
    pid = executor.submit(leave_a_thread, gate).result(30)
    gate.wait_for(1)
    executor.shutdown()
    wait_until(lambda: not is_alive(pid))


def test_an_initializer_that_fails_breaks_the_executor(make_threads: Make) -> None:
    from hybridexec import ExecutorBroken

    executor = make_threads(max_workers=1, initializer=divmod, initargs=(1, 0))
    with pytest.raises(ExecutorBroken, match="ZeroDivisionError"):
        executor.submit(square, 3).result(30)
