"""Tells everyone who asks which child processes have ended, and how.

Thread: any thread or greenlet; the hub collects the statuses that a ``Popen`` waits for.
Guarantees: a child's status is collected only by a wait for that child or for any, or, after a
while, for a ``Popen`` that nobody has asked; other waits for the same child get it, too; and a
``Popen`` learns of its child's end even where SIGCHLD is blocked or ignored, or the child ended
before the wait began.

gevent waits for children by libev's handler of SIGCHLD, which collects every child of the process,
whoever started it: once a call has run a program, ``multiprocessing`` finds its children gone, and
believes them alive for ever. Here that handler is never installed: the hub watches a descriptor of
each child (a pidfd), and where there is none, it looks now and then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gevent
import gevent.os
from gevent.hub import get_hub

from ... import native
from ..late import after_import

#: Seconds between two looks where nobody tells of a child's end.
FIRST_PAUSE, LAST_PAUSE = 0.0005, 0.02
#: Seconds for which a child that its ``Popen`` was told of waits for somebody to collect it.
_LINGER = 5.0
#: How many ends are kept for those who may ask.
_KEPT = 4096

_wait4 = os.wait4
_waitid: Any = getattr(os, "waitid", None)


class End:
    """How a child has ended."""

    def __init__(self, status: int, usage: Any, unclaimed: bool) -> None:
        self.status = status
        self.usage = usage
        #: Whether it was collected for a ``Popen``, and who waits for any child may be told of it.
        self.unclaimed = unclaimed


# Of children that somebody has collected who may not be the only one to ask, the last ones.
_ends: dict[int, End] = {}
_watches: dict[int, Watch] = {}
# Children that have ended and that nobody has collected since their ``Popen`` was told; what will
# do so in a while. (asyncio, say, asks for such a child itself.)
_dead: dict[int, Any] = {}


def install() -> None:
    """Mend how gevent watches children."""
    gevent.os._watch_child = _watch_child  # type: ignore[attr-defined]  # private
    after_import("gevent.subprocess", _mend_subprocess)


def let_go() -> None:
    """In a child of the process: it has no children yet."""
    _ends.clear()
    _dead.clear()
    _watches.clear()


def look(pid: int, options: int) -> tuple[int, int, Any]:
    """What ``os.wait4`` returns, without waiting: for one child, -1 for any, 0 or less for a group.

    Raises: ChildProcessError, if there is no such child, and there was none.
    """
    if pid == -1 and (claimed := claimable()) is not None:
        ended, end = claimed
        del _ends[ended]
        return ended, end.status, end.usage
    try:
        found, status, usage = _wait4(pid, options | os.WNOHANG)
    except ChildProcessError:
        known = _ends.pop(pid, None)
        if known is None:
            raise
        return pid, known.status, known.usage
    if found:
        collected(found, status, usage, alone=pid > 0)
    return found, status, usage


def collected(pid: int, status: int, usage: Any, alone: bool) -> None:
    """Somebody has collected a child, who has asked for it ``alone``, or for any."""
    _bury(pid)  # and an earlier child with that number
    if not alone or pid in _watches:
        _note(pid, End(status, usage, False))


def _note(pid: int, end: End) -> None:
    if os.WIFEXITED(end.status) or os.WIFSIGNALED(end.status):
        _ends[pid] = end
        if len(_ends) > _KEPT:
            del _ends[next(iter(_ends))]


def _bury(pid: int) -> None:
    timer = _dead.pop(pid, None)
    if timer is not None:
        timer.close()
    forget(pid)


def _collect(pid: int) -> None:
    """Nobody else has, for a while."""
    _dead.pop(pid).close()
    try:
        found, status, usage = _wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return
    if found:
        _note(found, End(status, usage, True))


def _popen_asked(pid: int) -> None:
    """A ``Popen`` has said how its child has ended."""
    if pid in _dead:
        try:
            _wait4(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    _bury(pid)


def status_of(found: os.waitid_result) -> int | None:
    """What ``os.wait`` returns for what ``os.waitid`` has; None for a child that has not ended."""
    if found.si_code == os.CLD_EXITED:
        return found.si_status << 8
    if found.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
        return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)
    return None


def forget(pid: int) -> None:
    """Whoever had to be told how a child has ended has been told."""
    _ends.pop(pid, None)


def known(pid: int) -> End | None:
    """How a child has ended that somebody has collected."""
    return _ends.get(pid)


def claimable() -> tuple[int, End] | None:
    """A child that was collected for a ``Popen`` which has not been asked for it."""
    return next((found for found in _ends.items() if found[1].unclaimed), None)


def watcher_of(pid: int) -> Any:
    """A watcher for the end of a child, not started; None where the system has no such thing."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
    return _PidWatcher(fd)


