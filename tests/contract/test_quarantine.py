"""on_worker_loss="retry": of the calls that a dead worker ran, only what killed it fails."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridexec import WorkerLost
from hybridexec.parent.pool.quarantine import MAX_DEATHS

from .conftest import Make
from .helpers import Gate, is_alive, pid_of, square, wait_until

pytestmark = pytest.mark.every_lane


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def note(folder: Path, n: int) -> None:
    with open(folder / str(n), "ab") as file:
        file.write(b"x")


def runs(folder: Path, n: int) -> int:
    path = folder / str(n)
    return path.stat().st_size if path.exists() else 0


def work(folder: Path, together: int, culprit: int, crime: Callable[[], None], n: int) -> int:
    """Note this run, and return ``n``; the culprit ends its worker instead, the first time only
    when ``together`` calls have begun to run."""
    note(folder, n)
    if n == culprit:
        while sum(1 for _ in os.scandir(folder)) < together:
            time.sleep(0.01)
        crime()
    time.sleep(0.2 if runs(folder, n) == 1 else 0)
    return n


def die_once(gate: Gate, name: str) -> str:
    """Wait; if that was interrupted by the worker's end, the second run just returns."""
    if name in gate.arrived:
        return "again"
    gate.wait(name)
    return "at once"


def in_flight(
    make: Make, folder: Path, crime: Callable[[], None], count: int, **options: Any
) -> None:
    executor = make(max_workers=2, concurrency=count, **options)
    culprit = count // 3
    # The gate in work() holds the culprit only: all that share its worker are in flight by then,
    # or have done their work.
    futures = {
        n: executor.submit(work, folder, count // 2, culprit, crime, n) for n in range(count)
    }
    for n, future in futures.items():
        if n != culprit:
            assert future.result(timeout=60) == n
            assert 1 <= runs(folder, n) <= MAX_DEATHS
    error = futures[culprit].exception(timeout=60)
    assert isinstance(error, WorkerLost)
    earlier = [note for note in error.__notes__ if note.startswith("Run ")]
    assert len(earlier) == runs(folder, culprit) - 1
    assert 2 <= runs(folder, culprit) <= MAX_DEATHS
    assert executor.submit(square, 3).result(timeout=30) == 9


@pytest.mark.parametrize("crime", [leave, os.abort, kill_myself])
def test_only_the_culprit_fails(make: Make, tmp_path: Path, crime: Callable[[], None]) -> None:
    in_flight(make, tmp_path, crime, 8, on_worker_loss="retry")


def test_only_the_culprit_of_two_hundred_fails(make: Make, tmp_path: Path) -> None:
    in_flight(make, tmp_path, segfault, 200, on_worker_loss="retry")


@pytest.mark.slow
def test_with_every_start_method(make_each: Make, tmp_path: Path) -> None:
    in_flight(make_each, tmp_path, segfault, 100, on_worker_loss="retry")


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_it_can_be_chosen_for_some_calls(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    again = executor.options(on_worker_loss="retry").submit(die_once, gate, "retry")
    lost = executor.submit(die_once, gate, "fail")
    gate.wait_for(2)
    os.kill(executor.stats().workers[0].pid or 0, signal.SIGKILL)
    assert again.result(timeout=30) == "again"
    with pytest.raises(WorkerLost):
        lost.result(timeout=30)


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_it_can_be_declined_for_some_calls(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, on_worker_loss="retry")
    lost = executor.options(on_worker_loss="fail").submit(die_once, gate, "fail")
    again = executor.submit(die_once, gate, "retry")
    gate.wait_for(2)
    os.kill(executor.stats().workers[0].pid or 0, signal.SIGKILL)
    assert again.result(timeout=30) == "again"
    with pytest.raises(WorkerLost):
        lost.result(timeout=30)


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
@pytest.mark.slow
def test_calls_that_may_not_run_again_never_do(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1, concurrency=20, on_worker_loss="retry")
    careful = executor.options(on_worker_loss="fail")
    futures = [
        (careful if n % 2 else executor).submit(work, tmp_path, 20, 10, segfault, n)
        for n in range(20)
    ]
    for n, future in enumerate(futures):
        error = future.exception(timeout=60)
        if n == 10:
            assert isinstance(error, WorkerLost)
        elif n % 2:
            assert error is None or isinstance(error, WorkerLost)
            assert runs(tmp_path, n) == 1
        else:
            assert future.result() == n


@pytest.mark.every_lane(but=("cluster",))  # whose processes are not ours
def test_healthy_workers_go_on(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2, concurrency=1, on_worker_loss="retry")
    healthy = executor.submit(gate.wait, "healthy")
    gate.wait_for(1)
    (pid,) = [worker.pid for worker in executor.stats().workers if worker.running]
    culprit = executor.submit(leave)
    assert isinstance(culprit.exception(timeout=60), WorkerLost)
    assert is_alive(pid or 0)
    gate.open()
    assert healthy.result(timeout=30) == "healthy"
    assert len(gate.arrived) == 1


@pytest.mark.slow
def test_several_culprits_are_all_found(make: Make) -> None:
    executor = make(max_workers=2, concurrency=30, on_worker_loss="retry")
    culprits = [executor.submit(leave) for _ in range(3)]
    others = [executor.submit(square, n) for n in range(60)]
    assert [other.result(timeout=60) for other in others] == [n * n for n in range(60)]
    assert all(isinstance(c.exception(timeout=60), WorkerLost) for c in culprits)


def test_outcomes_count_the_runs(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, on_worker_loss="retry")
    stream = executor.outcomes(die_once, [gate], ["a"])
    ended: list[Any] = []
    consumer = threading.Thread(target=lambda: ended.extend(stream))
    consumer.start()
    gate.wait_for(1)
    os.kill(executor.stats().workers[0].pid or 0, signal.SIGKILL)
    consumer.join(30)
    assert [(outcome.value, outcome.attempts) for outcome in ended] == [("again", 2)]


def test_a_suspect_can_be_cancelled(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, on_worker_loss="retry")
    future = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    os.kill(executor.stats().workers[0].pid or 0, signal.SIGKILL)
    assert future.cancel()
    assert executor.submit(square, 3).result(timeout=30) == 9
    executor.shutdown()


def test_shutdown_waits_for_suspects(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, on_worker_loss="retry")
    future = executor.submit(die_once, gate, "a")
    gate.wait_for(1)
    os.kill(executor.stats().workers[0].pid or 0, signal.SIGKILL)
    executor.shutdown()
    assert future.result(timeout=0) == "again"


def test_no_worker_is_left_of_a_quarantine(make: Make) -> None:
    executor = make(max_workers=1, on_worker_loss="retry")
    assert isinstance(executor.submit(leave).exception(timeout=60), WorkerLost)
    executor.submit(pid_of).result(timeout=30)
    wait_until(lambda: len(executor.stats().workers) == 1)
