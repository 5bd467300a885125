"""One worker is stuck, and the others are none the worse.

How much: benchmarks/questions/stuck_worker.py.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from hybridexec import HybridExecutor, WorkerLost

#: Seconds after which something that should have happened has not.
PATIENCE = 30.0
CALLS = 500


def hold_gil(path: Path) -> None:
    """Say so, and never let another thread of this process run again."""
    path.write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 60 + "b")


def hog(path: Path) -> None:
    """Say so, and never let another greenlet run again; other threads can."""
    path.write_text(str(os.getpid()))
    while True:
        pass


def double(number: int) -> int:
    time.sleep(0.001)
    return number * 2


#: In a stuck worker whose threads run, a recall is heard. One that holds the GIL hears nothing:
#: what was sent to it is taken back without its help.
RECALLED: list[Callable[[Path], None]] = [hog, hold_gil]


@pytest.fixture
def executor() -> Iterator[HybridExecutor]:
    made = HybridExecutor(2, concurrency=4)
    list(made.map(double, range(100)))  # both workers are up, and known to be quick
    yield made
    made.kill_workers()
    made.shutdown()


def stick(
    executor: HybridExecutor, function: Callable[[Path], None], path: Path
) -> tuple[Future[None], list[Future[int]]]:
    """A stuck call, and short ones submitted before anybody could know; some go to its worker."""
    stuck = executor.submit(function, path)
    calls = [executor.submit(double, n) for n in range(CALLS)]
    wait_until(lambda: path.exists() and path.read_text())
    return stuck, calls


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


@pytest.mark.parametrize("function", RECALLED)
def test_calls_sent_to_a_stuck_worker_are_finished_by_others(
    executor: HybridExecutor, function: Callable[[Path], None], tmp_path: Path
) -> None:
    stuck, calls = stick(executor, function, tmp_path / "pid")
    assert [call.result(PATIENCE) for call in calls] == [n * 2 for n in range(CALLS)]
    assert not stuck.done()


def test_a_worker_that_holds_the_gil_holds_up_only_what_it_was_sent(
    executor: HybridExecutor, tmp_path: Path
) -> None:
    stuck, calls = stick(executor, hold_gil, tmp_path / "pid")
    pid = int((tmp_path / "pid").read_text())

    def left() -> int:
        return sum(not call.done() for call in calls)

    def waiting_there() -> int:
        return sum(worker.queued for worker in executor.stats().workers if worker.pid == pid)

    wait_until(lambda: left() <= waiting_there())
    # The parent is as quick as ever with calls that come later.
    later = [executor.submit(double, n) for n in range(CALLS)]
    wait_until(lambda: left() + sum(not call.done() for call in later) <= waiting_there())
    assert not stuck.done()
    # And none of those that wait is lost with the worker: it had not started them.
    os.kill(pid, signal.SIGKILL)
    assert isinstance(stuck.exception(PATIENCE), WorkerLost)
    right = [n * 2 for n in range(CALLS)]
    assert [call.result(PATIENCE) for call in calls] == right
    assert [call.result(PATIENCE) for call in later] == right
