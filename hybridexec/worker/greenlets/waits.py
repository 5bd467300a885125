"""Waits for child processes, and runs shell commands, without blocking the hub.

Thread: any thread or greenlet; threads without a hub block as usual.
Guarantees: what the functions of ``os`` return and raise is unchanged. A call that is stopped while
it waits has collected no status that another would miss.

gevent makes ``os.waitpid`` cooperative for children that its own functions have started, and for no
others. multiprocessing joins its processes by ``os.waitpid``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import gevent.os
from gevent._hub_local import get_hub_if_exists
from gevent._hub_primitives import wait_read
from gevent.hub import get_hub
from gevent.monkey import is_module_patched

from ... import native
from . import children

_Found = TypeVar("_Found")

_waitid: Any = getattr(os, "waitid", None)
_wait4 = os.wait4


_installed = False


def install() -> None:
    """Mend how gevent waits for children, and put the functions of this module into ``os`` if it
    has patched that; a second time changes nothing."""
    global _installed
    if _installed:
        return
    _installed = True
    children.install()
    if not is_module_patched("os"):
        return
    for function in (waitpid, wait, wait3, wait4, waitid, system):
        if hasattr(os, function.__name__):
            setattr(os, function.__name__, function)
    gevent.os.waitpid = waitpid
    # gevent keeps the user's handler of SIGCHLD to itself because libev has its own.
    if is_module_patched("signal"):
        for name in ("signal", "getsignal", "set_wakeup_fd"):
            setattr(signal, name, native.original("signal", name))


def waitpid(pid: int, options: int, /) -> tuple[int, int]:
    """``os.waitpid``."""
    return wait4(pid, options)[:2]


def wait() -> tuple[int, int]:
    """``os.wait``."""
    return wait4(-1, 0)[:2]


def wait3(options: int) -> tuple[int, int, Any]:
    """``os.wait3``."""
    return wait4(-1, options)


def wait4(pid: int, options: int) -> tuple[int, int, Any]:
    """``os.wait4``."""
    if options & os.WNOHANG:
        return children.look(pid, options)
    if get_hub_if_exists() is None:
        return _block(pid, options)

    def look() -> tuple[int, int, Any] | None:
        found = children.look(pid, options)
        return found if found[0] else None

    return _until(look, pid if options == 0 else 0)


def _block(pid: int, options: int) -> tuple[int, int, Any]:
    """Wait in a thread without a hub."""
    found = children.look(pid, options)
    if found[0]:
        return found
    try:
        found = _wait4(pid, options)
    except ChildProcessError:  # another thread has been quicker
        return children.look(pid, options)
    children.collected(*found, alone=pid > 0)
    return found


def waitid(idtype: int, id: int, options: int, /) -> os.waitid_result | None:
    """``os.waitid``."""

    def look() -> os.waitid_result | None:
        return _look_for(idtype, id, options)

    if options & os.WNOHANG:
        return look()
    if get_hub_if_exists() is None:
        return look() or _waitid(idtype, id, options)
    if idtype == getattr(os, "P_PIDFD", None):
        found = look()
        if found is None and not options & (os.WSTOPPED | os.WCONTINUED):
            wait_read(id)
        return found or _until(look, 0)
    alone = idtype == os.P_PID and not options & (os.WSTOPPED | os.WCONTINUED)
    return _until(look, id if alone else 0)


def _look_for(idtype: int, id: int, options: int) -> os.waitid_result | None:
    end = None
    try:
        if (
            idtype == os.P_ALL
            and options & os.WEXITED
            and (end := children.claimable()) is not None
        ):
            raise ChildProcessError
        found: os.waitid_result | None = _waitid(idtype, id, options | os.WNOHANG)
    except ChildProcessError:
        if idtype == os.P_PID and (known := children.known(id)) is not None:
            end = (id, known)
        if end is None:
            raise
        if not options & os.WNOWAIT:
            children.forget(end[0])
        return _result(end[0], end[1].status)
    status = None if found is None else children.status_of(found)
    if found is not None and status is not None and not options & os.WNOWAIT:
        children.collected(found.si_pid, status, _no_usage(), alone=idtype == os.P_PID)
    return found


def _no_usage() -> Any:
    import resource  # few need it

    return resource.struct_rusage([0] * resource.struct_rusage.n_sequence_fields)


def _result(pid: int, status: int) -> os.waitid_result:
    if os.WIFEXITED(status):
        code, value = os.CLD_EXITED, os.WEXITSTATUS(status)
    else:
        code = os.CLD_DUMPED if os.WCOREDUMP(status) else os.CLD_KILLED
        value = os.WTERMSIG(status)
    return os.waitid_result((pid, os.getuid(), signal.SIGCHLD, value, code))


def _until(look: Callable[[], _Found | None], pid: int) -> _Found:
    """Wait until ``look`` finds something: at the end of the child ``pid``, if it is one."""
    pause = children.FIRST_PAUSE
    while True:
        found = look()
        if found is not None:
            return found
        watcher = children.watcher_of(pid) if pid > 0 else None
        if watcher is None:
            gevent.sleep(pause)
            pause = min(2 * pause, children.LAST_PAUSE)
            continue
        try:
            get_hub().wait(watcher)
        finally:
            watcher.close()


def system(command: Any) -> int:
    """``os.system``. As there, the command is killed if the wait for it is cut short."""
    sys.audit("os.system", command)
    shell = "/system/bin/sh" if hasattr(sys, "getandroidapilevel") else "/bin/sh"
    pid = os.posix_spawn(shell, [b"sh", b"-c", os.fsencode(command)], os.environ)
    try:
        return waitpid(pid, 0)[1]
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        _block(pid, 0)
        raise
