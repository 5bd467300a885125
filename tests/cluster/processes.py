"""Processes of a test's cluster: they end when the test run does, and are found by a mark that all
that they start inherits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

#: Seconds after which something that should have happened has not.
PATIENCE = 30.0
#: In the environment of each process, with what it belongs to.
MARK = "HYBRIDEXEC_TEST_MARK"

#: Runs a command that is killed when this process ends, however that comes.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def wait_until(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """Return ``condition()`` as soon as it is true; fail the test if it never is."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {patience} s: {what or condition}")
        time.sleep(0.02)
    return value


def start(
    mark: str, command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process with that mark, which writes to ``log``, and ends when this process does."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*_WITH_US, *command],
            cwd=folder,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def marked(mark: str) -> list[psutil.Process]:
    """The processes that run, and were started with that mark, or by one that was."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def name(process: psutil.Process) -> str:
    """Which it is, for a message."""
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[-120:]}"
    return f"{process.pid} (ended)"


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to all that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def is_alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def inherited_environment() -> dict[str, str]:
    """This process's environment, without what would lead Dask or imports astray."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DASK_", "PYTHONPATH", "PYTEST_", "COV_"))
    }
