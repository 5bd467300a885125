"""Greenlets that stand for runners, for tests of interrupts.

The signal is raised by the code under test itself, or by hand, so that it comes at a known point.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import Any

import greenlet

from hybridexec.worker.greenlets.interrupts import Interrupts


class Stopped(BaseException):
    """What is raised in calls here."""


def run(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """As a runner runs a call."""
    try:
        return "value", contextvars.copy_context().run(function, *arguments)
    except Stopped:
        return "stopped", None
    except ValueError as error:
        return "failed", str(error)


#: Lines of that on which the call has ended.
AFTERWARDS = range(run.__code__.co_firstlineno + 4, run.__code__.co_firstlineno + 8)


class Runner(greenlet.greenlet):
    """A greenlet that notes what was raised in which call."""

    raised: tuple[int, type[BaseException] | None] = (0, None)


def tell(runner: Any, call: int, error: type[BaseException]) -> None:
    runner.raised = (call, error)


def start(
    running: dict[int, Runner], call: int, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Run a call in a greenlet, until it ends or switches here."""
    running[call] = Runner(run)
    return running[call].switch(function, *arguments)


def burn(call: int, made: Interrupts) -> str:
    """Keep the CPU until ``call`` is interrupted, and ask for that now and then, as a helper thread
    does: what measures coverage may run the handler where it has to ignore a signal."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not made.interrupt(call, Stopped):
            return "refused"
        a_while()
    return "never interrupted"


def want(made: Interrupts, call: int) -> None:
    """As if an interrupt of ``call`` had been asked for."""
    made._wanted = (call, Stopped)
    made._looks = 100_000


def a_while() -> str:
    """Long enough for any signal to be handled."""
    for _ in range(1000):
        pass
    return "ran on"
