"""Parents that are interrupted, terminated or killed: nothing is left of them, and nothing said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from parent_runs import ALL_METHODS, METHODS, SCRIPTS, assert_nothing_left, kill_group, start

#: Every call would take a minute: what ends much sooner was ended. (It should take two seconds at
#: most on a quiet machine; this one may be busy.)
PATIENCE = 15.0

slow = pytest.mark.slow


class Parent:
    """A running ``endings.py``."""

    def __init__(self, process: subprocess.Popen[str], family: list[int]) -> None:
        self.process = process
        self.family = family

    def settle(self) -> None:
        """Wait until the parent waits: a signal on its way there may end up in a finalizer."""
        parent = psutil.Process(self.process.pid)
        idle = 0
        deadline = time.monotonic() + PATIENCE
        while idle < 10:
            assert time.monotonic() < deadline, "the parent never waits"
            idle = idle + 1 if parent.status() == psutil.STATUS_SLEEPING else 0
            time.sleep(0.02)

    def interrupt(self) -> None:
        """Press Ctrl-C: the terminal sends it to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[list[str], str]:
        """Wait for its end and that of its family; the lines it printed and what it complained."""
        try:
            stdout, stderr = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the parent still runs") from None
        assert_nothing_left(self.process.pid)
        return stdout.splitlines(), stderr


@contextmanager
def parent(method: str, form: str, work: str) -> Iterator[Parent]:
    """A parent whose calls run."""
    process = start(SCRIPTS / "endings.py", method, form, work)
    try:
        assert process.stdout is not None
        word, *pids = process.stdout.readline().split() or [""]
        assert word == "ready", process.communicate()
        yield Parent(process, [int(pid) for pid in pids])
    finally:
        kill_group(process.pid)
        process.communicate()


def assert_one_interrupt(stderr: str) -> None:
    assert stderr.count("Traceback (most recent call last)") == 1, stderr
    assert stderr.rstrip().endswith(("KeyboardInterrupt", "KeyboardInterrupt:")), stderr


# -- Ctrl-C ---------------------------------------------------------------------------------------

READABLE = ["finished: True left: True"]


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("work", [pytest.param("sleep", marks=slow), "gil"])
def test_ctrl_c_in_a_with_block(method: str, work: str) -> None:
    with parent(method, "in_with", work) as running:
        running.settle()
        running.interrupt()
        stdout, stderr = running.end()
    assert stdout == READABLE
    assert_one_interrupt(stderr)
    assert running.process.returncode == -signal.SIGINT


@slow
@pytest.mark.parametrize("work", ["stubborn", "burn", "nested"])
def test_ctrl_c_whatever_the_calls_do(work: str) -> None:
    with parent("forkserver", "in_with", work) as running:
        running.settle()
        running.interrupt()
        stdout, stderr = running.end()
    assert stdout == READABLE
    assert_one_interrupt(stderr)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("at_end_of_with", READABLE),
        ("shutdown", READABLE),
        ("plain", []),
        ("at_exit", []),
        ("mapped", []),
        ("lazy", []),
        ("thread", ["cancelled"]),
        ("gevent", READABLE),
    ],
)
def test_ctrl_c_wherever_the_parent_waits(form: str, said: list[str]) -> None:
    with parent("forkserver", form, "sleep") as running:
        running.settle()
        running.interrupt()
        stdout, stderr = running.end()
    assert stdout == said
    assert_one_interrupt(stderr)


@slow
@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_in_a_script_that_ends_with_workers_in_c_code(method: str) -> None:
    with parent(method, "plain", "gil") as running:
        running.settle()
        running.interrupt()
        _, stderr = running.end()
    assert_one_interrupt(stderr)


@pytest.mark.parametrize("form", ["in_asyncio", "with_in_asyncio"])
@pytest.mark.parametrize("work", ["sleep", pytest.param("burn", marks=slow)])
def test_ctrl_c_in_asyncio(form: str, work: str) -> None:
    with parent("forkserver", form, work) as running:
        running.settle()
        running.interrupt()
        _, stderr = running.end()
    # asyncio.run shows the cancellation of its main task as the context of the interrupt.
    cancelled, during, interrupt = stderr.partition("During handling of the above exception")
    assert during
    assert cancelled.count("Traceback") == 1
    assert_one_interrupt(interrupt)


@pytest.mark.parametrize(
    "form",
    [pytest.param("in_with", marks=slow), pytest.param("shutdown", marks=slow), "plain", "at_exit"],
)
def test_a_second_ctrl_c_does_not_wait(form: str) -> None:
    for _ in range(5):
        with parent("forkserver", form, "stubborn") as running:
            running.settle()
            began = time.monotonic()
            running.interrupt()
            time.sleep(0.2)  # two signals at once would be one
            running.interrupt()
            in_time = time.monotonic() - began < 0.8  # it still waits because of the first
            _, stderr = running.end()
        if in_time:
            break
    assert in_time, "this machine is too busy"
    assert_one_interrupt(stderr)


@slow
def test_ctrl_c_ends_stopped_workers() -> None:
    with parent("spawn", "in_with", "sleep") as running:
        running.settle()
        for pid in running.family:
            os.kill(pid, signal.SIGSTOP)
        running.interrupt()
        stdout, stderr = running.end()
    assert stdout == READABLE
    assert_one_interrupt(stderr)


# -- SIGTERM and SIGKILL --------------------------------------------------------------------------


@pytest.mark.parametrize("work", [pytest.param("sleep", marks=slow), "gil"])
def test_sigterm_as_an_interrupt(work: str) -> None:
    with parent("forkserver", "terminated", work) as running:
        running.settle()
        running.process.terminate()
        stdout, stderr = running.end()
    assert stdout == READABLE
    assert_one_interrupt(stderr)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize(
    ("number", "work"),
    [
        (signal.SIGKILL, "gil"),
        pytest.param(signal.SIGKILL, "burn", marks=slow),
        pytest.param(signal.SIGKILL, "sleep", marks=slow),
        pytest.param(signal.SIGTERM, "gil", marks=slow),
        pytest.param(signal.SIGTERM, "sleep", marks=slow),
    ],
    ids=["kill-gil", "kill-burn", "kill-sleep", "term-gil", "term-sleep"],
)
def test_nothing_outlives_a_parent(method: str, number: int, work: str) -> None:
    with parent(method, "plain", work) as running:
        assert len(running.family) >= 2
        running.process.send_signal(number)
        stdout, stderr = running.end()
    assert (stdout, stderr) == ([], "")
    assert running.process.returncode == -number


@slow
@pytest.mark.parametrize("method", ALL_METHODS)
def test_stopped_workers_do_not_outlive_a_killed_parent(method: str) -> None:
    with parent(method, "plain", "sleep") as running:
        for pid in running.family:
            os.kill(pid, signal.SIGSTOP)
        running.process.kill()
        running.end()


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_workers_do_not_outlive_a_killed_parent(method: str) -> None:
    with parent(method, "plain", "nested") as running:
        assert len(running.family) >= 3
        running.process.kill()
        assert running.end() == ([], "")
