"""The status page: memory that a worker writes and its parent reads, without messages.

Behind it, in the same anonymous file, are the *log ring* (:mod:`.log_ring`), if the worker's log
records are wanted, and the *fault log*: what faulthandler has written.

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
  that traces switches writes it (see ``worker/tracing.py``); then it is exact. It is ``SHARED``
  where calls run in threads;
- ``HELD``: written by the parent only: while it differs from the number in the last Reclaim message
  that the worker has handled, the worker takes no calls;
- ``BUSY``, ``CPU``, ``RESIDENT``: the share of the last seconds for which the main thread was not
  to be had for another call, the seconds of CPU that the process has used, and its bytes in RAM, as
  they were at the last tick (see ``worker/vitals.py``);
- a pair for each slot: the id of the call that runs there (0: none), and since when. While calls
  with consecutive ids run there one after another, and none waits, it is not the id that is there,
  but ``TAKEN`` less the id, which stays the same and is below 0;
- two histograms (:mod:`.histogram`): for how long calls have run, and for how long they had waited
  until then.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import signal
from collections.abc import Callable
from itertools import compress, islice
from typing import Any

from .. import native
from . import histogram, log_ring
from .histogram import Histogram
from .log_ring import LogRing

HEARTBEAT, TAKEN, CURRENT, HELD, BUSY, CPU, RESIDENT = range(7)
#: Over how many seconds ``BUSY`` is a mean: what is older counts for a third, and less.
BUSY_SECONDS = 3.0
#: What ``CURRENT`` is where calls share the CPU: any of them may have it.
SHARED = -1
_HEADER = 8
_WORD = 8
#: Bytes of the fields before the slots.
HEADER_BYTES = _HEADER * _WORD
#: Bytes of the fault log that the parent sees.
MAX_LOG = 64 * 1024

#: The signal on which faulthandler writes the stack of a worker's main thread to its fault log, for
#: when C code holds the GIL: one that nobody uses, or None where there is no such signal. (SIGINFO
#: is ignored by default.)
DUMP_SIGNAL: int | None = (
    signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else getattr(signal, "SIGINFO", None)
)


def map_memory(fd: int, length: int) -> memoryview:
    """The first bytes behind ``fd``, until all views of them are released. It may take another
    descriptor."""
    return memoryview(mmap.mmap(fd, length))


class StatusPage:
    """One worker's page and fault log, as either side sees them."""

    def __init__(
        self,
        fd: int,
        slots: int,
        map_them: Callable[[int, int], memoryview] = map_memory,
        *,
        with_ring: bool = False,
    ) -> None:
        """Map what is behind ``fd``, which stays the caller's to close; the last argument is that
        of :func:`create_fd`."""
        self._fd = fd
        self.slots = slots
        fields = _fields_size(slots)
        self._size = size(slots, with_ring)
        self._memory = map_them(fd, self._size + MAX_LOG)
        #: The fields by index, as integers and as times, for writers on hot paths.
        self.words = self._memory[:fields].cast("q")
        self.times = self._memory[:fields].cast("d")
        #: Where the histograms begin, in these.
        self.runs_at = slot_index(slots)
        self.waits_at = self.runs_at + histogram.WORDS
        #: Where the worker leaves its log records.
        self.ring = LogRing(self._memory[fields : self._size]) if with_ring else None

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
        """The id of the call that has the CPU; 0 if none has, or if it is not known; or SHARED."""
        return self.words[CURRENT]

    def hold(self, number: int) -> bool:
        """Keep the worker from taking calls until it has handled the Reclaim with this number;
        returns whether that is possible: it is."""
        self.words[HELD] = number
        return True

    def running(self) -> dict[int, float]:
        """The running calls: start, in monotonic seconds, by id."""
        words, times = self._slots()
        return {self.call(word): since for word, since in zip(words, times, strict=True) if word}

    def call(self, word: int) -> int:
        """The id of the call that a slot's word stands for."""
        return word if word >= 0 else self.words[TAKEN] - word

    def starts(self) -> list[float]:
        """When the running calls have started, in monotonic seconds."""
        calls, times = self._slots()
        return list(compress(times, calls))

    def earliest(self, count: int) -> list[tuple[float, int]]:
        """The running calls that have started first, so many at most: when, in monotonic seconds,
        and their ids. (There may be thousands of others, for each of which hardly anything is
        made.)"""
        words, times = self._slots()
        starts = sorted(compress(times, words))
        last = starts[count - 1] if len(starts) > count else math.inf
        found = [
            (since, self.call(word))
            for word, since in zip(words, times, strict=True)
            if since < last and word
        ]
        as_late = (
            (since, self.call(word))
            for word, since in zip(words, times, strict=True)
            if since == last and word
        )
        return found + list(islice(as_late, count - len(found)))

    def _slots(self) -> tuple[list[int], list[float]]:
        """What runs in each slot, and since when."""
        end = self.runs_at
        times: list[Any] = self.times[_HEADER + 1 : end : 2].tolist()  # int, says its stub
        return self.words[_HEADER:end:2].tolist(), times

    @property
    def busy(self) -> float:
        """For which share of the last seconds another call could not have run, from 0 to 1."""
        return self.times[BUSY]

    @property
    def cpu_seconds(self) -> float:
        """The CPU that the process had used at the last tick, in seconds."""
        return self.times[CPU]

    @property
    def resident(self) -> int:
        """The bytes that the process had in RAM a second ago."""
        return self.words[RESIDENT]

    @property
    def run_seconds(self) -> Histogram:
        """For how long calls have run."""
        return Histogram.read(self.words, self.times, self.runs_at)

    @property
    def wait_seconds(self) -> Histogram:
        """For how long calls have waited until they ran."""
        return Histogram.read(self.words, self.times, self.waits_at)

    def copied(self) -> bytes:
        """All fields, as they are now."""
        return bytes(self._memory[: self.words.nbytes])

    def slot_times(self) -> range:
        """The places of the slots' times, in :attr:`times`; before each is that of its word."""
        return range(_HEADER + 1, self.runs_at, 2)

    @property
    def log(self) -> str:
        """The text of the fault log."""
        return self._log().strip(b"\0").decode("utf-8", "backslashreplace")

    def clear_log(self) -> None:
        """Empty the fault log. Only :meth:`rewind_log` makes room for more."""
        used = len(self._log().rstrip(b"\0"))
        self._memory[self._size : self._size + used] = bytes(used)

    def _log(self) -> bytes:
        return bytes(self._memory[self._size :])

    @property
    def log_fd(self) -> int:
        """The descriptor of the fault log, in the worker."""
        return self._fd

    def rewind_log(self) -> None:
        """Have what comes next written at the log's start; in the worker, whose descriptor is
        open."""
        with contextlib.suppress(OSError):  # a call has closed it
            os.lseek(self._fd, self._size, os.SEEK_SET)

    def close(self) -> None:
        """Unmap the page; using it afterwards raises ValueError."""
        for view in (self.words, self.times, self._memory):
            view.release()
        if self.ring is not None:
            self.ring.close()


