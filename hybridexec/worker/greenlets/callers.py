"""Tells which call the current greenlet is running for, in a few words.

Thread: any, and any greenlet of main's; it is asked in the midst of a call.
Guarantees: as :mod:`hybridexec.worker.callers` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from greenlet import getcurrent

from ..callers import Texts


class Callers:
    """Words for the calls that greenlets run."""

    def __init__(
        self,
        call_of: Callable[[object], int],
        call_for: Callable[[object], int],
        runner_of: Callable[[int], Any],
        run_code: CodeType,
    ) -> None:
        """
        Args:
            call_of: the call that a greenlet runs; 0 if none.
            call_for: the call that has started a greenlet, or whose work it does; 0 if none.
            runner_of: the greenlet that runs a call; None if it has ended.
            run_code: as for :class:`.Texts`.
        """
        self._call_of = call_of
        self._call_for = call_for
        self._runner_of = runner_of
        self._texts = Texts(run_code)

    def current(self) -> str:
        """The call that the current greenlet runs, or works for; empty if none, or if the call is
        not begun yet, or has ended and never asked."""
        me = getcurrent()
        call = self._call_of(me) or self._call_for(me)
        if not call:
            return ""

        def frame() -> FrameType | None:
            runner = self._runner_of(call)
            found: FrameType | None = (
                sys._getframe() if runner is me else runner and runner.gr_frame
            )
            return found

        return self._texts.text(call, frame)