class _PidWatcher:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._watcher = get_hub().loop.io(fd, 1)
        self.start = self._watcher.start
        self.stop = self._watcher.stop

    def close(self) -> None:
        self._watcher.close()
        native.close(self._fd)


class Watch:
    """Waits for the end of a child in the hub, and tells of it once; it acts as libev's watcher."""

    def __init__(self, pid: int, told: Callable[[Watch], object]) -> None:
        self.pid = self.rpid = pid
        self.rstatus = 0
        self._told: Callable[[Watch], object] | None = told
        self._pause = FIRST_PAUSE
        _bury(pid)  # an earlier child with that number
        _watches[pid] = self
        self._watcher = watcher_of(pid)
        if self._watcher is None:
            self._watcher = get_hub().loop.timer(0)
        self._watcher.start(self.look)

    def look(self) -> None:
        """Tell of the child, if it has ended."""
        told = self._told
        if told is None:
            return
        status = self._status()
        if status is not None:
            self.rstatus = status
            self.stop()
            told(self)
        elif not isinstance(self._watcher, _PidWatcher):
            self._watcher.close()
            self._pause = min(2 * self._pause, LAST_PAUSE)
            self._watcher = get_hub().loop.timer(self._pause)
            self._watcher.start(self.look)

    def _status(self) -> int | None:
        pid = self.pid
        try:
            if _waitid is None:
                found, status, usage = _wait4(pid, os.WNOHANG)
                if found:
                    _note(pid, End(status, usage, True))
                return status if found else None
            seen = _waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # Somebody else has collected it; if that was not here, nobody knows how it ended.
            end = _ends.get(pid)
            return 0 if end is None else end.status
        if seen is None:
            return None
        _dead[pid] = timer = get_hub().loop.timer(_LINGER, ref=False)
        timer.start(_collect, pid)
        return status_of(seen)

    def stop(self) -> None:
        """Wait no more."""
        if self._told is not None:
            self._told = None
            self._watcher.close()
            if _watches.get(self.pid) is self:
                del _watches[self.pid]


def _watch_child(pid: int, callback: Any = None, loop: Any = None, ref: bool = False) -> None:
    """gevent's function: it watches whatever is forked or spawned, here only what a ``Popen``
    waits for."""
    if callback is not None:
        Watch(pid, callback)


class _Loop:
    """What a ``Popen`` takes for the hub's loop: it does not get to install libev's handler."""

    sig_pending = False

    @staticmethod
    def install_sigchld() -> None:
        """Do not."""


def _mend_subprocess(subprocess: Any) -> None:
    popen = subprocess.Popen
    wait: Callable[..., int | None] = popen.wait

    def poll(self: Any) -> int | None:
        watch = _watches.get(self.pid) if self.returncode is None else None
        if watch is not None:
            watch.look()
        if self.returncode is not None:
            _popen_asked(self.pid)
        return self.returncode  # type: ignore[no-any-return]  # theirs

    def wait_for(self: Any, *arguments: Any, **options: Any) -> int | None:
        try:
            return wait(self, *arguments, **options)
        finally:
            if self.returncode is not None:
                _popen_asked(self.pid)

    popen._loop = property(lambda self: _Loop, lambda self, loop: None)
    popen._internal_poll = poll
    popen.wait = wait_for