def create_fd(slots: int, with_ring: bool = False) -> int:
    """A descriptor of zeroed memory for a page of so many slots, with a log ring if that is wanted;
    the caller closes it.

    It is anonymous: it leaves no name in a file system, and needs no ``/dev/shm``. What is written
    to the descriptor, in this process or one that inherits it, goes to the fault log.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hybridexec-status", os.MFD_CLOEXEC)
        os.fchmod(fd, 0o600)
    else:
        import tempfile  # slow to import, and not needed on Linux

        with tempfile.TemporaryFile(prefix="hybridexec-") as file:
            fd = os.dup(file.fileno())
    try:
        fault_log = size(slots, with_ring)
        _give_size(fd, fault_log + MAX_LOG)
        os.lseek(fd, fault_log, os.SEEK_SET)
    except BaseException:
        native.close(fd)
        raise
    return fd


def _give_size(fd: int, whole: int) -> None:
    """Give the file its size, even if the soft limit on the size of files is lower."""
    try:
        os.ftruncate(fd, whole)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        import resource  # rarely needed

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if hard != resource.RLIM_INFINITY and hard < whole:
            raise OSError(
                errno.EFBIG,
                f"files may not be larger than {hard} bytes (RLIMIT_FSIZE, ulimit -f), and a "
                f"worker needs a memory file of {whole}: raise the limit",
            ) from None
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        try:
            os.ftruncate(fd, whole)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def size(slots: int, with_ring: bool = False) -> int:
    """How many bytes the page and the ring take, and so where the fault log begins."""
    return _fields_size(slots) + (log_ring.SIZE if with_ring else 0)


def _fields_size(slots: int) -> int:
    return (slot_index(slots) + 2 * histogram.WORDS) * _WORD


def slot_index(slot: int) -> int:
    """The index of a slot's pair in :attr:`StatusPage.words`."""
    return _HEADER + 2 * slot
