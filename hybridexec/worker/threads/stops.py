"""Stops calls that are cancelled or whose time is up, by an exception at the next bytecode of the
thread that runs them.

Thread: whichever reads the call pipe, and main, stop; the runners open and close their calls.
Guarantees: what stops a call is raised in that call and in no other, and once, because then it may
be cleaning up. A call that was taken before the wish to stop it was heard is stopped, too. It is
not raised in a critical section (see :mod:`hybridexec.worker.critical`), unless the call stays in
one for a quarter of a second; where it takes locks by hand, not even then.

The interpreter raises such an exception some time after it was asked to, so it must not be asked
any more when the call is about to end. Who may ask is settled by single operations of a dict, which
the GIL makes atomic: a call is in ``_open`` while it may be stopped; who removes it there, the
runner or who stops it, has the say. A runner that comes too late waits until what stops it was
asked for, and takes that back.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Protocol, TypeGuard

from ... import native
from .. import critical
from ..inbox import Inbox

if TYPE_CHECKING:
    from .loop import Loop

#: Seconds between two looks at a call that is in a critical section; after which it has had time
#: enough to leave that; and between two looks from then on.
_LOOK_SECONDS, _PATIENCE, _LATE_LOOK_SECONDS = 0.002, 0.25, 0.05
#: Seconds between two looks whether another thread has come to do its next step.
_PAUSE = 0.0001

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Stopped(BaseException):
    """Raised in a call that is to end, where its thread runs Python code."""


class _TakenBack(BaseException):
    """Raised in place of what was asked for too late."""


class StopCall(Stopped):
    """Raised in a call that was cancelled."""


class CallExpired(Stopped):
    """Raised in a call whose time is up."""


class Thread(Protocol):
    """What runs calls, one after another."""

    #: The thread's number.
    ident: int
    #: When the call began that it runs, in monotonic seconds.
    began: float


class Stops:
    """Stops the calls of one worker."""

    def __init__(self, inbox: Inbox, run_code: CodeType, loop: Loop) -> None:
        """
        Args:
            run_code: what calls are called from.
            loop: the main thread's.
        """
        self._inbox = inbox
        self._run_code = run_code
        self._loop = loop
        #: Tells a call that may wait for what it yields to be fetched that it is to be stopped.
        self.stir: Callable[[int], object] = lambda call: None
        #: Calls that were in a critical section; main is to :meth:`look`.
        self.held: deque[int] = deque()
        #: Who runs which call, from before it leaves the inbox until after its result is known.
        self.running: dict[int, Thread] = {}
        # Those of them in which something may be raised.
        self._open: dict[int, Thread] = {}
        # What is to be raised, or was, in running calls.
        self._wanted: dict[int, type[Stopped]] = {}
        # Calls in which something is raised as soon as they run Python code.
        self._asked: set[int] = set()

    # -- who reads the call pipe ----------------------------------------------------------------

    def cancel(self, calls: Iterable[int], running: bool) -> None:
        """Drop those calls that have not started; with ``running``, stop those that have."""
        calls = list(calls)
        self._inbox.drop(calls)
        if running:
            # One that leaves the inbox was dropped before, or is running by now.
            for call in calls:
                self._stop(call, StopCall)

    def expire(self, call: int) -> None:
        """Stop a call whose time is up, unless it has ended or been told."""
        self._stop(call, CallExpired)

    # -- main -----------------------------------------------------------------------------------

    def expire_run(self, call: int, began: float) -> None:
        """As :meth:`expire`, if this is still the run that began then."""
        runner = self.running.get(call)
        if runner is not None and runner.began == began:
            self._stop(call, CallExpired)

    def look(self) -> None:
        """See to the calls that were in a critical section."""
        while self.held:
            self._look_again(self.held.popleft(), native.monotonic() + _PATIENCE)

    def _look_again(self, call: int, until: float) -> None:
        error = self._wanted.get(call)
        runner = self._open.get(call)
        if error is None or runner is None:
            return
        frame = sys._current_frames().get(runner.ident)
        late = native.monotonic() >= until
        if self._is_critical(frame) and (not late or critical.is_taking_by_hand(frame)):
            timer = self._loop.timer(_LOOK_SECONDS if not late else _LATE_LOOK_SECONDS)
            timer.start(partial(self._look_again, call, until))
        else:
            self._raise(call, error, False)

    def _stop(self, call: int, error: type[Stopped]) -> None:
        if call not in self.running:
            return
        error = self._wanted.setdefault(call, error)
        if call not in self.running:  # it has ended just now
            self._wanted.pop(call, None)
            return
        self._raise(call, error, True)
        self.stir(call)

    def _raise(self, call: int, error: type[Stopped], may_wait: bool) -> None:
        runner = self._open.get(call)
        if runner is None:
            return  # it has ended, or was told
        if may_wait and self._is_critical(sys._current_frames().get(runner.ident)):
            self.held.append(call)
            self._loop.wake()
            return
        runner = self._open.pop(call, None)
        if runner is not None:
            _raise_in(runner.ident, error)
            self._asked.add(call)

    def _is_critical(self, frame: FrameType | None) -> TypeGuard[FrameType]:
        end = frame
        while end is not None and end.f_code is not self._run_code:
            end = end.f_back
        if frame is None or end is frame:
            return False
        return (
            critical.is_running(frame, end)
            or critical.may_take_next(frame)
            # From Python 3.13 on, it would be raised at the next place.
            or (sys.version_info < (3, 13) and critical.is_unseen(frame))
        )

    # -- runners --------------------------------------------------------------------------------

    def open(self, call: int, runner: Thread) -> None:
        """From here on, the call may be stopped, wherever it is.

        Raises:
            Stopped: it was to be stopped before.
        """
        self._open[call] = runner
        if self._wanted and call in self._wanted:
            raise self._wanted[call]

    def raised(self, call: int) -> BaseException | None:
        """What has been raised in a call, which asks, to stop it, or is to be and now is not, but
        returned; None if nothing is."""
        error = self._wanted.get(call)
        if error is None:
            return None
        if self._open.pop(call, None) is not None:
            self._asked.add(call)
        return error()

    def is_told(self, call: int, error: BaseException) -> bool:
        """Whether ``error`` is what was raised in this call to stop it."""
        return isinstance(error, Stopped) and self._wanted.get(call) is type(error)

    def close(self, call: int, runner: Thread) -> bool:
        """From the end of this on, nothing is raised in the call any more; whether something was,
        or was about to be.

        Raises:
            Stopped: it came just now. Then this must be called again.
        """
        if self._open.pop(call, None) is None:
            while call not in self._asked:
                native.sleep(_PAUSE)
            # Raised and caught, not only taken back: Pythons before 3.13 would go on looking for it
            # with every call of a function, and one that is traced for ever.
            try:
                _raise_in(runner.ident, _TakenBack)
                while True:
                    pass
            except _TakenBack:
                self._asked.discard(call)
            return True
        return False

    def end(self, call: int) -> None:
        """The call has ended, and is closed."""
        del self.running[call]
        if self._wanted:
            self._wanted.pop(call, None)
