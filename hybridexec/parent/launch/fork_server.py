"""The parent's end of the fork server: its process, and requests for workers.

Thread: the one that makes the first call launches it; the short-lived ones that start workers make
requests; the I/O thread closes it.
Guarantees: there is no listening socket and no file: the server is reached through a socket pair
that only this process holds. It ends when it is closed, and with this process. Whatever it is
doing, :meth:`ForkServer.dismiss` ends it, and with it every wait for it.

Before it can fork a worker it has to import gevent, or what else its lane needs, which takes long.
So it is launched before anything else is done, and this module imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from collections.abc import Mapping

from ... import native
from .. import lifecycle
from . import interpreter

TYPE_CHECKING = False  # typing's own takes long to import
if TYPE_CHECKING:
    from ...settings import Settings

# Not pathlib: importing that takes longer than all of this module's work.
_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))

#: What a worker needs to import the user's script, which most likely imports the executor.
_FOR_MAIN = ("hybridexec.executor",)

#: The fields of ``sys.flags`` that are set only by an option, or by the environment.
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

#: A request is a number, with descriptors attached. When its worker has ended, the server reports
#: the number and the exit status.
_NUMBER, _REPORT = struct.Struct("=q"), struct.Struct("=qq")

# Imports make no garbage, so the collector is off while they run.
_PROGRAM = (
    "import sys, gc; gc.disable(); sys.path[:] = {path!r}; "
    "from hybridexec.worker.forkserver import main; main{arguments!r}"
)


class ServerEnded(RuntimeError):
    """The fork server ended before it did what it was asked to do."""

    def __init__(self, text: str, server: ForkServer) -> None:
        super().__init__(text)
        self.server = server


class ForkServer:
    """A running fork server."""

    def __init__(
        self,
        lane: str,
        monkey_patch: bool | Mapping[str, bool],
        preload: tuple[str, ...],
        main_by_value: bool,
        settings: Settings | None = None,
    ) -> None:
        """Launch the server, without waiting until it is ready; it accepts requests at once."""
        switches = monkey_patch if isinstance(monkey_patch, bool) else dict(monkey_patch)
        later = () if main_by_value else _FOR_MAIN
        self._owner = os.getpid()
        native.open_standard_descriptors()
        interpreter.refuse_frozen("forkserver")
        self._executable = interpreter.path()
        self._closed = False
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as its:
            # The C socket: under gevent the patched one would need a hub here.
            self._connection, connection = (
                end.detach() for end in socketpair(AF_UNIX, SOCK_STREAM)
            )
            lifecycle.keep(self._connection, ours)
            its.callback(native.close, connection)
            # The kernel ends the server with the last writer; see hybridexec.worker.lifeline.
            lifeline, self._lifeline = os.pipe()
            lifecycle.keep(self._lifeline, ours)
            its.callback(native.close, lifeline)
            arguments = (connection, lifeline, lane, switches, preload, later)
            environment = {} if settings is None else settings.environment
            self._pid = _launch(self._executable, arguments, (connection, lifeline), environment)
            ours.pop_all()
        self._lock = native.original("_thread", "allocate_lock")()
        self._requests = 0
        # Guards the two below: one thread at a time reads what the server tells.
        self._hearing = native.original("_thread", "allocate_lock")()
        self._statuses: dict[int, int] = {}  # exit statuses that nobody has asked for, by request
        self._silent = False  # nothing more will come from it
        # Guards the two below: one thread at a time calls waitpid.
        self._waiting = native.original("_thread", "allocate_lock")()
        self._waited = False
        self._code: int | None = None  # its exit status, if it has ended and the status is known
        #: Whether it has ever started a worker.
        self.answered = False
        #: Whether it was ended because no worker is wanted any more.
        self.dismissed = False

    def request(self, fds: list[int]) -> int:
        """Ask for a worker to be forked, which inherits these descriptors; returns the number of
        the request.

        Raises:
            BrokenPipeError: the server is gone.
        """
        attached = struct.pack(f"{len(fds)}i", *fds)
        with self._lock:
            if self._closed:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            self._requests += 1
            number = self._requests
            connection = socket(AF_UNIX, SOCK_STREAM, 0, self._connection)
            try:
                connection.sendmsg([_NUMBER.pack(number)], [(SOL_SOCKET, SCM_RIGHTS, attached)])
            except ConnectionResetError:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            finally:
                connection.detach()
        return number

    def status(self, request: int) -> tuple[int | None, bool]:
        """The exit status of the worker that was forked for a request, told only once, if the
        server has reported it; and whether it will not report any more."""
        if self.foreign:
            return None, False
        with self._hearing:
            self._hear()
            return self._statuses.pop(request, None), self._silent

    def _hear(self) -> None:
        poller = native.original("select", "poll")()
        poller.register(self._connection, native.Poller.READABLE)
        while not self._silent and poller.poll(0):
            try:
                data = os.read(self._connection, _REPORT.size * 256)
            except ConnectionError:  # it has ended, and not read all requests
                data = b""
            self._silent = not data
            self._statuses.update(_REPORT.iter_unpack(data))

    def wait(self, seconds: float = 2.0) -> bool:
        """Whether the server has ended, or ends within ``seconds``: a process's descriptors are
        closed a moment before it has ended."""
        sleep = native.sleep
        while not (ended := self._has_ended()) and seconds > 0:
            sleep(0.001)
            seconds -= 0.001
        return ended

    def ended(self) -> ServerEnded:
        """The error that says that the server has ended, and how."""
        self.wait()
        from .exit_errors import describe_exit  # it was loaded long ago

        how = describe_exit(self._code)
        if self.answered:
            return ServerEnded(f"the fork server ended ({how})", self)
        return ServerEnded(
            f"the fork server ended ({how}) before it had started a worker; look for its own "
            f"messages on stderr. {interpreter.if_none(self._executable)}",
            self,
        )

    def dismiss(self) -> None:
        """Kill the server, and so end the waits for it: no worker is wanted any more."""
        self.dismissed = True
        self._kill()

    def _kill(self) -> None:
        with self._waiting:
            if not self.foreign and not self._reap(os.WNOHANG):
                os.kill(self._pid, signal.SIGKILL)

    def _has_ended(self) -> bool:
        with self._waiting:
            return self._reap(os.WNOHANG)

    def _reap(self, options: int) -> bool:
        if not self._waited:
            try:
                pid, status = native.original("os", "waitpid")(self._pid, options)
            except ChildProcessError:  # a hub in this process reaps every child, or the system
                self._waited = True
            else:
                if pid:
                    self._waited = True
                    self._code = os.waitstatus_to_exitcode(status)
        return self._waited

    @property
    def foreign(self) -> bool:
        """Whether the server belongs to another process, from which this one was forked."""
        return os.getpid() != self._owner

    def close(self) -> None:
        """End the server, whose workers have ended; does nothing in a forked process."""
        if self.foreign:
            return
        self._kill()  # it may not be watching its lifeline yet
        with self._lock, self._hearing:
            self._hear()
            self._closed = self._silent = True
            lifecycle.close(self._connection, self._lifeline)
        with self._waiting:
            self._reap(0)


def _launch(
    executable: str,
    arguments: tuple[object, ...],
    fds: tuple[int, ...],
    environment: Mapping[str, str],
) -> int:
    """Start the server's process, which inherits ``fds``, and has ``environment`` in its own;
    returns its pid."""
    program = _PROGRAM.format(path=[*interpreter.search_path(), _ROOT], arguments=arguments)
    # Not subprocess.Popen: gevent's needs a hub, and what it leaves of the original does not work.
    # Nor gevent's posix_spawn, which refuses in any thread but the main one.
    pid: int = native.original("os", "posix_spawn")(
        executable,
        [executable, *_options(), "-c", program],
        {**os.environ, **environment},
        # Duplicated to itself, a descriptor is not closed.
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds],
        # Ctrl-C is blocked until the new process can ignore it.
        setsigmask={signal.SIGINT},
    )
    return pid


def _options() -> list[str]:
    """The interpreter's options that make another one behave as this one does."""
    if not (sys.warnoptions or sys._xoptions or any(getattr(sys.flags, name) for name in _FLAGS)):
        return []  # without importing subprocess, which takes long
    import subprocess

    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # private
    return options
