"""Stop a call that keeps the CPU: it never waits, so the hub cannot raise anything in it.

Runs on: the attendant's thread asks; a signal handler on the main thread raises.
Guarantees: the exception is raised in the call's own code, or in what pickles for it, and nowhere
else: in no other call, not in ours, and not in the midst of an import, after which some modules
could not be imported again.

A signal handler in Python runs between two bytecodes of whatever the main thread is doing. So the
handler looks whether that is still the call which was meant. Code that keeps the CPU outside Python
never gets to it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import greenlet

from .. import native

#: Ignored by a process that does not handle it, and of use only to a socket's urgent data.
_SIGNAL = signal.SIGURG
#: Where Python says that the code is which imports modules.
_IMPORTS = "<frozen importlib._bootstrap>"


class Interrupts:
    """Raises exceptions in running calls."""

    def __init__(
        self,
        runner_of: Callable[[int], Any],
        run_code: CodeType,
        ours: frozenset[str],
    ) -> None:
        """Must be made on the main thread.

        Args:
            runner_of: tells the greenlet that runs a call, or None. It notes as ``raised`` what was
                last raised in it, and in which call.
            run_code: what those greenlets run, from where calls are called.
            ours: modules whose functions, when called from there, must not be interrupted.
        """
        self._runner_of = runner_of
        self._run_code = run_code
        self._ours = ours
        self._wanted: tuple[int, type[BaseException]] | None = None
        self._main: int = native.original("_thread", "get_ident")()
        signal.signal(_SIGNAL, self._handle)

    def interrupt(self, call: int, error: type[BaseException]) -> bool:
        """Have ``error`` raised in a call, once, if it has the CPU right now; whether it has."""
        runner = self._runner_of(call)
        # Of all greenlets only the one that runs has no frame to go on with.
        if runner is None or runner.gr_frame is not None:
            return False
        if runner.raised == (call, error):
            return True
        self._wanted = (call, error)
        signal.pthread_kill(self._main, _SIGNAL)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        call, error = wanted
        runner = greenlet.getcurrent()
        if self._runner_of(call) is not runner:
            return
        called: FrameType | None = None
        while frame is not None and frame.f_code is not self._run_code:
            if frame.f_code.co_filename == _IMPORTS:
                return
            called, frame = frame, frame.f_back
        if frame is None or called is None:
            return
        if called.f_globals.get("__name__") not in self._ours:
            runner.raised = (call, error)
            raise error()
