"""Processes that the fork server starts; and how those that multiprocessing starts are watched.

Thread: the short-lived ones that start workers; the I/O thread asks for exit statuses.
Guarantees: a worker is started from the same preparation data as multiprocessing's own processes,
so that it finds the script and what that imports. A worker is not taken for dead because the server
has ended.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
from collections.abc import Callable, Iterator
from multiprocessing import context, popen_fork, process, reduction, resource_tracker, spawn, util
from typing import Any

from ... import native
from ...wire.contract import BootName
from .fork_server import ForkServer

_PID = struct.Struct("=q")
#: multiprocessing's exit status for a process whose own it cannot know.
_UNKNOWN = 255
#: How soon after the process has ended, in seconds, the server may have told the exit status.
_STATUS_SECONDS = 0.001
#: How often, in milliseconds, a thread that waits for the server checks for other work.
_LOOK_MS = 50
_READABLE, _WRITABLE = native.Poller.READABLE, native.Poller.WRITABLE


class StartPostponed(Exception):
    """The server was slow, and the thread that waited for it has other work to do first."""


class ServerProcess(context.ForkServerProcess):
    """A ``multiprocessing.Process`` that our own fork server forks.

    ``start()`` only prepares that, without waiting for the server; :meth:`begin` does it.
    """

    _popen: Any

    def __init__(self, server: ForkServer, boot_name: BootName, **rest: Any) -> None:
        super().__init__(name=str(boot_name), **rest)
        self._server = server
        self._boot_name = boot_name

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _ServerPopen(process_obj)

    def begin(self, pressed: Callable[[], bool] | None = None) -> None:
        """Have the process forked, and return when it has been.

        Args:
            pressed: whether this thread has other work to do now; None if it never has.

        Raises:
            ServerEnded: the server ended before it forked the process.
            OSError: the server cannot fork it.
            StartPostponed: the thread was pressed meanwhile, so there is no process.
        """
        try:
            self._popen.begin(self._server, pressed)
        except BaseException:
            self.abandon()
            raise
        self._sentinel = self._popen.sentinel

    def abandon(self) -> None:
        """Give up the process before it was forked."""
        children: set[Any] = process._children  # type: ignore[attr-defined]  # private
        children.discard(self)
        self._popen.abandon()

    @property
    def status_unknown(self) -> bool:
        """Whether the exit status stays unknown, because the server ended before the process."""
        return bool(self._popen.orphaned)

    @property
    def own_sentinel(self) -> bool:
        """Whether the sentinel becomes readable only when the process has ended, not when the
        server has."""
        return bool(self._popen.own_sentinel)

    def __reduce__(self) -> tuple[Any, ...]:
        # The worker gets multiprocessing's own class: it must not import this package.
        state = dict(self.__dict__)
        for name in ("_server", "_boot_name"):
            del state[name]
        return context.ForkServerProcess.__new__, (context.ForkServerProcess,), state


@contextlib.contextmanager
def daemons_may() -> Iterator[None]:
    """Let a daemonic process start a :class:`ServerProcess`, which is not one itself.

    multiprocessing forbids it, because a daemonic process that is terminated would leave its
    children behind. Ours end with it, however it does: by the lifeline.
    """
    config: dict[str, Any] = process.current_process()._config  # type: ignore[attr-defined]  # private
    daemon = config.pop("daemon", None)
    try:
        yield
    finally:
        if daemon is not None:
            config["daemon"] = daemon


def watch_by_pidfd(process: Any) -> bool:
    """Have a process that multiprocessing has started be watched by a pidfd, if that can be had.
    Its own pipes become readable before there is an exit status, and are two. (Of these, the worker
    has no need either.)"""
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # it is Linux's own; a sandbox forbids it; it was reaped
        return False
    popen = process._popen
    pipes = popen.finalizer._args
    popen.finalizer.cancel()
    _close_all(*pipes)
    popen.finalizer = util.Finalize(popen, _close_all, (pidfd,))
    process._sentinel = popen.sentinel = pidfd
    return True


def _close_all(*fds: int) -> None:
    for fd in fds:
        native.close(fd)


class _InheritedIndex:
    """A descriptor's place among those the fork server hands to the worker."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (
            "__import__('hybridexec.worker.boot', fromlist=['InheritedFdNumber'])"
            f".InheritedFdNumber({self.index})",
        )


