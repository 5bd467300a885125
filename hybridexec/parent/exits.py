"""What happens to engines when their process exits or forks.

Runs on: the main thread at interpreter exit; the forking thread, in the child, after a fork.
Guarantees: the interpreter waits for pending calls, as it does for ProcessPoolExecutor's; a forked
child holds no descriptor that would keep workers from noticing the parent's death.
"""

from __future__ import annotations

import contextlib
import os
import threading
from multiprocessing import util
from typing import Protocol


class Ending(Protocol):
    """An engine, as far as this module needs one."""

    def finish_at_exit(self) -> None:
        """End, and return when nothing is left; the interpreter is exiting."""

    def become_inert(self) -> None:
        """This process is a fork of the one whose workers these are."""


# Engines with a running I/O thread, and the descriptors that only their process may hold.
_engines: set[Ending] = set()
_descriptors: set[int] = set()


def register(engine: Ending) -> None:
    """Look after ``engine`` from now on."""
    if not _engines:
        # A multiprocessing child joins its own children before the threading module's hooks run:
        # those are our workers, which wait for us. In other processes engines have ended by then.
        util.Finalize(None, _at_exit, exitpriority=100)
    _engines.add(engine)


def unregister(engine: Ending) -> None:
    """``engine`` has ended."""
    _engines.discard(engine)


def keep_from_children(*fds: int) -> None:
    """Close these descriptors in every process that is forked from this one."""
    _descriptors.update(fds)


def close(*fds: int) -> None:
    """Close descriptors, once."""
    for fd in fds:
        if fd in _descriptors:
            _descriptors.discard(fd)
            os.close(fd)


def forget(fd: int) -> None:
    """``fd`` is about to be closed by whoever owns it."""
    _descriptors.discard(fd)


def _at_exit() -> None:
    for engine in list(_engines):
        engine.finish_at_exit()


def _after_fork_in_child() -> None:
    for engine in list(_engines):
        engine.become_inert()
    _engines.clear()
    for fd in _descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)
    _descriptors.clear()


# Private, but the standard library's own executors have no other way: a plain atexit handler runs
# after non-daemon threads are joined, too late for one that waits for a future.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork_in_child)
