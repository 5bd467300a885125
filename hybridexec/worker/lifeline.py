"""The lifeline: a pipe whose end is the end of the processes that hold it.

Thread: main, in a worker, before it imports anything of the user's, and in the fork server.
Guarantees (on Linux): when the parent is gone, for whatever reason, the kernel kills this process,
even if it is computing, in C code that holds the GIL, or stopped.

Only the parent has the pipe's write end, and it never writes. A process that holds the read end
asks the kernel for SIGKILL when something happens to the pipe, and all that ever happens is that
the last writer goes away. (prctl's PR_SET_PDEATHSIG would not do: it fires when the *thread* that
started the process ends.) Elsewhere the end of the bell has to do, which takes a thread that runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys

from .. import native


def hold(fd: int) -> None:
    """Die with the last writer of the pipe ``fd``; a second time changes nothing."""
    if sys.platform != "linux":
        return
    try:
        # Who is signalled belongs to an open file description, which the processes that inherited
        # this one share: each needs its own.
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return  # no /proc here
    os.dup2(own, fd, inheritable=False)
    native.close(own)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    # The writer may have gone before. A poll for nothing still tells of the end.
    poller = native.original("select", "poll")()
    poller.register(fd, 0)
    if poller.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)
