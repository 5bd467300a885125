"""Signal handlers and alarms of calls: each call has its own, and what they raise hits it only."""

from __future__ import annotations

import _thread
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from hybridexec import HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, pid_of, square, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


class TimeIsUp(Exception):
    """What handlers raise here."""


class Flagged(BaseException):
    """The same, past ``except Exception``."""


def on_alarm(number: int, frame: object) -> None:
    raise TimeIsUp(number)


def alarm_after(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As decorators for time-outs do it."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def limited(*arguments: Any) -> Any:
            before = signal.signal(signal.SIGALRM, on_alarm)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                return function(*arguments)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return limited

    return decorate


def wait_long() -> None:
    time.sleep(60)


def burn_long() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pass


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
            signal.setitimer(signal.ITIMER_REAL, 0.1)
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


def burn(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    return "burnt"


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


def test_an_alarm_without_a_handler_ends_the_process_as_ever(make: Make) -> None:
    error = make(max_workers=1).submit(default_alarm).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.signal == "SIGALRM"


# -- other signals ---------------------------------------------------------------------------------


def wait_for_signal(gate: Gate, name: str, number: int, kind: type[BaseException]) -> str:
    def handler(number: int, frame: object) -> None:
        raise kind(number)

    before = signal.signal(number, handler)
    try:
        gate.wait(name)
    except kind:
        return f"{name} heard"
    finally:
        signal.signal(number, before)
    return f"{name} waited"


@pytest.mark.parametrize("kind", [TimeIsUp, Flagged, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGURG, signal.SIGINT])
def test_a_signal_from_outside_hits_the_call_that_handles_it(
    make: Make, gate: Gate, number: int, kind: type[BaseException]
) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    others = [executor.submit(gate.wait, name) for name in range(3)]
    call = executor.submit(wait_for_signal, gate, "call", number, kind)
    gate.wait_for(4)
    os.kill(pid, number)
    assert call.result(timeout=30) == "call heard"
    gate.open()
    assert [other.result(timeout=30) for other in others] == [0, 1, 2]
    assert executor.submit(pid_of).result(timeout=30) == pid


def send_to_myself(number: int) -> str:
    signal.signal(number, on_alarm)
    try:
        os.kill(os.getpid(), number)
        time.sleep(10)
    except TimeIsUp:
        return "heard"
    return "not heard"


def test_who_sends_itself_a_signal_gets_it(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    late = executor.submit(wait_for_signal, gate, "late", signal.SIGUSR1, Flagged)
    gate.wait_for(1)
    calls = [executor.submit(send_to_myself, signal.SIGUSR1) for _ in range(10)]
    assert [call.result(timeout=30) for call in calls] == ["heard"] * 10
    gate.open()
    assert late.result(timeout=30) == "late waited"


def cpu_alarm(timer: int, number: int) -> str:
    signal.signal(number, on_alarm)
    signal.setitimer(timer, 0.05)
    try:
        burn(30)
    except TimeIsUp:
        return "heard"
    return "not heard"


@pytest.mark.parametrize(
    ("timer", "number"),
    [(signal.ITIMER_PROF, signal.SIGPROF), (signal.ITIMER_VIRTUAL, signal.SIGVTALRM)],
)
def test_a_timer_of_cpu_time_hits_its_call(
    executor: HybridExecutor, timer: int, number: int
) -> None:
    assert executor.submit(cpu_alarm, timer, number).result(timeout=30) == "heard"


samples: list[str] = []


def sample(number: int, frame: Any) -> None:
    samples.append(frame.f_code.co_name)


def profile() -> bool:
    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)
    wait_until(lambda: burn(0.05) and "burn" in samples)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
    return "burn" in samples


def test_a_handler_sees_the_frame_that_was_interrupted(executor: HybridExecutor) -> None:
    assert executor.submit(profile).result(timeout=30)


def wait_and_tell() -> str:
    names: list[str] = []
    signal.signal(signal.SIGALRM, lambda number, frame: names.append(where(frame)))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while not names:
        time.sleep(0.02)
    return names[0]


def where(frame: Any) -> str:
    time.sleep(0.01)  # a handler may wait
    while frame.f_code.co_name != "wait_and_tell":
        frame = frame.f_back
    return str(frame.f_code.co_name)


def test_a_handler_may_wait_and_sees_where_its_call_waits(executor: HybridExecutor) -> None:
    assert executor.submit(wait_and_tell).result(timeout=30) == "wait_and_tell"


def set_handler(number: int, kind: type[BaseException]) -> None:
    def handler(number: int, frame: object) -> None:
        raise kind(number)

    signal.signal(number, handler)


def nap_or_error(seconds: float) -> str:
    try:
        time.sleep(seconds)
    except TimeIsUp:
        return "raised"
    return "slept"


def test_an_initializer_s_handler_hits_the_only_call(make: Make, gate: Gate) -> None:
    executor = make(
        max_workers=1,
        concurrency=1,
        initializer=set_handler,
        initargs=(signal.SIGUSR1, TimeIsUp),
    )
    pid = executor.submit(pid_of).result(timeout=30)
    call = executor.submit(nap_or_error, 30)
    wait_until(call.running)
    wait_until(lambda: os.kill(pid, signal.SIGUSR1) or call.done())
    assert call.result(timeout=30) == "raised"
    assert executor.submit(pid_of).result(timeout=30) == pid


def test_a_handler_that_a_call_has_left_raises_in_nobody(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    executor.submit(set_handler, signal.SIGUSR1, SystemExit).result(timeout=30)
    pid = executor.submit(pid_of).result(timeout=30)
    others = [executor.submit(gate.wait, name) for name in range(3)]
    gate.wait_for(3)
    os.kill(pid, signal.SIGUSR1)
    assert executor.submit(burn, 0.3).result(timeout=30) == "burnt"
    gate.open()
    assert [other.result(timeout=30) for other in others] == [0, 1, 2]
    assert executor.submit(pid_of).result(timeout=30) == pid


# -- what the worker itself needs ------------------------------------------------------------------


def reset_all() -> list[int]:
    """As daemons do."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number not in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
    return subprocess.run([sys.executable, "-c", "raise SystemExit(7)"], check=False).returncode  # type: ignore[return-value]


def run_child(gate: Gate) -> int:
    gate.arrive("child")
    script = "import time; time.sleep(0.5); raise SystemExit(3)"
    return subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_a_call_that_resets_all_signals_breaks_nothing_of_the_worker_s(
    make_each: Make, gate: Gate
) -> None:
    executor = make_each(max_workers=1)
    child = executor.submit(run_child, gate)
    gate.wait_for(1)
    assert executor.submit(reset_all).result(timeout=30) == 7
    assert child.result(timeout=30) == 3
    late = executor.options(timeout=0.1).submit(burn_long)
    assert "CallTimeout" in repr(late.exception(timeout=30))
    assert executor.submit(square, 3).result(timeout=30) == 9


def hear_of_child() -> list[int]:
    heard: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
    code = subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=False).returncode
    while not heard:
        time.sleep(0.01)
    same = signal.signal(signal.SIGCHLD, before)
    return [code, heard[0], callable(same), signal.getsignal(signal.SIGCHLD)]


def test_a_call_can_hear_of_its_children(make: Make) -> None:
    expected = [3, signal.SIGCHLD, True, signal.SIG_DFL]
    assert make(max_workers=1).submit(hear_of_child).result(timeout=30) == expected


IMPORTED = """
import multiprocessing, signal, sys, time
from signal import signal as set_signal, setitimer, ITIMER_REAL, SIGALRM
from hybridexec import HybridExecutor

class TimeIsUp(Exception):
    pass

def on_alarm(number, frame):
    raise TimeIsUp

set_signal(SIGALRM, on_alarm)

def limited(seconds):
    setitimer(ITIMER_REAL, seconds)
    try:
        time.sleep(30)
    except TimeIsUp:
        return seconds

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, context, concurrency=1) as executor:
        print(list(executor.map(limited, [0.1, 0.2])))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_handlers_that_were_set_at_import_work(tmp_path: Path, method: str) -> None:
    from .helpers import run_script

    done = run_script(tmp_path / "imported.py", IMPORTED, method)
    assert done.stdout == "[0.1, 0.2]\n"
    assert done.stderr == ""
