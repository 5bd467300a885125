"""The errors that tell what became of a worker."""

from __future__ import annotations

import errno
import signal
from typing import NamedTuple

from ...errors import ExecutorBroken, WorkerLost
from ...process import Process, on_node
from ...wire.wording import INSTALL
from ..work.decode import THIS_CALL, remote_traceback
from . import interpreter

#: What to do about errors of the system, by their numbers.
_REMEDIES: dict[int | None, str] = {
    errno.EMFILE: "raise the limit of open files of the process that starts workers: ulimit -n",
    errno.ENFILE: "raise the system's limit of open files: fs.file-max",
    errno.ENOMEM: "use fewer workers, or give the machine more memory",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, or pids.max of its cgroup), or give it "
    "more memory",
}


class Death(NamedTuple):
    """How a worker's process has ended."""

    pid: int | None
    #: Its exit status; None if it is not known.
    code: int | None
    #: What faulthandler wrote.
    fault_log: str = ""
    #: Whether we sent the signal that killed it.
    by_us: bool = False
    #: Whether the fork server, which would have been told the status, ended before it.
    server_ended: bool = False


def lost(
    death: Death, running: int, calls: tuple[str, ...], *, goes_on: bool, node: str = ""
) -> WorkerLost:
    """For the calls of a worker that died while it ran ``running``.

    It is made once; each call gets a copy that names it (see :func:`outcome.decode`).

    Args:
        calls: the first of those it ran, in words.
        goes_on: whether the executor does.
        node: the name of its machine; empty if it is this one.
    """
    how = describe_exit(death.code)
    if death.server_ended:
        how += ": the fork server ended before it"
    if death.code == -signal.SIGKILL and not death.by_us:
        how += ", by the system if memory ran out"
    others = f", and {running - 1} other{'s' * (running > 2)}" if running > 1 else ""
    end = ", the executor goes on" if goes_on else ""
    text = (
        f"{Process(death.pid, node)} died ({how}) while it was running {THIS_CALL}{others}; "
        f"the call may have run{end}"
    )
    if running > 1 and calls:
        more = f" and {running - len(calls)} more" if running > len(calls) else ""
        text += f". It was running: {', '.join(calls)}{more}"
    error = WorkerLost(text, death.pid, death.code, running, calls, death.fault_log, node)
    _add_fault_log(error, death.fault_log)
    return error


def never_ready(death: Death, executable: str = "", node: str = "") -> ExecutorBroken:
    """For workers that die, without a word, before they have done anything.

    Args:
        executable: what was run to start them, if anything was.
        node: as for :func:`lost`.
    """
    code = death.code
    text = (
        f"worker processes{on_node(node)} die before they have taken a call; the last, "
        f"{death.pid}, ended with: {describe_exit(code)}. Look for its own messages on stderr"
    )
    if executable and code is not None and code >= 0:
        text += f". {interpreter.if_none(executable)}"
    broken = ExecutorBroken(text)
    _add_fault_log(broken, death.fault_log)
    return broken


def _add_fault_log(error: BaseException, fault_log: str) -> None:
    if fault_log:
        error.add_note(f"What faulthandler wrote in the worker:\n{fault_log}")


def refusal(error: BaseException) -> str:
    """Why a process could not be started, and what to do about it, in words."""
    remedy = _REMEDIES.get(error.errno) if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {error}" + (f" ({remedy})" if remedy else "")


def not_started(error: BaseException, executable: str) -> ExecutorBroken:
    """For a process that could not be started; ``executable`` as for :func:`never_ready`."""
    text = f"a worker process could not be started: {refusal(error)}"
    if executable and isinstance(error, BrokenPipeError):  # it ended before it had read its task
        text += f". {interpreter.if_none(executable)}"
    broken = ExecutorBroken(text)
    broken.__cause__ = error
    return broken


def failed(process: Process, stage: str, trace: str) -> ExecutorBroken:
    """For a worker that said why it cannot get ready."""
    last = trace.strip().splitlines()[-1]
    if stage in ("initializer", "worker_state"):
        text = f"the {stage} failed in {process}: {last}"
    else:
        text = f"{process} could not be made ready: {last}"
    if process.node and last.startswith(ModuleNotFoundError.__name__):
        text += f". {INSTALL}"
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
