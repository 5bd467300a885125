"""The status page: memory a worker writes and its parent reads, at no cost in messages.

Runs on: the worker's hub writes; the parent's I/O thread, ``stats()`` and ``running()`` read.
Guarantees: it outlives the worker, so that after a death the parent still knows how far it came.

All fields are 64-bit integers, written whole by one thread:

- ``HEARTBEAT``: monotonic nanoseconds of the hub's last tick;
- ``TAKEN``: how many calls were taken from the inbox to be run (or dropped, if cancelled). It is
  written *before* the call runs. Calls are taken in the order they were sent, so this one number
  tells exactly which of the unanswered calls may have started;
- ``CURRENT``: the call whose greenlet has the CPU; 0 if none has, or if nobody keeps track;
- a pair for each slot: the id of the call that runs there (0: none), and since when.
"""

from __future__ import annotations

import mmap
import os

HEARTBEAT, TAKEN, CURRENT = 0, 1, 2
_HEADER = 8
_WORD = 8


class StatusPage:
    """One worker's page, as either side sees it."""

    def __init__(self, fd: int, slots: int) -> None:
        """Map the page behind ``fd``, which stays the caller's to close."""
        self.slots = slots
        self._map = mmap.mmap(fd, (_HEADER + 2 * slots) * _WORD)
        #: The fields by index, for writers in a hurry.
        self.words = memoryview(self._map).cast("q")

    @property
    def taken(self) -> int:
        """How many calls the worker has taken from its inbox so far."""
        return self.words[TAKEN]

    @property
    def heartbeat(self) -> int:
        """When the hub last ticked, in monotonic nanoseconds; 0 before its first tick."""
        return self.words[HEARTBEAT]

    @property
    def current(self) -> int:
        """The call that has the CPU; 0 if none has, or if it is not known."""
        return self.words[CURRENT]

    def running(self) -> dict[int, int]:
        """The calls in the slots: id to monotonic nanoseconds of its start."""
        pairs = self.words[_HEADER:].tolist()
        return {call: since for call, since in zip(pairs[::2], pairs[1::2], strict=True) if call}

    def close(self) -> None:
        """Unmap the page; using it afterwards raises ValueError."""
        self.words.release()
        self._map.close()


def create_fd(slots: int) -> int:
    """A descriptor of zeroed memory for a page of so many slots; the caller closes it.

    It is anonymous: no name in a file system to leave behind, and no need of ``/dev/shm``.
    """
    size = (_HEADER + 2 * slots) * _WORD
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hybridexec-status", os.MFD_CLOEXEC)
    else:
        import tempfile  # slow to import, and not needed on Linux

        with tempfile.TemporaryFile(prefix="hybridexec-") as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def slot_index(slot: int) -> int:
    """The index of a slot's pair in :attr:`StatusPage.words`."""
    return _HEADER + 2 * slot
