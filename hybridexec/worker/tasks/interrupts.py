"""Stops a call that keeps the loop: it never waits, so the loop cannot raise anything in it.

Thread: the helper thread asks; a signal handler on main raises.
Guarantees: the exception is raised in the call's own code, or in code that it has started: in no
other call, not in our code nor asyncio's, and not in a critical section (see :mod:`..critical`),
but when the call leaves that.

Python runs a signal handler between two bytecodes of whatever the main thread is doing, so the
handler checks which call that is for. Code that keeps the CPU outside Python never gets to the
handler, unless it checks for signals itself, as ``time.sleep`` and a wait for a lock do.
"""

from __future__ import annotations

import _thread
import asyncio
import signal
import time
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType

from ... import native
from .. import critical
from .stops import Stop, Stops

#: Ignored by a process that does not handle it, and of use only to a socket's urgent data.
_SIGNAL = signal.SIGURG
#: How often the handler looks again, at the next bytecode that lets it, before it is to be asked
#: again: a call may be in a critical section for long.
_LOOKS = 2000
#: What the run code calls for a call first and last, by name.
_BOUNDS = ("_load", "pack")
_LOCKS = critical.LOCKS | {"asyncio", "uvloop"}
#: Methods that must not be left where they wait.
_NOT_TO_LEAVE = critical.GIVE_BACK | {"__exit__", "__aexit__", "__del__"}
#: A thread that has used less CPU between two looks has waited.
_IDLE_SECONDS = 0.005
_NOBODY = object()

# Has the handler run once more. Unlike signal.raise_signal, it does not run it at once.
_trip: Callable[[signal.Signals], None] = _thread.interrupt_main


class Interrupts:
    """Raises exceptions in running calls."""

    def __init__(
        self,
        stops: Stops,
        call_of_current: Callable[[], int],
        runs: Callable[[int], bool],
        run_code: CodeType,
    ) -> None:
        """Must be made on the main thread.

        Args:
            stops: knows which calls are to be stopped.
            call_of_current: the call that the current code runs for; 0 if for none.
            runs: whether a call is running.
            run_code: what calls are called from.
        """
        self._stops = stops
        self._call_of_current = call_of_current
        self._runs = runs
        self._run_code = run_code
        self._handling = False
        self._looks = 0
        # Where the main thread was when it was last asked, and the CPU that it had used by then.
        self._seen: tuple[int, int, float] = 0, 0, 0.0
        # Who was hit last of those that a call has started: each only once.
        self._hit: object = _NOBODY
        self._main: int = native.ident()
        signal.signal(_SIGNAL, self._handle)

    def ask(self) -> None:
        """Have what keeps the loop stopped, if it is a call that is to be; on the helper thread."""
        self._looks = _LOOKS
        signal.pthread_kill(self._main, _SIGNAL)

    def forget(self) -> None:
        """The loop has come round."""
        self._hit = _NOBODY
        self._seen = 0, 0, 0.0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._handling:
            return
        self._handling = True
        try:
            if frame is not None and self._looks and self._look(frame):
                self._looks -= 1
                # Not by a call here: when that returned, this handler would be run, in itself.
                [*map(_trip, (_SIGNAL,))]
        finally:
            self._handling = False

    def _look(self, frame: FrameType) -> bool:
        """Raise what is wanted, if this is the place; whether to look again."""
        call = self._call_of_current()
        how = self._stops.wanted(call) if self._runs(call) else None
        if how is None:
            return False
        base: FrameType | None = frame
        called: FrameType | None = None
        while base is not None and base.f_code is not self._run_code:
            called, base = base, base.f_back
        if base is None:
            return self._look_at_started(frame, how)
        if not (self._may_raise(frame, called, base) or self._is_stuck(frame, base)):
            return True
        self._stops.interrupted(call, how)
        raise how()

    def _look_at_started(self, frame: FrameType, how: Stop) -> bool:
        """The same in what a call has started, a task mostly. Its own task is cancelled by the loop
        after that."""
        if critical.is_running(frame, None, _LOCKS):
            return True
        if self._looks > 1 and critical.is_unseen(frame):
            return True
        task = asyncio.current_task()
        if task is self._hit:
            return False
        self._hit = task
        raise how()

    def _may_raise(self, frame: FrameType, called: FrameType | None, base: FrameType) -> bool:
        """Whether the call that ``base`` runs, and that keeps the loop in ``frame``, may be
        interrupted there."""
        # On another line the call has ended, or is not begun.
        if base.f_lineno not in _lines_of_calls(self._run_code):
            return False
        if called is None:
            return True  # a C function runs that looks for signals, or has just returned
        if critical.is_running(frame, base, _LOCKS):
            return False
        return self._looks == 1 or not critical.is_unseen(frame)

    def _is_stuck(self, frame: FrameType, base: FrameType) -> bool:
        """Whether a C function that ``frame`` has called has waited since the last time this was
        asked: it has neither returned nor used the CPU. If it waits for a lock, it has not got it,
        and can be left. (A module's file that is read slowly is not: half of a package would stay
        imported.)"""
        before = self._seen
        now = self._seen = id(frame), frame.f_lasti, time.thread_time()
        if now[:2] != before[:2] or now[2] - before[2] > _IDLE_SECONDS:
            return False
        if critical.is_importing(frame):
            return False
        at: FrameType | None = frame
        while at is not None and at is not base:
            if at.f_code.co_name in _NOT_TO_LEAVE:
                return False
            at = at.f_back
        return critical.is_at_call(frame)


@cache
def _lines_of_calls(code: CodeType) -> range:
    """The lines of ``code`` on which a call's function is loaded, a call is run, and its result
    pickled: what is raised there is caught as the call's."""
    from dis import get_instructions  # few calls are ever interrupted

    lines = {
        instruction.argval: instruction.positions.lineno
        for instruction in get_instructions(code)
        if instruction.argval in _BOUNDS and instruction.positions is not None
    }
    first, last = (lines[name] or 0 for name in _BOUNDS)
    return range(first, last + 1)
