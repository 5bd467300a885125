"""Keeps signal handlers of the user's from breaking what the main thread does between calls.

Thread: main, on which Python runs handlers; :func:`guard` once, when the initializer has ended.
Guarantees: what a handler raises is printed, and raised nowhere. No call can set a handler, because
calls run on other threads.
"""

from __future__ import annotations

import functools
import signal
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any


def guard() -> None:
    """Guard the handlers that there are now."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:
            signal.signal(number, _guarded(handler))


def _guarded(handler: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
    @functools.wraps(handler)
    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException:
            # Nobody called it, so nobody is there to be told.
            traceback.print_exc()

    return handle
