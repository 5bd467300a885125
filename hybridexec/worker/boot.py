"""The first of our code that runs in a new process: patches it before anything else is imported, if
its lane needs that.

Thread: main, before the user's ``__main__`` is imported. (A worker of the fork server has been
patched there.)
Guarantees: whatever goes wrong before the worker is ready reaches the parent as a Failed message.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import spawn
from types import TracebackType

from .. import base
from ..wire import frames, messages
from . import kinds, script
from .atfork import be_first
from .late import after_import
from .lifeline import hold

# How a number in the boot arguments becomes a descriptor: itself when spawned, a place in the list
# of received descriptors when forked from the fork server, which sets this.
resolve_fd: Callable[[int], int] = int

# Set in the fork server if a module of ``preload`` could not be imported; each worker reports it.
preload_failure: BaseException | None = None


_SIGNALS = {
    "SIGCHLD": signal.SIG_DFL,
    "SIGTERM": signal.SIG_DFL,
    # As Python itself has them when it starts.
    "SIGPIPE": signal.SIG_IGN,
    "SIGXFSZ": signal.SIG_IGN,
}


class InheritedFdNumber:
    """What ``reduction.DupFd`` becomes in a worker of the fork server: a place in its list."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on."""
        return resolve_fd(self._index)


def begin(
    name: str,
    lane: str,
    monkey_patch: bool | Mapping[str, bool],
    preload: tuple[str, ...],
    main_by_value: bool,
    environment: dict[str, str],
    results: int,
    lifeline: int,
) -> str:
    """Make this process a worker to be, and return the name it will have."""
    hold(resolve_fd(lifeline))
    keep_descriptors()
    be_first()
    reset_signals()
    report_failures(resolve_fd(results))
    if preload_failure is not None:
        raise preload_failure
    os.environ.update(environment)
    kinds.patch(lane, monkey_patch)
    base.postpone(after_import)
    script.install()
    import_all(preload)
    if main_by_value:
        # multiprocessing would try to import whatever path it was given: "<stdin>", say.
        spawn._fixup_main_from_name = spawn._fixup_main_from_path = lambda name: None  # type: ignore[attr-defined]  # private
    return name


def keep_descriptors() -> None:
    """Let no program that the user's code starts have what this process was given.

    multiprocessing hands descriptors over in a way that outlives another exec: a program left
    running would hide this process's death, by which its calls know that they are lost.
    """
    with contextlib.suppress(OSError):  # no /dev/fd here
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with contextlib.suppress(OSError):  # the list's own
                    os.set_inheritable(int(name), False)


def reset_signals() -> None:
    """Have signals do here what the library, gevent and subprocess count on, whatever the parent
    ignores, blocks or handles, and leave Ctrl-C to that: the terminal sends it to the whole process
    group.

    A handler that does nothing, unlike SIG_IGN, is not inherited by what the user's code starts.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.set_wakeup_fd(-1)  # a forked one's is the parent's
    # Ends of children are told; terminate_workers() terminates; a broken pipe is an error only.
    for name, action in _SIGNALS.items():
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), action)
    # The parent has blocked SIGINT, so that none could come before there was a handler, and maybe
    # others.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def report_failures(results_fd: int) -> None:
    """Send an uncaught exception to the parent instead of printing it."""

    def report(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        send_failure(results_fd, "start", error)

    sys.excepthook = report


def failure(stage: str, error: BaseException) -> messages.Failed:
    """What tells the parent why this worker will never be ready."""
    return messages.Failed(stage, "".join(traceback.format_exception(error)))


def send_failure(results_fd: int, stage: str, error: BaseException) -> None:
    """Write that, as long as there is no outbox, and a write waits until all is written."""
    with contextlib.suppress(OSError):
        for buffer in frames.encode(failure(stage, error).head):
            os.write(results_fd, buffer)


def import_all(modules: tuple[str, ...]) -> None:
    """Import modules by name."""
    for module in modules:
        importlib.import_module(module)
