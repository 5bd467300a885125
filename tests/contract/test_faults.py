"""What is said of workers that die and of hubs that are blocked."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import itertools
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, identity, leave, pid_of, run_script, square, wait_until


def crash(_: object = None) -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- a worker dies --------------------------------------------------------------------------------


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
    named = ("wait_at(...)",) * 3 + tuple(f"sleep({100 + n})" for n in range(7))
    for place, error in enumerate(errors):
        assert isinstance(error, WorkerLost)
        assert (error.pid, error.in_flight, error.calls) == (pid, 23, named)
        own = "wait_at(...)" if place < 3 else f"sleep({100 + place - 3})"
        assert f"this call, {own}, and 22 others;" in str(error)
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


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_no_descriptor_is_left_of_workers_that_died() -> None:
    def run(deaths: int) -> int:
        with HybridExecutor(1) as executor:
            for _ in range(deaths):
                assert isinstance(executor.submit(kill_me).exception(timeout=30), WorkerLost)
            assert executor.submit(square, 2).result(timeout=30) == 4
            return len(os.listdir("/proc/self/fd"))

    run(0)  # what is opened once for all executors
    assert run(0) == run(4)


# -- a blocked hub --------------------------------------------------------------------------------


def import_this_module() -> None:
    """As an initializer: or else the first call would do it, and block its hub for a while."""


WATCHED: dict[str, Any] = {"hub_lag_warning": 1.0, "initializer": import_this_module}


class Log:
    """What the library logs, from WARNING and INFO on."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "hybridexec")
        self._caplog = caplog

    def at(self, level: int) -> list[str]:
        records = self._caplog.records
        return [r.getMessage() for r in records if r.name == "hybridexec" and r.levelno == level]

    @property
    def warnings(self) -> list[str]:
        return self.at(logging.WARNING)

    @property
    def ends(self) -> list[str]:
        return self.at(logging.INFO)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Files that calls spin for; they are there at the end of the test, however that comes. Their
    names are short, so that messages have all of them."""
    monkeypatch.chdir(tmp_path)
    flags = [Path("a"), Path("b")]
    yield flags
    for flag in flags:
        (tmp_path / flag).touch()


def spin(flag: str) -> str:
    """Keep the CPU until a file is there."""
    while not os.path.exists(flag):
        pass
    return flag


def spin_deep(flag: str, depth: int) -> str:
    return spin_deep(flag, depth - 1) if depth else spin(flag)


@pytest.mark.slow_on("spawn", "fork")
def test_a_blocked_hub_is_reported_once_and_so_is_its_end(
    make_each: Make, flags: list[Path], gate: Gate, log: Log
) -> None:
    flag = flags[0].absolute()
    executor = make_each(max_workers=1, **WATCHED)
    others = [executor.submit(gate.wait, n) for n in range(3)]
    gate.wait_for(3)
    hog = executor.submit(spin, str(flag))
    (warning,) = wait_until(lambda: log.warnings)
    (worker,) = executor.stats().workers
    assert f"worker process {worker.pid} has not run for " in warning
    assert re.search(r"for \d\.\d s: spin\('", warning)
    assert "keeps it from running any other; unfinished calls there: 4" in warning
    assert re.search(r" in spin\n    (while not os\.path\.exists\(flag\)|pass)", warning)
    assert "runners.py" not in warning, "the user's frames only"
    assert worker.current is not None
    assert worker.current.startswith("spin('")
    assert worker.hub_lag > 0.2
    wait_until(lambda: executor.stats().workers[0].hub_lag > 2)
    assert log.warnings == [warning]
    assert log.ends == []
    flag.touch()
    assert hog.result(timeout=30) == str(flag)
    (end,) = wait_until(lambda: log.ends)
    assert re.fullmatch(rf"the hub of worker process {worker.pid} runs again, after \d+\.\d s", end)
    assert executor.stats().workers[0].current is None
    gate.open()
    assert [call.result(timeout=30) for call in others] == [0, 1, 2]
    assert (log.warnings, log.ends) == ([warning], [end])


def query(number: int) -> int:
    """Waits in C, as a driver does that gevent cannot see into."""
    ctypes.CDLL(None).usleep(100_000)
    return number


@pytest.mark.slow
def test_calls_that_wait_one_after_another_are_reported_once(make: Make, log: Log) -> None:
    executor = make(max_workers=1, initializer=import_this_module)

    def reports() -> list[str]:
        return [text for text in log.warnings if "wait one after another" in text]

    queries = executor.map_unordered(query, itertools.count(), buffersize=20)
    deadline = time.monotonic() + 90
    while not reports() and time.monotonic() < deadline:
        next(queries)
    (report,) = reports()
    (worker,) = executor.stats().workers
    assert f"the calls of worker process {worker.pid} wait one after another" in report
    assert re.search(r"query\(\d+\) for one", report)
    assert "psycogreen" in report
    assert report.endswith("in query\n    ctypes.CDLL(None).usleep(100_000)")
    for _ in range(20):
        next(queries)
    assert reports() == [report]
    queries.close()


@pytest.mark.slow
def test_each_episode_is_reported(make: Make, flags: list[Path], log: Log) -> None:
    executor = make(max_workers=1, **WATCHED)
    for number, flag in enumerate(flags, 1):
        hog = executor.submit(spin_deep, str(flag.absolute()), 200)
        wait_until(lambda number=number: len(log.warnings) == number)
        assert log.warnings[-1].count("\n") < 20, "a deep recursion is cut short"
        flag.touch()
        hog.result(timeout=30)
        wait_until(lambda number=number: len(log.ends) == number)


def backtrack(length: int) -> None:
    re.match(r"(a+)+$", "a" * length + "b")


def test_a_stack_is_had_though_c_code_holds_the_gil(make: Make, log: Log) -> None:
    executor = make(max_workers=1, **WATCHED)
    executor.submit(time.sleep, 100)
    executor.submit(backtrack, 100)
    (warning,) = wait_until(lambda: log.warnings)
    assert "it runs backtrack(100), sleep(100); unfinished calls there: 2" in warning
    assert " in backtrack" in warning
    executor.kill_workers()


def sleep_with_gil(microseconds: int) -> int:
    return ctypes.PyDLL(None).usleep(microseconds)


@pytest.mark.slow
def test_c_code_that_waits_with_the_gil_is_not_disturbed(make: Make, log: Log) -> None:
    executor = make(max_workers=1, **WATCHED)
    call = executor.submit(sleep_with_gil, 4_000_000)
    assert call.result(timeout=30) == 0, "a signal would have made it -1"
    (warning,) = log.warnings
    assert "it runs sleep_with_gil(4000000);" in warning
    assert warning.endswith("No stack is known: it waits in C code that holds the GIL")


def test_a_stopped_process_is_reported_as_one(make: Make, gate: Gate, log: Log) -> None:
    executor = make(max_workers=2, **WATCHED)
    calls = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(10)
    stopped, _ = executor._processes
    os.kill(stopped, signal.SIGSTOP)
    try:
        (warning,) = wait_until(lambda: log.warnings)
        assert f"worker process {stopped} has not run" in warning
        assert warning.endswith("No stack is known: the process is stopped")
    finally:
        os.kill(stopped, signal.SIGCONT)
    gate.open()
    assert [call.result(timeout=30) for call in calls] == list(range(10))
    wait_until(lambda: log.ends)
    assert len(log.warnings) == len(log.ends) == 1


def leave_hog(gate: Gate) -> None:
    import gevent

    gevent.spawn(gate.hog, "hog")


@pytest.mark.slow
def test_a_greenlet_that_a_call_left_running_is_told_from_a_call(
    make: Make, gate: Gate, log: Log
) -> None:
    executor = make(max_workers=1, **WATCHED)
    waiting = executor.submit(time.sleep, 3)
    wait_until(lambda: executor.stats().running == 1)
    executor.submit(leave_hog, gate).result(timeout=30)
    (warning,) = wait_until(lambda: log.warnings)
    assert "no call has the CPU, but code that one has left running; unfinished calls" in warning
    assert " in hog\n" in warning
    gate.open()
    waiting.result(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{"concurrency": 1}, {"hub_lag_warning": None}], ids=str)
def test_nothing_is_reported_where_nobody_wants_to_know(
    make: Make, gate: Gate, log: Log, arguments: dict[str, Any]
) -> None:
    executor = make(max_workers=1, **{**WATCHED, **arguments})
    hog = executor.submit(gate.hog, "a")
    gate.wait_for(1)
    wait_until(lambda: executor.stats().workers[0].hub_lag > 3)
    gate.open()
    assert hog.result(timeout=30) == "a"
    assert log.warnings == log.ends == []


def test_an_idle_executor_looks_at_nothing(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    look_seconds = executor._engine._supervisor.look_seconds
    assert look_seconds(time.monotonic()) is None
    call = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    seconds = look_seconds(time.monotonic())
    assert seconds is not None
    assert 0 <= seconds <= 0.5
    gate.open()
    assert call.result(timeout=30) == "a"
    assert look_seconds(time.monotonic()) is None


# -- which call has the CPU -----------------------------------------------------------------------


def current_of(executor: HybridExecutor) -> str | None:
    (worker,) = executor.stats().workers
    return worker.current


def test_the_call_that_has_the_cpu_is_known_once_a_call_has_a_timeout(
    make: Make, flags: list[Path], gate: Gate, tmp_path: Path
) -> None:
    gates = [gate, Gate(tmp_path / "second")]
    executor = make(max_workers=1)
    assert executor.submit(identity, 1).result(timeout=30) == 1
    timed = executor.options(timeout=60)
    hogs = [timed.submit(spin, str(flag)) for flag in flags]
    wait_until(lambda: current_of(executor) == "spin('a')")
    flags[0].touch()
    # The same runner goes on to the second, without a switch.
    wait_until(lambda: current_of(executor) == "spin('b')")
    flags[1].touch()
    assert [hog.result(timeout=30) for hog in hogs] == ["a", "b"]
    waiting = executor.submit(gates[0].wait, "a")
    gates[0].wait_for(1)
    wait_until(lambda: current_of(executor) is None)
    hog = executor.submit(gates[1].hog, "b")  # it has no timeout, and is known all the same
    wait_until(lambda: current_of(executor) == "Gate.hog('b')")
    gates[1].open()
    assert hog.result(timeout=30) == "b"
    wait_until(lambda: current_of(executor) is None)
    gates[0].open()
    assert waiting.result(timeout=30) == "a"


def test_without_such_a_call_switches_are_not_traced(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    assert executor.submit(is_traced).result(timeout=30) is False
    hog = executor.submit(gate.hog, "a")
    gate.wait_for(1)
    assert current_of(executor) is None
    gate.open()
    assert hog.result(timeout=30) == "a"
    assert executor.options(timeout=60).submit(is_traced).result(timeout=30) is True
    assert executor.submit(is_traced).result(timeout=30) is True


def is_traced() -> bool:
    import greenlet

    return greenlet.gettrace() is not None


def with_tracer_and_odd_greenlet() -> tuple[bool, list[str]]:
    import gevent
    import greenlet

    class Odd(gevent.Greenlet):
        call = "something else"

    seen: list[str] = []
    Odd.spawn(seen.append, "ran").join()
    return greenlet.gettrace() is not None, seen


def set_tracer() -> None:
    import greenlet

    events: list[str] = []
    greenlet.settrace(lambda event, _: events.append(event))
    sys.modules["tracer_events"] = events


def traced_events() -> int:
    time.sleep(0)
    return len(sys.modules["tracer_events"])


def test_tracing_gets_along_with_what_users_do(make: Make) -> None:
    executor = make(max_workers=1, initializer=set_tracer)
    timed = executor.options(timeout=60)
    before = timed.submit(traced_events).result(timeout=30)
    assert timed.submit(with_tracer_and_odd_greenlet).result(timeout=30) == (True, ["ran"])
    assert timed.submit(traced_events).result(timeout=30) > before > 0
