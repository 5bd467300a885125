"""Where a task is that waits: the frames of its coroutine and of what that waits for.

Thread: any.
Guarantees: changes nothing. The main thread may go on meanwhile, so what is told is of a moment.
"""

from __future__ import annotations

import asyncio
from types import CodeType
from typing import Any

from ..stacks import Place, place
from .traced import Traced

#: What has a frame, and what its kind calls that and what it waits for.
_KINDS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
_TRACED = Traced.__await__.__code__
#: Frames looked at; a deep recursion has thousands.
_MOST = 100


def of(task: asyncio.Task[Any], run_code: CodeType) -> list[Place]:
    """The places of the frames above that of ``run_code``, the innermost first.

    What a task waits for that is another task, is a part of it.
    """
    found: list[Place] = []
    at: Any = task
    for _ in range(_MOST):
        if isinstance(at, asyncio.Task):
            at = at.get_coro()
        kind = next((kind for kind in _KINDS if hasattr(at, kind[0])), None)
        frame = None if kind is None else getattr(at, kind[0])
        if kind is None or frame is None:
            break  # nothing is known of it, or it has just ended
        following = getattr(at, kind[1])
        if frame.f_code is _TRACED:
            following = frame.f_locals.get("steps")
        elif frame.f_code is not run_code:
            found.append(place(frame))
        if following is None or type(following).__name__ == "FutureIter":
            # It has no name for the future that it waits for.
            following = _awaited(task)
            if following is None:
                break
            task = following
        at = following
    return found[::-1]


def _awaited(task: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
    """The task that a task waits for, if it is one."""
    future = getattr(task, "_fut_waiter", None)
    return future if isinstance(future, asyncio.Task) else None
