"""Programs that a call runs by subprocess or os.system end, are heard of, and hold nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from .children import UNTIL, by_waitpid, have_turns, no_child_is_left
from .conftest import Make
from .helpers import wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


def poll_a_program() -> tuple[object, object]:
    program = subprocess.Popen(["sh", "-c", "read line; kill -9 $$"], stdin=subprocess.PIPE)
    before = program.poll()
    assert program.stdin is not None
    program.stdin.close()
    while program.poll() is None:
        time.sleep(0.01)
    return before, program.returncode


def run_with_sigchld_blocked() -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        return subprocess.run(["sh", "-c", "sleep 0.1; exit 3"], check=False).returncode
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def run_in_a_native_thread() -> int:
    def run() -> int:
        return subprocess.run(["sh", "-c", "sleep 0.1; exit 3"], check=False).returncode

    return gevent.get_hub().threadpool.apply(run)


def run_out_of_time() -> str:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "60"], timeout=0.1, check=False)
    assert no_child_is_left()
    return "killed"


def ask_the_kernel_itself() -> int:
    """As asyncio does, for a child that its ``Popen`` has been told of."""
    program = subprocess.Popen(["sh", "-c", "exit 3"])
    wait_until(lambda: program.returncode is not None, "it is told")
    os.close(os.pidfd_open(program.pid))
    return by_waitpid(program.pid)


def handle_sigchld() -> list[int]:
    caught: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: caught.append(number))
    try:
        by_waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 0"], os.environ))
        wait_until(lambda: caught, "the handler runs")
    finally:
        signal.signal(signal.SIGCHLD, before)
    return caught[:1]


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (poll_a_program, (None, -signal.SIGKILL)),
        (run_with_sigchld_blocked, 3),
        (run_in_a_native_thread, 3),
        (run_out_of_time, "killed"),
        (ask_the_kernel_itself, 3),
        (handle_sigchld, [signal.SIGCHLD]),
    ],
)
def test_programs_are_heard_of(
    request: pytest.FixtureRequest,
    make_each: Make,
    method: str,
    function: Callable[[], object],
    result: object,
) -> None:
    if method == "fork":
        why = "seldom, and only after many other tests in this process: something else collects it"
        request.applymarker(pytest.mark.xfail(strict=False, reason=why))
    assert make_each(max_workers=1).submit(function).result(timeout=60) == result


def system_and_others(path: Path) -> int:
    """The exit code of a command that ends when others have had turns meanwhile."""
    gevent.spawn(have_turns, path)
    return os.waitstatus_to_exitcode(os.system(UNTIL.format(path=path, code=3)))


def test_os_system_lets_others_go_on(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    assert executor.submit(system_and_others, tmp_path / "file").result(timeout=60) == 3
    assert executor.submit(os.system, "kill -9 $$").result(timeout=30) == 9
    assert executor.submit(os.system, b"exit 2").result(timeout=30) == 2 << 8


def pid_file(path: Path) -> int:
    return os.system(f"echo $$ > {path}; exec sleep 60")


def test_a_stopped_call_takes_its_command_with_it(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    executor = make(max_workers=1)
    future = executor.submit(pid_file, path)
    pid = int(wait_until(lambda: path.exists() and path.read_text().strip(), "it runs"))
    future.cancel()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")
    assert executor.submit(no_child_is_left).result(timeout=30)
