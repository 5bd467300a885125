"""A call's child processes: their ends are heard of, with the right status, and hold nobody up."""

from __future__ import annotations

import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait as wait_for_sentinels
from pathlib import Path

import gevent
import pytest

from .children import UNTIL, by_waitpid, have_turns, no_child_is_left
from .conftest import METHODS, Make
from .helpers import wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


def exit_with(code: int) -> None:
    sys.exit(code)


def nap() -> None:
    time.sleep(0.2)


def run_a_program() -> None:
    """After which gevent would collect every child."""
    subprocess.run(["true"], check=True)


def join_processes(method: str) -> list[object]:
    run_a_program()
    context = multiprocessing.get_context(method)
    joined = context.Process(target=exit_with, args=(3,))
    looked_at = context.Process(target=exit_with, args=(4,))
    killed = context.Process(target=time.sleep, args=(60,))
    timed = context.Process(target=nap)
    for process in (joined, looked_at, killed, timed):
        process.start()
    run_a_program()
    joined.join()
    wait_until(lambda: not looked_at.is_alive(), "the process ends")
    run_a_program()
    killed.kill()
    killed.join(30)
    assert wait_for_sentinels([timed.sentinel], 30) == [timed.sentinel]
    run_a_program()
    timed.join(30)
    return [process.exitcode for process in (joined, looked_at, killed, timed)] + [
        process.is_alive() for process in (joined, looked_at, killed, timed)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("child_method", METHODS)
def test_processes_end(make: Make, child_method: str) -> None:
    executor = make(max_workers=1)
    results = executor.map(join_processes, [child_method] * 2)
    assert list(results) == [[3, 4, -signal.SIGKILL, 0] + [False] * 4] * 2


def spawn(code: int, path: Path) -> int:
    """A child that ends when the file is there."""
    script = UNTIL.format(path=path, code=code)
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)


def end_when_it_is_there(code: int, path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)
    os._exit(code)


def fork(code: int, path: Path) -> int:
    child = os.fork()
    if not child:
        end_when_it_is_there(code, path)
    return child


def forkpty(code: int, path: Path) -> int:
    child, terminal = pty.fork()
    if not child:
        end_when_it_is_there(code, path)
    gevent.spawn_later(60, os.close, terminal)
    return child


Start = Callable[[int, Path], int]


STARTS: list[Start] = [spawn, fork, forkpty]


def by_polling(child: int) -> int:
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)


def by_wait(child: int) -> int:
    found, status = os.wait()
    assert found == child
    return os.waitstatus_to_exitcode(status)


def by_wait3(child: int) -> int:
    found, status, usage = os.wait3(0)
    assert found == child
    assert usage.ru_maxrss > 0
    return os.waitstatus_to_exitcode(status)


def by_wait4(child: int) -> int:
    found, status, usage = os.wait4(child, 0)
    assert found == child
    assert usage.ru_maxrss > 0
    return os.waitstatus_to_exitcode(status)


def by_waitid(child: int) -> int:
    seen = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    found = os.waitid(os.P_PID, child, os.WEXITED)
    assert found is not None
    assert found == seen
    assert found.si_code == os.CLD_EXITED
    return found.si_status


def by_waitid_of_any(child: int) -> int:
    found = os.waitid(os.P_ALL, 0, os.WEXITED)
    assert found is not None
    assert found.si_pid == child
    return found.si_status


def by_native_thread(child: int) -> int:
    return gevent.get_hub().threadpool.apply(by_waitpid, (child,))


WAITS: list[Callable[[int], int]] = [
    by_waitpid,
    by_polling,
    by_wait,
    by_wait3,
    by_wait4,
    by_waitid,
    by_waitid_of_any,
    by_native_thread,
]


def start_and_wait(start: Start, wait: Callable[[int], int], path: Path) -> int:
    """The exit code of a child that ends when others have had turns meanwhile."""
    run_a_program()
    child = start(7, path)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    others = gevent.spawn(have_turns, path)
    code = wait(child)
    others.join()
    assert no_child_is_left()
    return code


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_each_way_to_wait_tells_the_status_and_lets_others_go_on(
    make: Make, tmp_path: Path, start: Start
) -> None:
    executor = make(max_workers=1)
    for wait in WAITS:
        call = executor.submit(start_and_wait, start, wait, tmp_path / wait.__name__)
        assert call.result(timeout=60) == 7, wait


def take_any() -> set[int]:
    taken = set()
    while True:
        try:
            taken.add(os.waitstatus_to_exitcode(os.wait()[1]))
        except ChildProcessError:
            return taken


def contend(path: Path) -> tuple[bool, list[object]]:
    """One greenlet collects whatever ends while others wait for their own."""
    process = multiprocessing.get_context("fork").Process(target=exit_with, args=(3,))
    process.start()
    programs = [subprocess.Popen(["sh", "-c", f"exit {code}"]) for code in (4, 5)]
    own = gevent.spawn(by_waitpid, spawn(6, path))
    taker = gevent.spawn(take_any)
    time.sleep(0.3)
    path.touch()
    process.join()
    ends: list[object] = [process.exitcode, *(program.wait() for program in programs)]
    return taker.get() <= {3, 4, 5, 6}, [*ends, own.get()]


def test_no_status_is_lost_to_who_waits_for_any_child(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    assert executor.submit(contend, tmp_path / "file").result(timeout=60) == (True, [3, 4, 5, 6])


def wait_for_programs() -> list[int]:
    """The idiom of starting many programs and waiting for whichever ends."""
    programs = {}
    for code in range(3):
        program = subprocess.Popen(["sh", "-c", f"exit {code}"])
        programs[program.pid] = program
    time.sleep(0.2)
    codes = []
    while programs:
        pid, status = os.wait()
        del programs[pid]
        codes.append(os.waitstatus_to_exitcode(status))
    # Who has been told by its Popen is not told again.
    assert subprocess.run(["false"], check=False).returncode == 1
    assert no_child_is_left()
    return sorted(codes)


def test_programs_can_be_waited_for_as_any_child(make: Make) -> None:
    assert make(max_workers=1).submit(wait_for_programs).result(timeout=60) == [0, 1, 2]