class _ServerPopen(popen_fork.Popen):
    method = "forkserver"
    DupFd = _InheritedIndex
    pid: int | None  # type: ignore[assignment]  # None until there is a process

    def __init__(self, process: ServerProcess) -> None:
        self.pid = None
        #: Whether the server has ended before the process.
        self.orphaned = False
        #: Whether the sentinel is a pidfd. Until then, or without one, it is the pipe that tells
        #: the pid; the server holds its other end for as long as there is a process.
        self.own_sentinel = False
        self._fds: list[int] = []
        # Whenever any process is started, multiprocessing polls all processes, on the thread that
        # starts it: meanwhile this one's descriptors must not be closed.
        self._reading = native.original("_thread", "allocate_lock")()
        self._closed = False
        super().__init__(process)

    def duplicate_for_child(self, fd: int) -> int:
        """Have the worker inherit ``fd``; returns its index among the inherited descriptors."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process: ServerProcess) -> None:
        preparation = spawn.get_preparation_data(process.name)
        preparation["name"] = process._boot_name
        self._data = io.BytesIO()
        context.set_spawning_popen(self)  # type: ignore[arg-type]  # it acts as one of theirs
        try:
            reduction.dump(preparation, self._data)
            reduction.dump(process, self._data)
        finally:
            context.set_spawning_popen(None)
        # One tracker for all: a worker's own would unlink its parent's shared memory.
        self._tracker: int = resource_tracker.getfd()  # type: ignore[assignment]  # it runs by now
        self.sentinel, self._other = os.pipe()
        self._replace_finalizer(self.sentinel, self._other)

    def begin(self, server: ForkServer, pressed: Callable[[], bool] | None) -> None:
        """See :meth:`ServerProcess.begin`."""
        self._server = server
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            read, write = os.pipe()
            theirs.callback(native.close, read)
            pipe = ours.enter_context(open(write, "wb", buffering=0))
            os.set_blocking(write, pressed is None)
            # If the server has ended or cannot fork, its answer says so, or there is no answer.
            with contextlib.suppress(BrokenPipeError):
                try:
                    self._number = server.request([read, self._other, self._tracker, *self._fds])
                finally:
                    theirs.close()
                    self._close_other()
                # The views are released here: an error's traceback would keep them alive, and the
                # collector may finalize the data first.
                with self._data.getbuffer() as data:
                    sent = 0
                    while sent < len(data):
                        _wait(write, _WRITABLE, pressed)
                        with data[sent:] as left:
                            sent += pipe.write(left)
        _wait(self.sentinel, _READABLE, pressed)
        answer = os.read(self.sentinel, _PID.size)
        if answer:
            (number,) = _PID.unpack(answer)
        elif server.wait():
            raise server.ended()
        else:
            number = -errno.EMFILE
        if number < 0:
            text = f"the fork server cannot fork a worker: {os.strerror(-number)}"
            raise OSError(-number, text)
        server.answered = True
        del self._data
        with self._reading:
            with contextlib.suppress(AttributeError, OSError):  # it is Linux's own; a sandbox
                pidfd = os.pidfd_open(number)
                native.close(self.sentinel)
                self._replace_finalizer(pidfd)
                self.sentinel = pidfd
                self.own_sentinel = True
            self.pid = number

    def _close_other(self) -> None:
        """Close our copy of the pipe's other end; the server has one."""
        native.close(self._other)
        self._replace_finalizer(self.sentinel)

    def _replace_finalizer(self, *fds: int) -> None:
        if self.finalizer is not None:
            self.finalizer.cancel()
        self.finalizer = util.Finalize(self, _close_all, fds)

    def abandon(self) -> None:
        """See :meth:`ServerProcess.abandon`."""
        with self._reading:
            self._closed = True
            super().close()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit status; None if there is none yet and ``flag`` says not to wait for it."""
        while self.returncode is None and self.pid is not None:
            with self._reading:
                if not self._closed:
                    self._look()
            if flag == os.WNOHANG:
                break
            if self.returncode is None:
                _is_ready(self.sentinel, milliseconds=None)
                native.sleep(_STATUS_SECONDS)
        return self.returncode

    def _look(self) -> None:
        code, ended = self._server.status(self._number)
        if code is not None:
            self.returncode = code
        elif ended and self.returncode is None:
            self.orphaned = True
            if _is_ready(self.sentinel):
                self.returncode = _UNKNOWN

    def close(self) -> None:
        """Close the descriptors."""
        with self._reading:
            self._closed = True
            super().close()


def _wait(fd: int, event: int, pressed: Callable[[], bool] | None) -> None:
    """Wait for ``fd`` if this thread may be pressed; if not, the next read or write waits."""
    while pressed is not None and not _is_ready(fd, event, _LOOK_MS):
        if pressed():
            raise StartPostponed


def _is_ready(fd: int, event: int = _READABLE, milliseconds: int | None = 0) -> bool:
    """Whether a descriptor is ready; waits up to so many milliseconds, None for ever."""
    poller = native.original("select", "poll")()
    poller.register(fd, event)
    return bool(poller.poll(milliseconds))
