"""The errors that tell what became of a worker."""

from __future__ import annotations

import signal

from ..errors import ExecutorBroken, WorkerLost
from .outcome import remote_traceback


def lost(pid: int | None, code: int | None, running: int, goes_on: bool) -> WorkerLost:
    """For the calls of a worker that died with exit status ``code`` while it ran ``running``."""
    how = describe_exit(code)
    others = f" and {running - 1} others" if running > 1 else ""
    end = ", the executor goes on" if goes_on else ""
    return WorkerLost(
        f"worker process {pid} died ({how}) while it was running this call{others}; "
        f"the call may have run{end}",
        pid,
        code,
        running,
    )


def never_ready(pid: int | None, code: int | None) -> ExecutorBroken:
    """For workers that die, without a word, before they are ready."""
    return ExecutorBroken(
        f"worker processes die before they are ready; the last, {pid}, ended with: "
        f"{describe_exit(code)}. Look for its own messages on stderr"
    )


def not_started(error: BaseException) -> ExecutorBroken:
    """For a process that could not be started."""
    broken = ExecutorBroken(
        f"a worker process could not be started: {type(error).__name__}: {error}"
    )
    broken.__cause__ = error
    return broken


def failed(pid: int | None, stage: str, trace: str) -> ExecutorBroken:
    """For a worker that said why it cannot get ready."""
    last = trace.strip().splitlines()[-1]
    if stage == "initializer":
        text = f"the initializer failed in worker process {pid}: {last}"
    else:
        text = f"worker process {pid} could not be made ready: {last}"
    broken = ExecutorBroken(text)
    broken.__cause__ = remote_traceback(trace)
    return broken


def describe_exit(code: int | None) -> str:
    """An exit status in words."""
    if code is None:
        return "how is unknown"
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
