"""Waits for file locks without blocking the hub: ``fcntl.flock``, ``lockf`` and their relatives.

Thread: any thread or greenlet; threads without a hub block as usual.
Guarantees: a call that is stopped while it waits does not have the lock; one that got it has it.

A lock of ``flock`` belongs to an open file, so calls that each open the file exclude each other in
the kernel. One of ``lockf`` belongs to a process: all calls of a worker would get it at once,
and lose it as soon as one of them closed the file. So ``lockf`` here takes locks that belong to an
open file, too, where the system has them; across processes, those and the usual ones exclude each
other as ever. The kernel keeps account of ranges, duplicated descriptors and closed files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists

from .blocking import Pauses, originals

_flock: Any = originals["fcntl.flock"]
_lockf: Any = originals["fcntl.lockf"]

_OWN_LOCKS = hasattr(fcntl, "F_OFD_SETLK")
#: What C calls ``struct flock``: kind, whence, start, length, process.
_LOCK = struct.Struct("@hhqqi0q")
#: What the kernel says of a lock that another has.
_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}


def flock(fd: Any, operation: int, /) -> None:
    """``fcntl.flock``."""
    if operation & (fcntl.LOCK_NB | fcntl.LOCK_UN) or get_hub_if_exists() is None:
        _flock(fd, operation)
    else:
        _until_taken(fd, lambda: _flock(fd, operation | fcntl.LOCK_NB))


def lockf(fd: Any, cmd: int, len: int = 0, start: int = 0, whence: int = 0, /) -> None:
    """``fcntl.lockf``."""
    waits = not cmd & (fcntl.LOCK_NB | fcntl.LOCK_UN) and get_hub_if_exists() is not None
    if not _OWN_LOCKS:
        if not waits:
            _lockf(fd, cmd, len, start, whence)
        else:
            _until_taken(fd, lambda: _lockf(fd, cmd | fcntl.LOCK_NB, len, start, whence))
        return
    if cmd == fcntl.LOCK_UN:
        kind = fcntl.F_UNLCK
    elif cmd & fcntl.LOCK_SH:
        kind = fcntl.F_RDLCK
    elif cmd & fcntl.LOCK_EX:
        kind = fcntl.F_WRLCK
    else:
        raise ValueError("unrecognized lockf argument")
    if not isinstance(fd, int):
        fd = fd.fileno()
    sys.audit("fcntl.lockf", fd, cmd, len, start, whence)
    lock = _LOCK.pack(kind, whence, start, len, 0)
    command = fcntl.F_OFD_SETLK
    if waits:
        _until_taken(fd, lambda: fcntl.fcntl(fd, command, lock))
    else:
        fcntl.fcntl(fd, command if cmd & fcntl.LOCK_NB else fcntl.F_OFD_SETLKW, lock)


def os_lockf(fd: int, command: int, length: int, /) -> None:
    """``os.lockf``."""
    if command == os.F_TEST and _OWN_LOCKS:
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_CUR, 0, length, 0)
        if _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return
    commands = {
        os.F_LOCK: fcntl.LOCK_EX,
        os.F_TLOCK: fcntl.LOCK_EX | fcntl.LOCK_NB,
        os.F_ULOCK: fcntl.LOCK_UN,
    }
    if command not in commands:
        originals["os.lockf"](fd, command, length)
    else:
        lockf(fd, commands[command], length, 0, os.SEEK_CUR)


def _until_taken(file: Any, take: Callable[[], object]) -> None:
    """Call ``take`` until the lock is not another's."""
    pauses: Pauses | None = None
    while True:
        try:
            take()
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        fd = file if isinstance(file, int) else file.fileno()
        if pauses is None:
            pauses, which = Pauses(), _identity(fd)
        pauses.pause()
        # Somebody may have closed it meanwhile, and got the descriptor for something else.
        if _identity(fd) != which:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
