"""Start a worker process by any of multiprocessing's start methods.

Runs on: a short-lived thread per start, so that a slow one holds nobody up; for ``fork``, the
thread that wants the worker.
Guarantees: a worker is patched before it imports the user's ``__main__`` (not with ``fork``, where
that has happened already); what failed to start leaves nothing behind.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import context, reduction, resource_tracker
from typing import Any, NamedTuple

from .. import native
from ..wire.contract import Boot, BootName, InheritedFd, WorkerStart
from ..wire.page import StatusPage, create_fd
from ..wire.shared import Channel, open_channel
from . import exits
from .forkserver import ForkServer, ServerProcess

_WORKER_NAME = "HybridWorker-"


class Started(NamedTuple):
    """A process that was started, and the parent's ends of what connects to it."""

    process: Any
    calls_fd: int
    results_fd: int
    page: StatusPage
    #: The page's own descriptor, to read the fault log through.
    log_fd: int
    channel: Channel


def main_travels_by_value() -> bool:
    """Whether no worker can import this process's ``__main__`` (REPL, notebook, ``python -``)."""
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # multiprocessing does not import a __main__.py of a package, folder or zip file either.
        return bool(name == "__main__" or name.endswith(".__main__"))
    path: str | None = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        return True
    return os.path.splitext(os.path.basename(path))[0] == "ipython"


def start_method(mp_context: Any, initargs: tuple[Any, ...]) -> str:
    """The start method to use: ``mp_context``'s, else our fork server.

    A lock or queue of the default context can be inherited by forked processes only, where that
    context forks. ProcessPoolExecutor would fork too, so such ``initargs`` make us do the same.
    """
    if mp_context is not None:
        method: str = mp_context.get_start_method()
        return method
    if initargs and multiprocessing.get_start_method() == "fork" and _need_fork(initargs):
        return "fork"
    return "forkserver"


def _need_fork(initargs: tuple[Any, ...]) -> bool:
    context.set_spawning_popen(_Rehearsal())  # type: ignore[arg-type]
    try:
        reduction.ForkingPickler(io.BytesIO(), 5).dump(initargs)
    except RuntimeError as error:
        return "fork context" in str(error)
    except Exception:
        return False  # starting a worker will fail, and say so
    finally:
        context.set_spawning_popen(None)
    return False


class _Rehearsal:
    """Stands where a Popen would, so that locks let themselves be pickled."""

    DupFd = int

    @staticmethod
    def duplicate_for_child(fd: int) -> int:
        """Nothing is duplicated in a rehearsal."""
        return fd


# One at a time in the whole process: multiprocessing's own locks are gevent's in a patched one, and
# native threads that met there were never seen again.
_one_start = native.original("_thread", "allocate_lock")()


def _after_fork_in_child() -> None:
    global _one_start
    _one_start = native.original("_thread", "allocate_lock")()  # it may have been held


os.register_at_fork(after_in_child=_after_fork_in_child)


class Launcher:
    """Starts workers that are all alike."""

    def __init__(
        self,
        method: str,
        boot: Boot,
        slots: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        self.method = method
        self._boot = boot
        self._slots = slots
        self._initializer = initializer
        self._initargs = initargs
        self._main_file = getattr(sys.modules.get("__main__"), "__file__", None)
        self._server: ForkServer | None = None
        # Both ends of a pipe that ends with this process, and every worker with it; see
        # hybridexec.worker.lifeline.
        self._lifeline: tuple[int, int] | None = None

    def start(self, number: int) -> Started:
        """Start worker ``number``; returns when its process exists, not when it is ready.

        Raises:
            Exception: whatever kept it from starting; initargs that cannot be pickled, say.
        """
        with _one_start:
            return self._start(number)

    def _start(self, number: int) -> Started:
        calls_read, calls_write = os.pipe()
        results_read, results_write = os.pipe()
        status_fd = create_fd(self._slots)
        channel, channel_other = open_channel()
        exits.keep_from_children(calls_write, results_read)
        lifeline_fd = self._lifeline_end()
        if self.method != "fork":
            resource_tracker.ensure_running()  # starting it would undo the mask below
        # What this thread starts inherits its mask: no Ctrl-C before the new process can ignore it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = InheritedFd(results_write)
            lifeline = InheritedFd(lifeline_fd)
            start = WorkerStart(
                boot=self._boot,
                calls=InheritedFd(calls_read),
                results=results,
                status=InheritedFd(status_fd),
                channel=InheritedFd(channel_other),
                lifeline=lifeline,
                concurrency=self._slots,
                initializer=self._initializer,
                initargs=self._initargs,
            )
            name = BootName(f"{_WORKER_NAME}{number}", self._boot, results, lifeline)
            process = self._started_process(start, name)
            page = StatusPage(status_fd, self._slots)
            log_fd = os.dup(status_fd)
        except BaseException:
            exits.close(calls_write, results_read)
            channel.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for fd in (calls_read, results_write, status_fd, channel_other, lifeline_fd):
                os.close(fd)
        os.set_blocking(calls_write, False)
        os.set_blocking(results_read, False)
        exits.keep_from_children(log_fd)
        return Started(process, calls_write, results_read, page, log_fd, channel)

    def _lifeline_end(self) -> int:
        """A copy of the lifeline's read end, for a process to inherit."""
        if self._lifeline is None:
            self._lifeline = os.pipe()
            exits.keep_from_children(*self._lifeline)
        return os.dup(self._lifeline[0])

    def _process(self, start: WorkerStart, name: BootName) -> Any:
        if self.method != "forkserver":
            boot_name = name if self.method == "spawn" else str(name)
            chosen: Any = multiprocessing.get_context(self.method)
            return chosen.Process(target=start, name=boot_name)
        if self._server is None:
            assert self._lifeline is not None
            self._server = ForkServer(self._boot, self._lifeline[0])
        return ServerProcess(self._server, name, target=start)

    def _started_process(self, start: WorkerStart, name: BootName) -> Any:
        """Start a process that finds the script though its last line has run: Python forgets the
        script's path then, while calls it waits for at exit may still need new workers."""
        main: Any = sys.modules.get("__main__")
        while True:
            if self._main_file is not None and not hasattr(main, "__file__"):
                main.__file__ = self._main_file
            process = self._process(start, name)
            process.start()
            if self._main_file is None or hasattr(main, "__file__"):
                return process
            # The path went while the process was being started, which may not have got it.
            process.kill()
            process.join()
            process.close()

    def become_inert(self) -> None:
        """Start no more; this process is a fork, and its copies of the descriptors are closed."""
        if self._server is not None:
            self._server.become_inert()
        # multiprocessing would try to join them when this process exits, and fail.
        children: set[Any] = multiprocessing.process._children  # type: ignore[attr-defined]
        children.difference_update(
            [child for child in children if child.name.startswith(_WORKER_NAME)]
        )

    def close(self) -> None:
        """End what was started to start workers; the workers have ended."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._lifeline is not None:
            exits.close(*self._lifeline)
            self._lifeline = None
