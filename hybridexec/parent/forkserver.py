"""The parent's end of the fork server, and processes that are started through it.

Runs on: the short-lived threads that start workers; the I/O thread closes.
Guarantees: no listening socket, no file: the server is reached through a socket pair that only this
process holds, and it ends when that is closed.
"""

from __future__ import annotations

import array
import io
import marshal
import os
import struct
import sys
from multiprocessing import context, popen_fork, reduction, resource_tracker, spawn, util
from typing import Any

from .. import native
from ..wire.contract import Boot, BootName
from . import exits

_STATUS = struct.Struct("=q")
# Not pathlib: importing it would take longer than all of this module's work.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; "
    "from hybridexec.worker.forkserver import main; main({connection}, {config}, {lifeline})"
)


class ForkServer:
    """A running fork server."""

    def __init__(self, boot: Boot, lifeline: int) -> None:
        """
        Args:
            lifeline: the read end of a pipe, which the server inherits; it dies with the pipe.
        """
        # Original classes throughout: under gevent the patched ones would need a hub here.
        socket = native.original("socket", "socket")
        ours, theirs = _socket_pair(socket)
        config_read, config_write = os.pipe()
        try:
            switches = boot.monkey_patch
            config = {
                "monkey_patch": switches if isinstance(switches, bool) else dict(switches),
                "preload": boot.preload,
            }
            os.write(config_write, marshal.dumps(config))
            path = [entry for entry in sys.path if isinstance(entry, str)]
            program = _PROGRAM.format(
                path=[*path, _ROOT],
                connection=theirs.fileno(),
                config=config_read,
                lifeline=lifeline,
            )
            executable = spawn.get_executable()
            arguments = [executable, *util._args_from_interpreter_flags(), "-c", program]  # type: ignore[attr-defined]
            self._pid: int = util.spawnv_passfds(
                os.fsencode(executable), arguments, [theirs.fileno(), config_read, lifeline]
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(config_read)
            os.close(config_write)
        self._connection = ours
        self._lock = native.original("_thread", "allocate_lock")()
        exits.keep_from_children(ours.fileno())

    def request(self, fds: list[int]) -> tuple[int, int]:
        """Have a worker forked: its status pipe's read end, and the preparation data's write end.

        Raises:
            OSError: the server is gone.
        """
        status_read, status_write = os.pipe()
        data_read, data_write = os.pipe()
        # One tracker for the whole family: a worker's own would unlink its parent's segments.
        tracker: int = resource_tracker.getfd()  # type: ignore[assignment]
        attached = array.array("i", [data_read, status_write, tracker, *fds])
        level, kind = _SCM_RIGHTS
        try:
            with self._lock:
                self._connection.sendmsg([b"w"], [(level, kind, attached)])
        except BaseException:
            os.close(status_read)
            os.close(data_write)
            raise
        finally:
            os.close(data_read)
            os.close(status_write)
        return status_read, data_write

    def become_inert(self) -> None:
        """Let go of the connection without closing it; in a forked child, where it is closed."""
        self._connection.detach()

    def close(self) -> None:
        """End the server, and with it whatever it has started."""
        exits.forget(self._connection.fileno())
        self._connection.close()
        try:
            native.original("os", "waitpid")(self._pid, 0)
        except ChildProcessError:
            pass  # a hub in this process reaps every child


def _socket_pair(socket: Any) -> tuple[Any, Any]:
    import _socket

    left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return tuple(socket(fileno=end.detach()) for end in (left, right))


def _scm_rights() -> tuple[int, int]:
    import _socket

    return _socket.SOL_SOCKET, _socket.SCM_RIGHTS


_SCM_RIGHTS = _scm_rights()


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
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            reduction.dump(preparation, data)
            reduction.dump(process, data)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write = process._server.request(self._fds)
        # The worker's multiprocessing.parent_process() lives as long as this copy is open.
        alive = os.dup(write)
        self.finalizer = util.Finalize(self, _close_all, (alive, self.sentinel))
        with open(write, "wb") as pipe:
            pipe.write(data.getbuffer())
        pid = self._read_status()
        if pid is None:
            raise OSError("the fork server ended before it started a worker")
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
