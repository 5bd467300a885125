"""What is said of hubs that are blocked, and which call has the CPU."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hybridexec import HybridExecutor, WorkerStats

from .conftest import Make
from .helpers import Gate, identity, pids, wait_until

pytestmark = pytest.mark.on_cluster

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
        return [text for text in self.at(logging.INFO) if not text.startswith("node ")]


def at(worker: WorkerStats) -> str:
    """What messages say of where a worker is."""
    return f" on node {worker.node}" if worker.node else ""


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


@pytest.mark.slow
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
    assert f"worker process {worker.pid}{at(worker)} has not run for " in warning
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
    who = f"worker process {worker.pid}{at(worker)}"
    assert re.fullmatch(rf"the hub of {who} runs again, after \d+\.\d s", end)
    assert executor.stats().workers[0].current is None
    gate.open()
    assert [call.result(timeout=30) for call in others] == [0, 1, 2]
    assert (log.warnings, log.ends) == ([warning], [end])


def query(number: int) -> int:
    """Waits in C, as a driver does that gevent cannot see into."""
    ctypes.CDLL(None).usleep(100_000)
    return number


def load_a_driver() -> None:
    sys.modules["psycopg2"] = ModuleType("psycopg2")


@pytest.mark.slow
def test_calls_that_wait_one_after_another_are_reported_once(make: Make, log: Log) -> None:
    executor = make(max_workers=1, initializer=load_a_driver)

    def reports() -> list[str]:
        return [text for text in log.warnings if "wait one after another" in text]

    queries = executor.map_unordered(query, itertools.count(), buffersize=20)
    deadline = time.monotonic() + 90
    while not reports() and time.monotonic() < deadline:
        next(queries)
    (report,) = reports()
    (worker,) = executor.stats().workers
    assert f"the calls of worker process {worker.pid}{at(worker)} wait one after another" in report
    assert re.search(r"query\(\d+\) for one", report)
    assert re.search(r"It is at .*test_blocked_hubs\.py:\d+\. That worker uses psycopg2", report)
    assert "psycogreen" in report
    assert "doctor.html#psycopg2" in report
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


@pytest.mark.slow
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
    call = executor.submit(sleep_with_gil, 8_000_000)
    (warning,) = wait_until(lambda: log.warnings)
    assert call.result(timeout=30) == 0, "a signal would have made it -1"
    assert "it runs sleep_with_gil(8000000);" in warning
    assert warning.endswith("No stack is known: it waits in C code that holds the GIL")


@pytest.mark.slow
def test_a_stopped_process_is_reported_as_one(make: Make, gate: Gate, log: Log) -> None:
    executor = make(max_workers=2, **WATCHED)
    calls = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(10)
    stopped, _ = pids(executor)
    os.kill(stopped, signal.SIGSTOP)
    try:
        (warning,) = wait_until(lambda: log.warnings)
        who = next(worker for worker in executor.stats().workers if worker.pid == stopped)
        assert f"worker process {stopped}{at(who)} has not run" in warning
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


@pytest.mark.this_machine("files are found from the folder of this process")
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
