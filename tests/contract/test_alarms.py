"""Alarms of calls: each call has its own, and what its handler raises hits it only."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from hybridexec import HybridExecutor, WorkerLost

from .alarms import TimeIsUp, alarm_after, burn, burn_long, on_alarm
from .conftest import Make
from .helpers import Gate, pid_of

pytestmark = pytest.mark.slow_on("spawn", "fork")


def wait_long() -> None:
    time.sleep(60)


def limited(seconds: float, how: str) -> str:
    before = signal.getsignal(signal.SIGALRM)
    try:
        alarm_after(seconds)(wait_long if how == "wait" else burn_long)()
    except TimeIsUp as error:
        restored = signal.getsignal(signal.SIGALRM) == before
        off = signal.getitimer(signal.ITIMER_REAL)[0] == 0
        return f"{seconds}" if (*error.args, restored, off) == (signal.SIGALRM, True, True) else "?"
    return "ran on"


@pytest.mark.parametrize("how", ["wait", "burn"])
@pytest.mark.parametrize("options", [{}, {"concurrency": 1}, {"monkey_patch": False}])
def test_an_alarm_stops_its_call(make: Make, how: str, options: dict[str, Any]) -> None:
    executor = make(max_workers=1, **options)
    pid = executor.submit(pid_of).result(timeout=30)
    for _ in range(3):
        assert executor.submit(limited, 0.05, how).result(timeout=30) == "0.05"
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_each_of_many_calls_has_its_own_alarm(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1)
    neighbours = [executor.submit(gate.wait, number) for number in range(5)]
    gate.wait_for(5)
    seconds = [0.05 * number for number in range(20, 0, -1)]
    calls = [executor.submit(limited, number, "wait") for number in seconds]
    assert [call.result(timeout=30) for call in calls] == [str(number) for number in seconds]
    gate.open()
    assert [call.result(timeout=30) for call in neighbours] == list(range(5))


def test_an_alarm_that_comes_while_a_neighbour_computes_hits_its_call(
    make: Make, gate: Gate
) -> None:
    executor = make(max_workers=1)
    waiting = executor.submit(limited, 0.2, "wait")
    hog = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    time.sleep(0.4)
    gate.open()
    assert hog.result(timeout=30) == "hog"
    assert waiting.result(timeout=30) == "0.2"


def hold(condition: threading.Condition, gate: Gate) -> str:
    with condition:
        condition.notify()
        return str(gate.wait("holder"))


def alarm_while_taking_back(condition_of: str, gate: Gate) -> tuple[str, bool, bool, str]:
    """Wait for a condition, whose lock a neighbour then has; the alarm goes off meanwhile."""
    condition = threading.Condition(getattr(threading, condition_of)())
    holder = gevent.spawn(hold, condition, gate)  # starts when this waits
    fired: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: fired.append(1) or on_alarm(*_))
    error = ""
    try:
        with condition:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            opener = gevent.spawn(open_when, fired, condition, gate)
            condition.wait()
            time.sleep(60)
    except Exception as raised:
        error = type(raised).__name__
    took = condition.acquire(timeout=30)
    return error, took, opener.get(timeout=30), holder.get(timeout=30)


def open_when(fired: list[int], condition: threading.Condition, gate: Gate) -> bool:
    while not fired:
        time.sleep(0.01)
    time.sleep(0.1)
    free = condition.acquire(blocking=False)
    gate.open()
    return free


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_what_a_handler_raises_waits_until_a_conditions_lock_is_taken_back(
    make: Make, gate: Gate, kind: str
) -> None:
    call = make(max_workers=1).submit(alarm_while_taking_back, kind, gate)
    assert call.result(timeout=60) == ("TimeIsUp", True, False, "holder")


def be_interrupted(how: str, handler: Callable[..., Any] | None) -> str:
    """As a library does that stops the main thread, or a terminal."""
    if handler is not None:
        before = signal.signal(signal.SIGINT, handler)
    try:
        if how == "main":
            _thread.interrupt_main()
        else:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05 if handler is None else 60)
        return "nothing"
    except (TimeIsUp, KeyboardInterrupt) as error:
        return type(error).__name__
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("how", ["main", "kill"])
def test_an_interrupt_is_for_calls_that_handle_it_only(
    make_each: Make, gate: Gate, how: str
) -> None:
    executor = make_each(max_workers=1)
    neighbour = executor.submit(gate.wait, "neighbour")
    gate.wait_for(1)
    interrupt = signal.default_int_handler
    for handler, what in [
        (None, "nothing"),
        (on_alarm, "TimeIsUp"),
        (interrupt, "KeyboardInterrupt"),
        (None, "nothing"),
    ]:
        assert executor.submit(be_interrupted, how, handler).result(timeout=30) == what
    gate.open()
    assert neighbour.result(timeout=30) == "neighbour"


def leave_alarm(gate: Gate) -> int:
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.05)
    return os.getpid()


@pytest.mark.parametrize("concurrency", [1, 100])
def test_an_alarm_of_a_call_that_has_ended_reaches_nobody(
    make: Make, gate: Gate, concurrency: int
) -> None:
    executor = make(max_workers=1, concurrency=concurrency)
    pid = executor.submit(leave_alarm, gate).result(timeout=30)
    assert executor.submit(time.sleep, 0.3).result(timeout=30) is None
    assert executor.submit(burn, 0.3).result(timeout=30) == "burnt"
    assert executor.submit(pid_of).result(timeout=30) == pid


def views() -> list[Any]:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a fork may have brought another
    seen: list[Any] = [signal.getsignal(signal.SIGALRM), signal.alarm(0)]
    seen += [signal.signal(signal.SIGALRM, on_alarm), signal.getsignal(signal.SIGALRM)]
    seen += [signal.alarm(100), signal.alarm(50)]
    first, second = signal.setitimer(signal.ITIMER_REAL, 0)
    seen += [49 < first <= 50, second, signal.getitimer(signal.ITIMER_REAL)]
    seen += [signal.signal(signal.SIGALRM, signal.SIG_IGN), signal.getsignal(signal.SIGALRM)]
    seen += [signal.signal(signal.SIGALRM, signal.SIG_DFL)]
    time.sleep(0.01)
    return seen


def test_calls_see_what_they_have_set(executor: HybridExecutor) -> None:
    default = signal.SIG_DFL
    expected = [
        *(default, 0, default, on_alarm, 0, 100, True, 0.0, (0.0, 0.0)),
        *(on_alarm, signal.SIG_IGN, signal.SIG_IGN),
    ]
    calls = [executor.submit(views) for _ in range(20)]
    assert [call.result(timeout=30) for call in calls] == [expected] * 20


def refused() -> list[str]:
    texts = []
    attempts: list[Callable[[], object]] = [
        lambda: signal.signal(signal.SIGUSR1, "x"),  # type: ignore[arg-type]
        lambda: signal.signal(signal.SIGKILL, on_alarm),
        lambda: signal.signal(signal.SIGURG, "x"),  # type: ignore[arg-type]
        lambda: signal.signal(1000, on_alarm),
        lambda: signal.setitimer(signal.ITIMER_REAL, -1),
        lambda: signal.setitimer(99, 1),
        lambda: gevent.get_hub().threadpool.apply(signal.signal, (signal.SIGUSR1, on_alarm)),
    ]
    for attempt in attempts:
        try:
            attempt()
        except (TypeError, ValueError, OSError) as error:
            texts.append(type(error).__name__)
    return texts


def test_what_is_refused_elsewhere_is_refused_here(make: Make) -> None:
    timer = signal.ItimerError.__name__
    expected = ["TypeError", "OSError", "TypeError", "ValueError", timer, timer, "ValueError"]
    assert make().submit(refused).result(timeout=30) == expected


def default_alarm() -> None:
    signal.alarm(1)
    time.sleep(30)


@pytest.mark.slow
def test_an_alarm_without_a_handler_ends_the_process_as_ever(make: Make) -> None:
    error = make(max_workers=1).submit(default_alarm).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.signal == "SIGALRM"
