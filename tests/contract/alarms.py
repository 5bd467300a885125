"""What tests of alarms and signal handlers share."""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable
from typing import Any


class TimeIsUp(Exception):
    """What handlers raise here."""


class Flagged(BaseException):
    """The same, past ``except Exception``."""


def on_alarm(number: int, frame: object) -> None:
    raise TimeIsUp(number)


def alarm_after(seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As decorators for time-outs do it."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def limited(*arguments: Any) -> Any:
            before = signal.signal(signal.SIGALRM, on_alarm)
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                return function(*arguments)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return limited

    return decorate


def burn_long() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pass


def burn(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    return "burnt"
