"""Signal handlers of calls: each call has its own, and what they raise hits it only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .alarms import Flagged, TimeIsUp, burn, burn_long, on_alarm
from .conftest import Make
from .helpers import Gate, pid_of, square, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


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


def nap_or_error(gate: Gate) -> str:
    try:
        gate.wait("naps")
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
    call = executor.submit(nap_or_error, gate)
    gate.wait_for(1)
    os.kill(pid, signal.SIGUSR1)
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


@pytest.mark.slow
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
    try:
        setitimer(ITIMER_REAL, seconds)
        time.sleep(30)
    except TimeIsUp:
        return seconds

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, context, concurrency=1) as executor:
        print(list(executor.map(limited, [0.1, 0.2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_handlers_that_were_set_at_import_work(tmp_path: Path, method: str) -> None:
    from .helpers import run_script

    done = run_script(tmp_path / "imported.py", IMPORTED, method)
    assert done.stdout == "[0.1, 0.2]\n"
    assert done.stderr == ""
