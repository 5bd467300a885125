"""Run a program that is some kind of parent, and require that it ends well and leaves nothing.

The programs are in ``scripts``. Each takes a start method as its first argument and prints facts,
which the tests compare with what they should be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

SCRIPTS = Path(__file__).resolve().parent / "scripts"
#: Seconds after which a program counts as hung; the slowest takes a few on a quiet machine.
DEADLINE = 60
#: How workers are started where ``__main__`` is imported afresh in each.
METHODS = ("forkserver", "spawn")
ALL_METHODS = (*METHODS, "fork")


def run(*command: object, **options: Any) -> list[str]:
    """Run ``python *command``; return the lines it printed.

    Fails if it does not end in time, does not exit with 0, says anything on stderr, or leaves a
    process behind.
    """
    done = run_to_end(*command, **options)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


def run_to_end(
    *command: object, stdin: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``python *command``; only its end in time and its leaving nothing are checked."""
    process = start(
        *command, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, **options
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
        time.sleep(1)
        kill_group(process.pid)
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {DEADLINE} s\n{stdout}\n{stderr}") from None
    assert_nothing_left(process.pid)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def start(*command: object, **options: Any) -> subprocess.Popen[str]:
    """Start ``python *command`` as the leader of a process group of its own."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        text=True,
        start_new_session=True,
        env=environment,
        **options,
    )


def assert_nothing_left(group: int) -> None:
    """Wait until a process group is empty; the last of it may still be on its way out."""
    deadline = time.monotonic() + 30
    while left := _members(group):
        if time.monotonic() > deadline:
            names = [" ".join(process.cmdline()) for process in left]
            kill_group(group)
            raise AssertionError(f"left behind: {names}")
        time.sleep(0.02)


def kill_group(group: int) -> None:
    """Kill all processes of a group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _members(group: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members
