"""Stops a call that keeps the CPU: it never waits, so the hub cannot raise anything in it.

Thread: the helper thread asks; a signal handler on main raises.
Guarantees: the exception is raised in the call's own code, or in code that pickles for it: in no
other call, not in our code, and not in a critical section (see :mod:`.critical`), but when the call
leaves that.

Python runs a signal handler between two bytecodes of whatever the main thread is doing, so the
handler checks that this is still the call that was meant. Code that keeps the CPU outside Python
never gets to the handler, unless it checks for signals itself, as ``time.sleep`` does.
"""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

import gevent
import greenlet

from ... import native
from . import critical

#: Ignored by a process that does not handle it, and of use only to a socket's urgent data.
_SIGNAL = signal.SIGURG
#: How often the handler looks again, at the next bytecode that lets it, before it is to be asked
#: again: a call may be in a critical section for long. Fewer for one that waits in one, and has to
#: get the CPU first.
_LOOKS, _LOOKS_AHEAD = 2000, 200

#: What the run code calls for a call, by name.
_CALLING = frozenset({"run", "loads", "dumps"})

#: For how long a greenlet gives way: the hub is to come round, several times.
_WAY_SECONDS = 0.02

# Has the handler run once more. Unlike signal.raise_signal, it does not run it at once.
_trip: Callable[[signal.Signals], None] = _thread.interrupt_main


class Interrupts:
    """Raises exceptions in running calls."""

    def __init__(
        self,
        runner_of: Callable[[int], Any],
        run_code: CodeType,
        ours: frozenset[str],
        tell: Callable[[Any, int, type[BaseException]], None],
        has_to_give_way: Callable[[Any], bool] = lambda greenlet: False,
    ) -> None:
        """Must be made on the main thread.

        Args:
            runner_of: tells the greenlet that runs a call, or None. It has as ``raised`` what was
                last raised in it, and in which call.
            run_code: what those greenlets run, from where calls are called, by ``.run``, and
                pickled for, by ``.loads`` and ``.dumps``.
            ours: files whose functions, when called from there, must not be interrupted.
            tell: notes what is about to be raised in a greenlet that runs a call.
            has_to_give_way: whether a greenlet that runs no call is to wait for a moment.
        """
        self._runner_of = runner_of
        self._run_code = run_code
        # With the handler's own: it may be run once more as it returns.
        self._ours = ours | {Interrupts.__init__.__code__.co_filename}
        self._handling = False
        self._tell = tell
        self._has_to_give_way = has_to_give_way
        self._looks_for_way = 0
        self._wanted: tuple[int, type[BaseException]] | None = None
        self._looks = 0
        self._main: int = native.ident()
        signal.signal(_SIGNAL, self._handle)

    def interrupt(self, call: int, error: type[BaseException]) -> bool:
        """Have ``error`` raised in a call, once, if it has the CPU right now; whether it has."""
        runner = self._runner_of(call)
        # Of all greenlets only the one that runs has no frame to go on with.
        if runner is None or runner.gr_frame is not None:
            return False
        if runner.raised == (call, error):
            return True
        self._looks = _LOOKS
        self._wanted = (call, error)
        signal.pthread_kill(self._main, _SIGNAL)
        return True

    def follow(self, call: int, error: type[BaseException]) -> None:
        """Have ``error`` raised in a call that waits in a critical section, if it leaves that soon;
        on the main thread. It may do so only to wait in the next one."""
        self._looks = _LOOKS_AHEAD
        self._wanted = (call, error)
        _trip(_SIGNAL)

    def make_way(self) -> None:
        """Have what keeps the CPU wait for a moment, if it has to give way."""
        self._looks_for_way = _LOOKS
        signal.pthread_kill(self._main, _SIGNAL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._handling:
            return  # asked again meanwhile, within what runs below: nothing may be raised in that
        self._handling = True
        waits = False
        try:
            again = self._look(frame)
            if self._looks_for_way:
                waits = self._finds_way(frame)
                again = again or self._looks_for_way > 0
            if again:
                # Not by a call here: when that returned, this handler would be run, in itself.
                [*map(_trip, (_SIGNAL,))]
        finally:
            self._handling = False
        if waits:
            # Calls that run meanwhile may be interrupted, and what waits here be told.
            gevent.sleep(_WAY_SECONDS)

    def _look(self, frame: FrameType | None) -> bool:
        """Raise what is wanted, if this is the place; whether to look again."""
        wanted = self._wanted
        if wanted is None:
            return False
        call, error = wanted
        runner = self._runner_of(call)
        told = runner is not None and runner.raised == wanted
        if frame is None or runner is None or told or not self._looks:
            self._wanted = None
            return False
        if greenlet.getcurrent() is runner and self._may_raise(frame):
            self._wanted = None
            self._tell(runner, call, error)
            raise error()
        self._looks -= 1
        return True

    def _finds_way(self, frame: FrameType | None) -> bool:
        """Whether the current greenlet has to wait, and can do so in ``frame``."""
        if frame is None or not self._has_to_give_way(greenlet.getcurrent()):
            self._looks_for_way = 0
        elif critical.is_at_call(frame) or critical.is_running(frame, None):
            self._looks_for_way -= 1  # in C code, too, somebody's buffer may be locked
        else:
            self._looks_for_way = 0
            return True
        return False

    def _may_raise(self, frame: FrameType) -> bool:
        """Whether the call that has the CPU in ``frame`` may be interrupted there."""
        at: FrameType | None = frame
        called: FrameType | None = None
        while at is not None and at.f_code is not self._run_code:
            called, at = at, at.f_back
        # On another line the call has ended, and what is called is a tracer's or a profiler's.
        if at is None or at.f_lineno not in _lines_that_call(self._run_code):
            return False
        if called is None:
            return True  # a C function runs that looks for signals, or has just returned
        if called.f_code.co_filename in self._ours or critical.is_running(frame, at):
            return False
        return self._looks == 1 or not critical.is_unseen(frame)


@cache
def _lines_that_call(code: CodeType) -> frozenset[int | None]:
    """The lines of ``code`` on which a call is run, or something is pickled or unpickled for it."""
    from dis import get_instructions  # few calls are ever interrupted

    return frozenset(
        instruction.positions.lineno
        for instruction in get_instructions(code)
        if instruction.argval in _CALLING and instruction.positions is not None
    )
