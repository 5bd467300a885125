"""Starts tasks at once, and not with the next turn of the loop: a call that never waits ends in the
step that begins it, and until the one before it waits or has ended, no call is begun.

Thread: main, in a callback of the loop: no task is running there.
Guarantees: each is a task of its own from its first step on: ``asyncio.current_task()`` is right.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

#: Starts a coroutine as a task, in a context of its own; returns when it waits or has ended.
Start = Callable[[Coroutine[Any, Any, None], Context], "asyncio.Task[None]"]
#: All have it: to number them takes as long as to run a short call.
_NAME = "hybridexec call"


def starter(loop: Any) -> Start:
    """What starts tasks of this loop.

    Raises:
        TypeError: this Python cannot do it with such a loop.
    """
    if sys.version_info >= (3, 12):

        def start(coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
            return asyncio.Task(coroutine, loop=loop, name=_NAME, context=context, eager_start=True)

        return start

    # Here a new task puts its first step into the loop; it is taken from there.
    steps: list[Callable[[], None]] = []

    def keep(step: Callable[[], None], *, context: Context) -> None:
        steps.append(step)

    def start_311(coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        loop.call_soon = keep
        try:
            task = asyncio.Task(coroutine, loop=loop, name=_NAME, context=context)
        finally:
            del loop.call_soon
        context.run(steps.pop())
        return task

    try:
        loop.call_soon = loop.call_soon
        del loop.call_soon
    except AttributeError:
        raise TypeError(
            f"on Python 3.11, calls cannot run on a {type(loop).__name__}, because it lets no "
            "attribute be set: use asyncio's loop or uvloop's (loop_factory=), or Python 3.12"
        ) from None
    return start_311
