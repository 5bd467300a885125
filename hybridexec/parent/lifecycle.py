"""What happens to engines when their process is interrupted, exits or forks.

Thread: the main thread, at Ctrl-C and at interpreter exit; after a fork, the child's only thread.
Guarantees: the interpreter waits for pending calls, as it does for ProcessPoolExecutor's, unless
it exits because of a KeyboardInterrupt; a forked child holds no descriptor that would keep workers
from noticing the parent's death.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Collection
from typing import Any, Protocol

from .. import native

#: How long, in seconds, calls that were stopped by Ctrl-C may take to clean up. Everything, the
#: interpreter's exit included, must be over within two seconds.
PATIENCE = 1.0
#: How long, in seconds, to wait for killed workers.
_KILL_PATIENCE = 0.5
#: How long, in seconds, calls may take to clean up that are stopped because nobody wants them, and
#: then their workers to do what they have to do at SIGTERM.
_STOP_PATIENCE, _TERM_PATIENCE = 0.1, 1.0


class Ending(Protocol):
    """What this module needs of an engine."""

    def shutdown(self, cancel_unstarted: bool, why: str = ...) -> None:
        """Refuse new calls, finish those there are, and end."""

    def stop(self) -> None:
        """As :meth:`shutdown`, but cancel all calls, running ones too."""

    def kill(self, signal_number: int) -> None:
        """Signal every worker."""

    def join(self, seconds: float | None = None) -> None:
        """Wait until the engine has ended, for ``seconds`` at most."""

    def become_inert(self) -> None:
        """Do nothing any more: this process is a fork, and the workers are its parent's."""


# Engines with a running I/O thread, and the descriptors that only their process may hold.
_engines: set[Ending] = set()
# Those of them whose calls the interpreter does not wait for.
_expendable: weakref.WeakSet[Ending] = weakref.WeakSet()
_descriptors: set[int] = set()
# Has multiprocessing call us before it joins its children.
_finalizer: Any = None
# Whether the interpreter ends: the main thread has, others may go on.
_ending = False
_TOO_LATE = "cannot schedule new futures after interpreter shutdown"


def register(engine: Ending) -> None:
    """Register an engine whose I/O thread is about to start.

    Raises:
        RuntimeError: the interpreter ends, and would not wait for its calls.
    """
    global _finalizer
    # A multiprocessing child has cleared its parent's finalizers.
    if _finalizer is None or not _finalizer.still_active():
        from multiprocessing import util  # slow to load, and loaded by now

        _finalizer = util.Finalize(None, _before_children_are_joined, exitpriority=100)
    _engines.add(engine)
    if _ending and engine not in _expendable:  # now: either this or the end sees the other
        _engines.discard(engine)
        raise RuntimeError(_TOO_LATE)


def unregister(engine: Ending) -> None:
    """Unregister an engine that has ended."""
    _engines.discard(engine)


def let_go_at_exit(engine: Ending) -> None:
    """Have the interpreter end this engine at its exit, after all threads have, and not wait for
    its calls: as it does with multiprocessing's daemons."""
    _expendable.add(engine)


def keep_from_children(*fds: int) -> None:
    """Close these descriptors in every process that is forked from this one."""
    _descriptors.update(fds)


def release(*fds: int) -> None:
    """Somebody else is about to close these descriptors."""
    _descriptors.difference_update(fds)


def keep(fd: int, stack: contextlib.ExitStack) -> None:
    """As :func:`keep_from_children`, for a descriptor that ``stack`` is to close."""
    keep_from_children(fd)
    stack.callback(close, fd)


def close(*fds: int) -> None:
    """Close those of the descriptors that are still registered, and so each only once."""
    for fd in fds:
        if fd in _descriptors:
            _descriptors.discard(fd)
            native.close(fd)


def leave(engines: Collection[Ending]) -> None:
    """End engines soon, whatever their workers do, because of Ctrl-C.

    Calls are stopped where they wait. Workers that have not ended after :data:`PATIENCE` are
    killed; after another Ctrl-C, at once.
    """
    try:
        for engine in engines:
            engine.stop()
        _join(engines, PATIENCE)
    except KeyboardInterrupt:
        pass  # the first KeyboardInterrupt is being raised already
    for engine in engines:
        engine.kill(signal.SIGKILL)
    _join(engines, _KILL_PATIENCE)


def finish(engine: Ending, cancel_unstarted: bool) -> None:
    """Shut ``engine`` down, and return when it has ended; at Ctrl-C, :func:`leave`."""
    try:
        engine.shutdown(cancel_unstarted)
        engine.join()
    except KeyboardInterrupt:
        leave([engine])
        raise


def terminate(engine: Ending) -> None:
    """End an engine at once. Calls are stopped where they wait; workers that have not ended a
    tenth of a second later get SIGTERM, and SIGKILL if they do not hear that."""
    try:
        engine.stop()
        engine.join(_STOP_PATIENCE)
        engine.kill(signal.SIGTERM)
        engine.join(_TERM_PATIENCE)
    finally:
        engine.kill(signal.SIGKILL)
        engine.join(_KILL_PATIENCE)


def _join(engines: Collection[Ending], seconds: float) -> None:
    deadline = native.monotonic() + seconds
    for engine in engines:
        engine.join(max(0.0, deadline - native.monotonic()))


def is_interrupt(kind: type[BaseException] | None) -> bool:
    """Whether an exception of this type was caused by Ctrl-C."""
    if kind is None:
        return False
    if issubclass(kind, KeyboardInterrupt):
        return True
    # asyncio.run cancels its main task, and raises KeyboardInterrupt only when that has ended.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not issubclass(kind, asyncio.CancelledError):
        return False
    handler: Any = signal.getsignal(signal.SIGINT)
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return bool(getattr(runner, "_interrupt_count", 0))


def _at_exit() -> None:
    global _ending
    _ending = True  # first: what begins from now on is not among these
    engines = list(_engines)
    if _exits_because_of_interrupt():
        leave(engines)
        return
    engines = [engine for engine in engines if engine not in _expendable]
    try:
        for engine in engines:
            engine.shutdown(False, _TOO_LATE)
        for engine in engines:
            engine.join()
    except KeyboardInterrupt:
        leave(engines)
        raise


def _before_children_are_joined() -> None:
    from multiprocessing import process

    if process.parent_process() is not None:
        # A multiprocessing child joins its own children before the threading module's hooks run:
        # those are our workers, which wait for us.
        _at_exit()
    # Elsewhere engines have ended by now, but for those whose calls nobody waits for, and unless
    # Ctrl-C has cut those hooks short.
    leave(list(_engines))


def _exits_because_of_interrupt() -> bool:
    # In a multiprocessing child, this runs while the exception is being handled.
    error = sys.exception()
    if error is None and not (hasattr(sys, "ps1") or sys.flags.interactive):
        # Not in an interactive session, where it ended only an earlier statement.
        error = getattr(sys, "last_value", None)
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        # Clean-up after the interrupt may have raised another error, as an interrupted start does.
        error = error.__cause__ or error.__context__
    return False


def _after_fork_in_child() -> None:
    global _ending
    _ending = False
    for engine in list(_engines):
        engine.become_inert()
    _engines.clear()
    for fd in _descriptors:
        with contextlib.suppress(OSError):
            native.close(fd)
    _descriptors.clear()


# Private, but the standard library's own executors have no other way: a plain atexit handler runs
# after non-daemon threads are joined, too late for one that waits for a future.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]  # private
os.register_at_fork(after_in_child=_after_fork_in_child)
