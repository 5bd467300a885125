"""Processes that the fork server starts.

Runs on: the short-lived threads that start workers; the I/O thread asks for exit statuses.
Guarantees: a worker is started as multiprocessing starts its own, from the same preparation data,
so that it finds the script and what that imports.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from multiprocessing import context, popen_fork, reduction, resource_tracker, spawn, util
from typing import Any

from .. import native
from ..wire.contract import BootName
from .server import ForkServer

_STATUS = struct.Struct("=q")


class ServerProcess(context.ForkServerProcess):
    """A ``multiprocessing.Process`` that our own fork server forks."""

    def __init__(self, server: ForkServer, boot_name: BootName, **rest: Any) -> None:
        super().__init__(name=str(boot_name), **rest)
        self._server = server
        self._boot_name = boot_name

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _ServerPopen(process_obj)

    def __reduce__(self) -> tuple[Any, ...]:
        # The worker gets multiprocessing's own class: it must not import this package.
        state = dict(self.__dict__)
        for name in ("_server", "_boot_name"):
            del state[name]
        return context.ForkServerProcess.__new__, (context.ForkServerProcess,), state


def _close_all(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


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

    def __init__(self, process: ServerProcess) -> None:
        self._fds: list[int] = []
        # Whenever any process is started, multiprocessing polls all that there are, on the thread
        # that starts it: meanwhile this one's descriptor must not be closed, or read by another.
        self._reading = native.original("_thread", "allocate_lock")()
        self._closed = False
        super().__init__(process)

    def duplicate_for_child(self, fd: int) -> int:
        """Have the worker inherit ``fd``; its place in the list of those."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process: ServerProcess) -> None:
        preparation = spawn.get_preparation_data(process.name)
        preparation["name"] = process._boot_name
        data = io.BytesIO()
        context.set_spawning_popen(self)  # type: ignore[arg-type]  # it acts as one of theirs
        try:
            reduction.dump(preparation, data)
            reduction.dump(process, data)
        finally:
            context.set_spawning_popen(None)
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self.sentinel, status = os.pipe()
            ours.callback(os.close, self.sentinel)
            theirs.callback(os.close, status)
            preparation_read, write = os.pipe()
            theirs.callback(os.close, preparation_read)
            pipe = ours.enter_context(open(write, "wb"))
            # The worker's multiprocessing.parent_process() lives as long as this copy is open.
            alive = os.dup(write)
            ours.callback(os.close, alive)
            # One tracker for the whole family: a worker's own would unlink its parent's segments.
            tracker: int = resource_tracker.getfd()  # type: ignore[assignment]  # it runs by now
            process._server.request([preparation_read, status, tracker, *self._fds])
            theirs.close()
            pipe.write(data.getbuffer())
            pipe.close()
            pid = self._read_status()
            if pid is None:
                raise OSError("the fork server ended before it started a worker")
            ours.pop_all()
        self.finalizer = util.Finalize(self, _close_all, (alive, self.sentinel))
        self.pid = pid

    def _read_status(self) -> int | None:
        data = os.read(self.sentinel, _STATUS.size)
        return _STATUS.unpack(data)[0] if len(data) == _STATUS.size else None

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit status, if there is one; waits for it unless ``flag`` says not to."""
        poller = native.original("select", "poll")()
        poller.register(self.sentinel, 1)
        if flag != os.WNOHANG and self.returncode is None:
            poller.poll()
        with self._reading:
            if self.returncode is None and not self._closed and poller.poll(0):
                status = self._read_status()
                # The server itself died: its workers' fates are unknown, 255 as multiprocessing's.
                self.returncode = 255 if status is None else status
        return self.returncode

    def close(self) -> None:
        """Let go of the descriptors."""
        with self._reading:
            self._closed = True
            super().close()
