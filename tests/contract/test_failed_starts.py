"""Workers that cannot be started, or are gone before they have done anything."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from hybridexec import ExecutorBroken, WorkerLost
from hybridexec.parent.launch.launcher import Launcher, Started

from .conftest import Make
from .helpers import Gate, pid_of, square, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")

#: Processes that an executor of so many workers may start if none of them comes to anything.
MOST = {1: 4, 4: 8}


def note(folder: Path) -> None:
    """In a worker: note that it was started."""
    (folder / f"worker-{os.getpid()}").touch()


def started(folder: Path) -> int:
    """How many have been."""
    return len(list(folder.glob("worker-*")))


def kill_myself_soon(folder: Path, how: str) -> None:
    """An initializer: the worker ends as soon as somebody looks away, ready or not."""
    note(folder)
    if how == "exit":
        threading.Timer(0, os._exit, (7,)).start()
    elif how == "kill":
        threading.Timer(0, os.kill, (os.getpid(), signal.SIGKILL)).start()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exit", "kill", "kill at once"])
@pytest.mark.parametrize("workers", [1, 4])
def test_workers_that_end_before_they_take_a_call_break_the_executor(
    make_each: Make, tmp_path: Path, workers: int, how: str
) -> None:
    executor = make_each(
        max_workers=workers, initializer=kill_myself_soon, initargs=(tmp_path, how)
    )
    calls = [executor.submit(square, n) for n in range(5 * workers)]

    def is_broken() -> bool:
        try:
            calls.append(executor.submit(square, 0))
        except ExecutorBroken:
            return True
        return isinstance(calls[-1].exception(timeout=120), ExecutorBroken)

    wait_until(is_broken, patience=120)
    errors = [call.exception(timeout=120) for call in calls]
    for error in errors:
        # A call that one has taken after all may have run, even to its end.
        assert error is None or isinstance(error, ExecutorBroken | WorkerLost)
        assert error is None or ("exit code 7" if how == "exit" else "SIGKILL") in str(error)
    # Each call that was taken costs a process more.
    taken = sum(not isinstance(error, ExecutorBroken) for error in errors)
    assert started(tmp_path) <= MOST[workers] * (taken + 1)


def only_the_first_lives(folder: Path) -> None:
    note(folder)
    try:
        (folder / "first").touch(exist_ok=False)
    except FileExistsError:
        threading.Timer(0, os._exit, (7,)).start()


@pytest.mark.slow
def test_a_worker_that_runs_calls_is_kept_while_all_others_die(
    make_each: Make, tmp_path: Path, gate: Gate
) -> None:
    executor = make_each(
        max_workers=2, concurrency=4, initializer=only_the_first_lives, initargs=(tmp_path,)
    )
    # With "fork" two workers are started at once.
    first = executor.submit(gate.wait, 0)
    gate.wait_for(1)
    calls = [executor.submit(pid_of) for _ in range(100)]
    wait_until(lambda: started(tmp_path) > 4, "some have come to nothing")
    gate.open()
    assert first.result(timeout=60) == 0
    ends = [call.exception(timeout=60) for call in calls]
    assert [error for error in ends if not isinstance(error, WorkerLost | None)] == []
    assert sum(error is None for error in ends) > 50
    assert started(tmp_path) < 20


def fail_starts_after(monkeypatch: pytest.MonkeyPatch, good: int, error: Exception) -> list[int]:
    """Let no worker be started but the first ``good``; the numbers of the others, as they come."""
    start = Launcher.start
    failed: list[int] = []

    def sometimes(self: Launcher, number: int, *rest: Any) -> Started:
        if number > good:
            failed.append(number)
            raise error
        return start(self, number, *rest)

    monkeypatch.setattr(Launcher, "start", sometimes)
    return failed


NO_PROCESS = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize("error", [NO_PROCESS, TypeError("cannot pickle that")])
def test_a_start_that_fails_breaks_nothing_while_another_worker_runs_calls(
    make_each: Make,
    monkeypatch: pytest.MonkeyPatch,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    failed = fail_starts_after(monkeypatch, 1, error)
    executor = make_each(max_workers=2, concurrency=4)
    first = executor.submit(gate.wait, 0)
    gate.wait_for(1)
    calls = [executor.submit(square, n) for n in range(50)]
    wait_until(lambda: len(failed) > 2, "other starts")
    gate.open()
    assert first.result(timeout=60) == 0
    assert [call.result(timeout=60) for call in calls] == [n * n for n in range(50)]
    assert str(error) in caplog.text


def test_a_start_that_fails_for_a_moment_is_tried_again(
    make_each: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Launcher.start
    tries: list[int] = []

    def second_time(self: Launcher, number: int, *rest: Any) -> Started:
        tries.append(number)
        if len(tries) == 1:
            raise NO_PROCESS
        return start(self, number, *rest)

    monkeypatch.setattr(Launcher, "start", second_time)
    executor = make_each(max_workers=1)
    assert executor.submit(square, 3).result(timeout=60) == 9
    assert tries == [1, 2]


@pytest.mark.parametrize(("error", "most"), [(NO_PROCESS, 3), (TypeError("cannot pickle that"), 1)])
def test_starts_that_always_fail_break_the_executor(
    make_each: Make, monkeypatch: pytest.MonkeyPatch, error: Exception, most: int
) -> None:
    failed = fail_starts_after(monkeypatch, 0, error)
    executor = make_each(max_workers=1)
    broken: Any = executor.submit(square, 3).exception(timeout=60)
    assert isinstance(broken, ExecutorBroken)
    assert type(error).__name__ in str(broken)
    assert str(error) in str(broken)
    assert len(failed) == most


def test_workers_that_have_done_calls_may_be_killed_as_often_as_one_likes(make_each: Make) -> None:
    executor = make_each(max_workers=1)
    for n in range(10):
        pid = executor.submit(pid_of).result(timeout=60)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: pid not in executor._processes)  # type: ignore[misc]
        assert executor.submit(square, n).result(timeout=60) == n * n
