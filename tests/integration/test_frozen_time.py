"""Programs whose tests freeze the time go on being timed by the real one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import freezegun
import gevent
import pytest

from hybridexec import CallTimeout, HybridExecutor, WorkerLost, native

pytestmark = pytest.mark.slow_on("spawn", "fork")

#: What an initializer was given.
lock: Any = None

#: Far more than a timeout and its grace, far less than hogs take by themselves.
SOON = 30.0
METHODS = ["forkserver", "spawn", "fork"]


def hog() -> None:
    """Compute for longer than any test lasts."""
    end = native.monotonic() + 300
    while native.monotonic() < end:
        pass


def hog_in_frozen_time() -> None:
    with freezegun.freeze_time("2020-02-29"):
        hog()


def today() -> str:
    with freezegun.freeze_time("2020-02-29"):
        time.sleep(0.3)
        return date.today().isoformat()


class AlarmError(Exception):
    """What the handler of an alarm raises."""


def raise_it(number: int, frame: object) -> None:
    raise AlarmError


def alarm_in_frozen_time() -> str:
    """Set an alarm and wait for it, both while the time stands still."""
    with freezegun.freeze_time("2020-02-29"):
        signal.signal(signal.SIGALRM, raise_it)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            gevent.sleep(SOON)
        except AlarmError:
            return "the alarm"
    return "nothing"


def keep(given: Any) -> None:
    global lock
    lock = given


def wait_in_frozen_time() -> bool:
    with freezegun.freeze_time("2020-02-29"):
        return bool(lock.acquire(timeout=0.1))


def make(method: str, **arguments: object) -> HybridExecutor:
    context = multiprocessing.get_context(method)
    return HybridExecutor(1, context, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def frozen() -> Iterator[None]:
    with freezegun.freeze_time("2020-02-29"):
        assert time.monotonic() == time.monotonic()
        yield


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("method", METHODS)
def test_a_computing_call_is_stopped_while_its_callers_time_is_frozen(method: str) -> None:
    with make(method) as executor:
        with pytest.raises(CallTimeout):
            executor.options(timeout=0.2).submit(hog).result(timeout=SOON)
        assert executor.submit(abs, -1).result(timeout=SOON) == 1
        assert datetime.now() == datetime(2020, 2, 29)


@pytest.mark.parametrize("method", METHODS)
def test_a_call_that_freezes_the_time_is_stopped(method: str) -> None:
    with make(method) as executor:
        frozen = executor.options(timeout=0.2).submit(hog_in_frozen_time)
        assert isinstance(frozen.exception(timeout=SOON), CallTimeout)
        assert executor.submit(abs, -1).result(timeout=SOON) == 1


@pytest.mark.parametrize("method", METHODS)
def test_what_a_call_freezes_it_sees(method: str) -> None:
    with make(method) as executor:
        views = [executor, executor.options(timeout=SOON)]
        assert [view.submit(today).result(timeout=SOON) for view in views] == ["2020-02-29"] * 2
        (outcome,) = executor.outcomes(len, ["abc"])
        assert outcome.seconds is not None
        assert 0 <= outcome.seconds < SOON


@pytest.mark.parametrize("method", METHODS)
def test_alarms_and_waits_for_locks_end_in_frozen_time(method: str) -> None:
    shared = multiprocessing.get_context("fork" if method == "fork" else "spawn").Lock()
    with make(method, initializer=keep, initargs=(shared,)) as executor, shared:
        assert executor.submit(alarm_in_frozen_time).result(timeout=2 * SOON) == "the alarm"
        assert executor.submit(wait_in_frozen_time).result(timeout=SOON) is False


@pytest.mark.usefixtures("frozen")
def test_timeouts_of_the_callers_end_in_frozen_time() -> None:
    with HybridExecutor(1) as executor:
        slow = executor.map(time.sleep, [2 * SOON], timeout=0.05)
        with pytest.raises(TimeoutError):
            next(slow)
        future = executor.submit(time.sleep, 2 * SOON)
        with pytest.raises(TimeoutError):
            future.result(timeout=0.05)
        executor.cancel_all()
        retried = executor.options(retries=1, backoff=0.05).submit(int, "x")
        assert isinstance(retried.exception(timeout=SOON), ValueError)
        assert executor.stats().workers[0].hub_lag < SOON


def test_programs_whose_tests_do_not_sleep_hear_how_a_worker_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep = time.sleep
    with HybridExecutor(1) as executor:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        for number in (3, 4, 5):
            error = executor.submit(os._exit, number).exception(timeout=SOON)
            assert isinstance(error, WorkerLost)
            assert error.exitcode == number
        began = native.monotonic()
        native.sleep(0.01)
        assert native.monotonic() - began >= 0.01
        monkeypatch.setattr(time, "sleep", sleep)


def test_the_package_may_be_imported_in_frozen_time() -> None:
    program = """
import freezegun, time
with freezegun.freeze_time("2020-02-29"):
    from hybridexec import CallTimeout, HybridExecutor
    def hog():
        n = 0
        while True:
            n += 1
    if __name__ == "__main__":
        with HybridExecutor(1) as executor:
            error = executor.options(timeout=0.2).submit(hog).exception(timeout=30)
            print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "CallTimeout\n", done.stderr
