"""The status page: memory that a worker writes and its parent reads, without messages.

Behind it, in the same anonymous file, is the *fault log*: the end of what faulthandler has written.

Thread: the worker's hub writes all fields but one; the parent's turn holder reads, and so do
``stats()`` and ``running()`` on any thread.
Guarantees: it outlives the worker, so that after a death the parent knows how far the worker came.

All fields have 64 bits and are written whole by one thread. Times are doubles, in monotonic
seconds; the others are integers:

- ``HEARTBEAT``: the time of the hub's last tick;
- ``TAKEN``: how many calls were taken from the inbox to be run (or dropped, if cancelled). It is
  written *before* the call runs. Calls are taken in the order they were sent, so this one number
  tells exactly which of the unanswered calls may have started;
- ``CURRENT``: the id of the call that has the CPU, 0 if none has or it is not known. Only a worker
  that traces switches writes it (see ``worker/tracing.py``); then it is exact;
- ``HELD``: written by the parent only: while it differs from the number in the last Reclaim message
  that the worker has handled, the worker takes no calls;
- a pair for each slot: the id of the call that runs there (0: none), and since when.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal

from .. import native

HEARTBEAT, TAKEN, CURRENT, HELD = 0, 1, 2, 3
_HEADER = 8
_WORD = 8
_MAX_LOG = 64 * 1024

#: The signal on which faulthandler writes the stack of a worker's main thread to its fault log, for
#: when C code holds the GIL: one that nobody uses, or None where there is no such signal. (SIGINFO
#: is ignored by default.)
DUMP_SIGNAL: int | None = (
    signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else getattr(signal, "SIGINFO", None)
)


class StatusPage:
    """One worker's page, as either side sees it."""

    def __init__(self, fd: int, slots: int) -> None:
        """Map the page behind ``fd``, which stays the caller's to close."""
        self.slots = slots
        self._map = mmap.mmap(fd, size(slots))
        #: The fields by index, as integers and as times, for writers on hot paths.
        self.words = memoryview(self._map).cast("q")
        self.times = memoryview(self._map).cast("d")

    @property
    def taken(self) -> int:
        """How many calls the worker has taken from its inbox so far."""
        return self.words[TAKEN]

    @property
    def heartbeat(self) -> float:
        """When the hub last ticked, in monotonic seconds; 0 before its first tick."""
        return self.times[HEARTBEAT]

    @property
    def current(self) -> int:
        """The id of the call that has the CPU; 0 if none has, or if it is not known."""
        return self.words[CURRENT]

    def hold(self, number: int) -> None:
        """Keep the worker from taking calls until it has handled the Reclaim with this number."""
        self.words[HELD] = number

    def running(self) -> dict[int, float]:
        """The running calls: start, in monotonic seconds, by id."""
        calls, times = self.words[_HEADER::2].tolist(), self.times[_HEADER + 1 :: 2].tolist()
        return {call: since for call, since in zip(calls, times, strict=True) if call}

    def close(self) -> None:
        """Unmap the page; using it afterwards raises ValueError."""
        self.words.release()
        self.times.release()
        self._map.close()


def create_fd(slots: int) -> int:
    """A descriptor of zeroed memory for a page of so many slots; the caller closes it.

    It is anonymous: it leaves no name in a file system, and needs no ``/dev/shm``. What is written
    to the descriptor, in this process or one that inherits it, is appended to the fault log.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hybridexec-status", os.MFD_CLOEXEC)
        os.fchmod(fd, 0o600)
    else:
        import tempfile  # slow to import, and not needed on Linux

        with tempfile.TemporaryFile(prefix="hybridexec-") as file:
            fd = os.dup(file.fileno())
    try:
        _give_size(fd, slots)
    except BaseException:
        native.close(fd)
        raise
    return fd


def _give_size(fd: int, slots: int) -> None:
    """Give the file its size, even if the soft limit on the size of files is lower."""
    try:
        clear_log(fd, slots)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        import resource  # rarely needed

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if hard != resource.RLIM_INFINITY and hard < size(slots):
            raise OSError(
                errno.EFBIG,
                f"files may not be larger than {hard} bytes (RLIMIT_FSIZE, ulimit -f), and a "
                f"worker needs a memory file of {size(slots)}: raise the limit",
            ) from None
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        try:
            clear_log(fd, slots)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def size(slots: int) -> int:
    """How many bytes a page of so many slots has, and so where the fault log begins."""
    return (_HEADER + 2 * slots) * _WORD


def read_log(fd: int, slots: int) -> str:
    """The text of the fault log behind ``fd``."""
    return os.pread(fd, _MAX_LOG, size(slots)).decode("utf-8", "backslashreplace")


def clear_log(fd: int, slots: int) -> None:
    """Empty the fault log; all holders of the descriptor write at its start then."""
    os.ftruncate(fd, size(slots))
    os.lseek(fd, size(slots), os.SEEK_SET)


def slot_index(slot: int) -> int:
    """The index of a slot's pair in :attr:`StatusPage.words`."""
    return _HEADER + 2 * slot
