"""The fork server: a process that has loaded, and patched, what workers of its lane need, and forks
them on request.

Thread: the only one of a process of its own, one per lane of an executor. It has no gevent hub, so
that it can be forked safely, and no listening socket: its one client holds the other end of a
socket pair.
Guarantees: it ends when its parent does, and its workers with it; each worker's exit status
reaches the parent; a worker that cannot be forked affects no other.

A request is a number with descriptors attached: the pipe with the preparation data, the answer's,
the resource tracker's, then those the worker inherits. The answer is the pid; or, if the worker
cannot be forked, the number of the error, negative. Its pipe stays open until the worker has ended.
The exit status then goes back through the connection, with the request's number. (Otherwise the
protocol is the one that multiprocessing.forkserver speaks on its listening socket.)
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import signal
import struct
import sys
from _socket import AF_UNIX, CMSG_SPACE, MSG_CTRUNC, SOCK_STREAM, socket
from collections.abc import Mapping

from .. import base, native
from . import atfork, late, lifeline, sockets

atfork.be_first()  # the earlier, the quicker

# Modules of which all that is imported here would call few functions, and seldom.
with late.postponed("subprocess", "traceback"), sockets.postponed():
    from multiprocessing import spawn, util

    from . import boot, kinds, preloaded, script

#: How a request's number and the answer are written; and that number with the exit status.
_NUMBER, _REPORT = struct.Struct("=q"), struct.Struct("=qq")
_MAX_FDS = 256
#: By pid: the number of the request, and the answer's pipe.
Workers = dict[int, tuple[int, int]]
#: Modules that the first result does not need, and most programs do; the last, all further workers.
_LATER = ("traceback", "socket", "queue", "logging", "concurrent.futures", f"{__package__}.logs")

# Taken before patching, which does not touch the C module either: the server itself must never get
# a hub.
_fork = os.fork
_waitpid = os.waitpid
_signal = signal.signal


def main(
    connection_fd: int,
    lifeline_fd: int,
    lane: str,
    monkey_patch: bool | Mapping[str, bool],
    preload: tuple[str, ...],
    later: tuple[str, ...],
) -> None:
    """Serve until the parent closes its end of the connection; the collector has been disabled.

    Args:
        later: modules to import when the first worker has been forked, which does not wait for
            them: only all others get them from here.
    """
    lifeline.hold(lifeline_fd)
    _close_others({connection_fd, lifeline_fd})
    connection = socket(AF_UNIX, SOCK_STREAM, 0, connection_fd)
    boot.reset_signals()
    base.postpone(late.after_import)
    script.install()
    try:
        with late.postponed(*kinds.SELDOM_USED.get(lane, ())):
            kinds.patch(lane, monkey_patch, locks_held=False)
            # What a worker would import first, so that it is there when forked.
            from . import main as _main  # noqa: F401  # as said

            kinds.of(lane)
        boot.import_all(preload)
    except BaseException as error:
        boot.preload_failure = error
    if preload:
        boot.reset_signals()  # a module may have set others
        preloaded.write_out()
    _keep_alive()
    workers: Workers = {}
    code = 1
    try:
        _serve(connection, lifeline_fd, workers, [*later, *_LATER])
        # The parent is gone, or done with us: nobody is left to read results. (On Linux those that
        # outlive a parent have been killed by their lifelines, and so has this process.)
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = 0
    except BaseException:  # a fault of ours: the parent launches another, and its workers run on
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _close_others(ours: set[int]) -> None:
    """Close what the parent had made inheritable for others: it would stay open for as long as this
    process lives. (What this process has opened by itself, in sitecustomize say, is not.)"""
    with contextlib.suppress(OSError):  # no /dev/fd here
        for fd in map(int, os.listdir("/dev/fd")):
            with contextlib.suppress(OSError):  # the list's own
                if fd > 2 and fd not in ours and os.get_inheritable(fd):
                    native.close(fd)


def _keep_alive() -> None:
    """Everything alive now stays: keep the collector from touching, and so copying, its pages."""
    gc.freeze()
    gc.enable()


def _serve(connection: socket, lifeline_fd: int, workers: Workers, later: list[str]) -> None:
    poller = native.original("select", "poll")()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    _signal(signal.SIGCHLD, lambda number, frame: None)
    ours = (connection.fileno(), lifeline_fd, wake_read, wake_write)
    poller.register(connection.fileno(), 1)
    poller.register(wake_read, 1)
    while True:
        ready = {fd for fd, _ in poller.poll(0 if later and workers else None)}
        if not ready:
            gc.disable()
            with contextlib.suppress(Exception):  # a worker that needs it will say why it cannot be
                boot.import_all((later.pop(0),))
            _keep_alive()
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(connection, workers)
        if connection.fileno() in ready:
            request = _receive(connection)
            if request is None:
                return
            number, fds = request
            if fds:
                _start(number, fds, ours, workers)


def _receive(connection: socket) -> tuple[int, list[int]] | None:
    """The number and the descriptors of the next request; none of these if they could not be had;
    None if the parent is gone."""
    size = struct.calcsize("i")
    space = CMSG_SPACE(_MAX_FDS * size)
    try:
        message, ancillary, flags, _ = connection.recvmsg(_NUMBER.size, space)
    except ConnectionError:
        return None
    if not message:
        return None
    fds: list[int] = []
    for _, _, data in ancillary:
        fds += struct.unpack(f"{len(data) // size}i", data)
    if flags & MSG_CTRUNC:  # this process has too few descriptors left
        if len(fds) > 1:
            _answer(fds[1], -errno.EMFILE)
        for fd in fds:
            native.close(fd)
        fds = []
    return _NUMBER.unpack(message)[0], fds


def _answer(answer: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(answer, _NUMBER.pack(number))


def _start(number: int, fds: list[int], ours: tuple[int, ...], workers: Workers) -> None:
    preparation, answer, tracker, *inherited = fds
    try:
        pid = _fork()
    except OSError as error:  # too many processes, or no memory
        _answer(answer, -(error.errno or errno.EAGAIN))
        for fd in fds:
            native.close(fd)
        return
    if pid == 0:
        code = 1
        try:
            foreign = [answer, *ours, *(other for _, other in workers.values())]
            code = _be_worker(preparation, tracker, inherited, foreign)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            atexit._run_exitfuncs()
            os._exit(code)
    workers[pid] = number, answer
    for fd in (preparation, tracker, *inherited):
        native.close(fd)
    _answer(answer, pid)


def _be_worker(preparation: int, tracker: int, inherited: list[int], foreign: list[int]) -> int:
    # The exit handlers of a process of its own, as multiprocessing gives to those it forks.
    atexit._clear()
    atexit.register(util._exit_function)  # type: ignore[attr-defined]  # private
    signal.set_wakeup_fd(-1)
    _signal(signal.SIGCHLD, signal.SIG_DFL)
    for fd in foreign:
        native.close(fd)
    # One tracker for the whole family, or this worker's own would unlink its parent's segments.
    late.after_import(
        "multiprocessing.resource_tracker",
        lambda module: setattr(module._resource_tracker, "_fd", tracker),
    )
    boot.resolve_fd = inherited.__getitem__
    kinds.revive_hub()
    preloaded.start_anew()
    return spawn._main(preparation, os.dup(preparation))


def _reap(connection: socket, workers: Workers) -> None:
    while workers:
        try:
            pid, raw = _waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in workers:
            number, answer = workers.pop(pid)
            with contextlib.suppress(OSError):  # the parent is gone
                connection.sendall(_REPORT.pack(number, os.waitstatus_to_exitcode(raw)))
            native.close(answer)
