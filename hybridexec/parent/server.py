"""The parent's end of the fork server: its process, and requests for workers.

Runs on: the thread that makes the first call launches; the short-lived threads that start workers
make requests; the I/O thread closes.
Guarantees: no listening socket, no file: the server is reached through a socket pair that only this
process holds; it ends when it is closed, and with this process.

It needs what gevent takes to be imported before it can fork a worker. So it is launched before
anything else is done, and this module imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from collections.abc import Mapping

from .. import native
from . import exits

# Not pathlib: importing it would take longer than all of this module's work.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

#: What a worker needs to import the user's script, which most likely imports the executor.
_FOR_MAIN = ("pkgutil", "hybridexec.executor")

#: What is true in ``sys.flags`` only if an option, or the environment, says so.
_FLAGS = (
    "debug",
    "dont_write_bytecode",
    "optimize",
    "no_user_site",
    "no_site",
    "ignore_environment",
    "verbose",
    "bytes_warning",
    "quiet",
    "isolated",
    "dev_mode",
    "safe_path",
)

# The collector would find nothing in what importing makes.
_PROGRAM = (
    "import sys, gc; gc.disable(); sys.path[:] = {path!r}; "
    "from hybridexec.worker.forkserver import main; main{arguments!r}"
)


class ForkServer:
    """A running fork server."""

    def __init__(
        self,
        monkey_patch: bool | Mapping[str, bool],
        preload: tuple[str, ...],
        main_by_value: bool,
    ) -> None:
        """Launch it; that it can be reached does not mean that it is ready."""
        switches = monkey_patch if isinstance(monkey_patch, bool) else dict(monkey_patch)
        later = () if main_by_value else _FOR_MAIN
        self._owner = os.getpid()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as its:
            # The C socket: under gevent the patched one would need a hub here.
            self._connection, connection = (
                end.detach() for end in socketpair(AF_UNIX, SOCK_STREAM)
            )
            exits.keep(self._connection, ours)
            its.callback(os.close, connection)
            # The kernel ends the server with the last writer; see hybridexec.worker.lifeline.
            lifeline, self._lifeline = os.pipe()
            exits.keep(self._lifeline, ours)
            its.callback(os.close, lifeline)
            arguments = (connection, lifeline, switches, preload, later)
            self._pid = _launch(arguments, (connection, lifeline))
            ours.pop_all()
        self._lock = native.original("_thread", "allocate_lock")()

    def request(self, fds: list[int]) -> None:
        """Have a worker forked that is given these descriptors.

        Raises:
            OSError: the server is gone.
        """
        attached = struct.pack(f"{len(fds)}i", *fds)
        with self._lock:
            connection = socket(AF_UNIX, SOCK_STREAM, 0, self._connection)
            try:
                connection.sendmsg([b"w"], [(SOL_SOCKET, SCM_RIGHTS, attached)])
            finally:
                connection.detach()

    @property
    def foreign(self) -> bool:
        """Whether it is another process's, from which this one was forked."""
        return os.getpid() != self._owner

    def close(self) -> None:
        """End the server; of no effect in a forked process. Its workers have ended."""
        if self.foreign:
            return
        exits.close(self._connection, self._lifeline)
        try:
            native.original("os", "waitpid")(self._pid, 0)
        except ChildProcessError:
            pass  # a hub in this process reaps every child


def _launch(arguments: tuple[object, ...], fds: tuple[int, ...]) -> int:
    """Start the server's process, which inherits ``fds``; its pid."""
    spawn = sys.modules.get("multiprocessing.spawn")  # it may have been told of another executable
    executable = sys.executable if spawn is None else os.fsdecode(spawn.get_executable())
    path = [entry for entry in sys.path if isinstance(entry, str)]
    program = _PROGRAM.format(path=[*path, _ROOT], arguments=arguments)
    # Not subprocess.Popen: gevent's needs a hub, and what it leaves of the original does not work.
    return os.posix_spawn(
        executable,
        [executable, *_options(), "-c", program],
        os.environ,
        # To itself: it is not closed then.
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds],
        # No Ctrl-C before the new process can ignore it.
        setsigmask={*signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.SIGINT},
    )


def _options() -> list[str]:
    """The interpreter's options that make another one behave as this one does."""
    if not (sys.warnoptions or sys._xoptions or any(getattr(sys.flags, name) for name in _FLAGS)):
        return []  # and so subprocess, which takes long to import, need not be asked
    import subprocess

    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # private
    return options
