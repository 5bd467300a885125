"""Tells which call some code is running for, in a few words.

Thread: any, and any greenlet of main's; it is asked in the midst of a call.
Guarantees: a call pays nothing for it before it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from greenlet import getcurrent

from ...wire.wording import call_text, function_name

#: How many texts are kept. Most calls that ask do so several times.
_MOST_KEPT = 256


class Callers:
    """Words for running calls."""

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
            run_code: what calls are called from, with a call's function, its item and whether that
                is bare as local variables.
        """
        self._call_of = call_of
        self._call_for = call_for
        self._runner_of = runner_of
        self._run_code = run_code
        self._texts: dict[int, str] = {}

    def current(self) -> str:
        """The call that the current greenlet runs, or works for; empty if none, or if the call is
        not begun yet, or has ended and never asked."""
        me = getcurrent()
        call = self._call_of(me) or self._call_for(me)
        if not call:
            return ""
        text = self._texts.get(call)
        if text is None:
            runner = self._runner_of(call)
            text = self._find(sys._getframe() if runner is me else runner and runner.gr_frame)
            if text:
                if len(self._texts) >= _MOST_KEPT:
                    self._texts.clear()
                self._texts[call] = text
        return text

    def _find(self, frame: FrameType | None) -> str:
        while frame is not None and frame.f_code is not self._run_code:
            frame = frame.f_back
        return "" if frame is None else _text(frame)


def _text(frame: FrameType) -> str:
    variables = frame.f_locals
    function, item, bare = (variables.get(name) for name in ("function", "item", "bare"))
    if sys.version_info < (3, 13):
        # A copy that the frame would keep, and with it the call's arguments.
        variables.clear()
    if function is None:
        return ""
    return call_text(function_name(function), (item,) if bare else item)
