"""What is said of workers that die."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, leave, pid_of, run_script, square, wait_until


def crash(_: object = None) -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("function", "arguments", "how", "name", "log"),
    [
        (crash, ("x",), "killed by SIGSEGV", "SIGSEGV", "Segmentation fault"),
        (abort, (), "killed by SIGABRT", "SIGABRT", "Aborted"),
        (kill_me, (), "killed by SIGKILL, by the system if memory ran out", "SIGKILL", None),
        (leave, (7,), "exit code 7", None, None),
    ],
)
def test_the_error_says_how_the_worker_died_and_where(
    make: Make,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    how: str,
    name: str | None,
    log: str | None,
) -> None:
    executor = make(max_workers=1)
    error = executor.submit(function, *arguments).exception(timeout=30)
    call = f"{function.__name__}({', '.join(map(repr, arguments))})"
    assert isinstance(error, WorkerLost)
    assert f"({how}) while it was running this call, {call};" in str(error)
    assert error.signal == name
    assert error.calls == (call,)
    if log is None:
        assert error.fault_log == ""
        assert not hasattr(error, "__notes__")
    else:
        assert log in error.fault_log
        assert f" in {function.__name__}\n" in error.fault_log
        assert error.fault_log in error.__notes__[0]
    assert executor.submit(square, 4).result(timeout=30) == 16


LOSE = """
import ctypes, multiprocessing, sys
from hybridexec import HybridExecutor

def crash(x):
    ctypes.string_at(0)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, context) as executor:
        error = executor.submit(crash, 5).exception(timeout=30)
        print(error.calls, " in crash" in error.fault_log)
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_a_fault_is_recorded_with_each_start_method(tmp_path: Path, method: str) -> None:
    done = run_script(tmp_path / "lose.py", LOSE, method)
    assert done.stdout == "('crash(5)',) True\n"
    assert done.stderr == ""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_where_the_user_has_enabled_faulthandler_it_writes_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    done = run_script(tmp_path / "lose.py", LOSE, method)
    assert done.stdout == "('crash(5)',) False\n"
    assert "Segmentation fault" in done.stderr


def enable_faulthandler(path: Path) -> None:
    global log_file
    log_file = path.open("w")
    faulthandler.enable(log_file)


def test_an_initializer_may_have_faulthandler_write_elsewhere(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "log"
    executor = make(max_workers=1, initializer=enable_faulthandler, initargs=(path,))
    error = executor.submit(crash).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.fault_log == ""
    assert " in crash" in path.read_text()


def crash_in_child_then_leave() -> None:
    child = os.fork()
    if not child:
        crash()
    _, status = os.waitpid(child, 0)
    os._exit(os.WTERMSIG(status))


def test_a_fault_of_a_forked_child_is_not_the_workers(make: Make) -> None:
    error = make(max_workers=1).submit(crash_in_child_then_leave).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.exitcode == signal.SIGSEGV
    assert error.fault_log == ""


def break_worker(module: str, owner: str, name: str) -> int:
    """Have something of the library's fail in this process, as it would without memory."""

    def fail(*arguments: Any) -> None:
        raise MemoryError

    setattr(getattr(importlib.import_module(f"hybridexec.worker.{module}"), owner), name, fail)
    return os.getpid()


@pytest.mark.parametrize("method", ["_handle", "_read"])
def test_a_worker_whose_hub_cannot_read_is_replaced(make: Make, method: str) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(break_worker, "inbound", "Inbound", method).result(timeout=30)
    assert executor.submit(pid_of).result(timeout=30) != pid


def test_a_worker_whose_helper_thread_cannot_read_is_replaced(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(break_worker, "inbound", "Inbound", "read_aside").result(timeout=30)
    call = executor.submit(wait_at, gate, 0)
    gate.wait_for(1)
    assert call.cancel()  # which the helper thread is to hear of
    wait_until(lambda: pid not in executor._processes)


def test_a_worker_whose_runner_fails_around_a_call_is_replaced(make: Make) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(break_worker, "greenlets.runners", "Runners", "_trace").result(timeout=30)
    error = executor.options(timeout=100).submit(pid_of).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert executor.submit(pid_of).result(timeout=30) != pid


def test_a_fault_before_a_worker_is_ready_is_told_too(make: Make) -> None:
    executor = make(max_workers=1, initializer=crash)
    error = executor.submit(square, 2).exception(timeout=30)
    assert isinstance(error, ExecutorBroken)
    assert " in crash" in error.__notes__[0]


def test_calls_that_were_in_flight_are_named(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    waiting = [executor.submit(wait_at, gate, n) for n in range(3)]
    waiting += [executor.submit(time.sleep, 100 + n) for n in range(20)]
    gate.wait_for(3)
    wait_until(lambda: executor.stats().running == 23)
    (pid,) = executor._processes
    os.kill(pid, signal.SIGKILL)
    errors = [call.exception(timeout=30) for call in waiting]
    texts = [f"wait_at(a gate, {n})" for n in range(3)] + [f"sleep({100 + n})" for n in range(20)]
    named = tuple(texts[:10])
    for place, error in enumerate(errors):
        assert isinstance(error, WorkerLost)
        assert (error.pid, error.in_flight, error.calls) == (pid, 23, named)
        assert f"this call, {texts[place]}, and 22 others;" in str(error)
        assert str(error).endswith(f"It was running: {', '.join(named)} and 13 more")


def wait_at(gate: Gate, n: int) -> None:
    gate.wait(n)


def crash_at_three(n: int) -> int:
    if n == 3:
        crash()
    time.sleep(60)
    return n


def test_each_item_of_a_map_is_named_in_its_own_error(make: Make) -> None:
    executor = make(max_workers=1, concurrency=4)
    outcomes = list(executor.outcomes(crash_at_three, range(4)))
    assert {outcome.item for outcome in outcomes} == set(range(4))
    for outcome in outcomes:
        assert f"this call, crash_at_three({outcome.item}), and" in str(outcome.error)


def test_a_worker_we_killed_did_not_run_out_of_memory(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    call = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    executor.kill_workers()
    error = call.exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert "SIGKILL" in str(error)
    assert "memory" not in str(error)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_no_descriptor_is_left_of_workers_that_died() -> None:
    def run(deaths: int) -> int:
        with HybridExecutor(1) as executor:
            for _ in range(deaths):
                assert isinstance(executor.submit(kill_me).exception(timeout=30), WorkerLost)
            assert executor.submit(square, 2).result(timeout=30) == 4
            return len(os.listdir("/proc/self/fd"))

    run(0)  # what is opened once for all executors
    gc.collect()  # what other tests have left
    before = run(0)
    assert run(4) <= before
