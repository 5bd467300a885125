"""The library's own errors, each contrasted with its sibling.

Errors that ProcessPoolExecutor raises too keep the standard library's types and texts and are not
listed here: ``RuntimeError`` for a closed executor, ``CancelledError``, ``TimeoutError`` from
``result(timeout=...)``, and whatever the user's function raised.

This module imports ``concurrent.futures.process``, and with it multiprocessing: it is loaded when
one of these errors is imported or an executor gets its first call, not with ``hybridexec``.
"""

from __future__ import annotations

import signal as signals
from concurrent.futures.process import BrokenProcessPool
from typing import Any


class WorkerLost(BrokenProcessPool):
    """The worker process died before the call was answered; the call may have run.

    The executor itself goes on: the worker is replaced, and calls that had not started run in
    another one. Contrast :class:`ExecutorBroken`, after which no call can run.

    Attributes:
        pid: the dead worker's process id, or None if it is not known.
        exitcode: as ``multiprocessing.Process.exitcode``: negative for a signal, None if unknown.
        in_flight: how many calls were running in that worker when it died.
        calls: the first of those, each in a few words: the function's name and its arguments, or
            ``...`` in place of arguments that were sent as a pickle.
        fault_log: what :mod:`faulthandler` wrote as the worker died: after a segmentation fault,
            say, where in the Python code it happened. Empty if it wrote nothing. It is a note on
            the error too, so that a printed traceback shows it.
        node: the name of the machine that the worker was on; empty if it was this one.
    """

    def __init__(
        self,
        message: str,
        pid: int | None = None,
        exitcode: int | None = None,
        in_flight: int = 0,
        calls: tuple[str, ...] = (),
        fault_log: str = "",
        node: str = "",
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.in_flight = in_flight
        self.calls = calls
        self.fault_log = fault_log
        self.node = node

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed the worker; None if none did, or it is not known."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        try:
            return signals.Signals(-self.exitcode).name
        except ValueError:
            return f"signal {-self.exitcode}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, self.__dict__


class NodeLost(WorkerLost):
    """The machine of the call's worker cannot be reached any more; the call may have run.

    Raised by a ``ClusterExecutor`` only. With ``on_worker_loss="retry"`` calls run again on another
    node, and are not suspected of what has happened. Contrast :class:`WorkerLost` itself, after
    which its node has started another worker.
    """


class ExecutorBroken(BrokenProcessPool):
    """The executor cannot run calls any more; every unfinished one fails with this.

    Raised when an initializer fails, when workers cannot be started or die before they take a call,
    and when ``__main__`` cannot be imported by a worker (a missing ``if __name__ == "__main__"``
    guard, most often). Contrast :class:`WorkerLost`, which ends one worker's calls only.
    """


class CallTimeout(TimeoutError):
    """The call was stopped because its ``options(timeout=...)`` was up.

    Contrast the ``TimeoutError`` of ``future.result(timeout=...)``: there only the wait ended, and
    the call runs on.
    """


class RemoteError(RuntimeError):
    """Stands in for an exception that could not be carried back from the worker.

    Used only if the exception cannot even be rebuilt from its parts, because its class is unknown
    here, say. The text has the original's type and message; the cause has the remote traceback.

    Attributes:
        type_name: the original's type, with its module: ``"package.module.Error"``.
        attributes: the original's attributes that could be carried, including ``args``.
    """

    def __init__(
        self, message: str, type_name: str = "", attributes: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.attributes = {} if attributes is None else attributes

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, self.__dict__
