"""Tells which call some code is running for, in a few words.

Thread: any; it is asked in the midst of a call.
Guarantees: a call pays nothing for it before it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType

from ..wire.wording import call_text, function_name

#: How many texts are kept. Most calls that ask do so several times.
_MOST_KEPT = 256


class Texts:
    """Words for running calls."""

    def __init__(self, run_code: CodeType) -> None:
        """
        Args:
            run_code: what calls are called from, with a call's function, its item and whether that
                is bare as local variables.
        """
        self._run_code = run_code
        self._texts: dict[int, str] = {}

    def text(self, call: int, frame: Callable[[], FrameType | None]) -> str:
        """What tells a call; empty if it is not begun yet, or has ended and never asked.

        Args:
            frame: gets one that the call runs in, if it runs.
        """
        text = self._texts.get(call)
        if text is None:
            text = self._find(frame())
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
