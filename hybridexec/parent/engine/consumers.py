"""Those whose calls go on only as far as somebody fetches what has come of them: streaming calls.

Thread: any.
Guarantees: a thread that waits for the engine's end is not waited for by a call; nor is a task of
an event loop that awaits it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any, Protocol

from ... import native


class Fetcher:
    """The thread that makes this object, and the task that its event loop runs, if any."""

    __slots__ = ("_task", "_thread")

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        task = _current_task()
        self._task = None if task is None else weakref.ref(task)

    def waits(self, awaits: bool) -> bool:
        """Whether it can fetch no more while the calling thread waits, or its task ``awaits``."""
        if self._thread != threading.get_ident():
            return False
        task = None if self._task is None else self._task()
        return not awaits or task is None or task.done() or task is _current_task()


def _current_task() -> Any:
    asyncio: Any = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)  # another thread may be importing it
    if running is None or running() is None:
        return None
    return asyncio.current_task()


class Consumer(Protocol):
    """What fetches a call's items."""

    def leave(self, awaits: bool) -> None:
        """The calling thread is about to wait for the engine's end, or its task ``awaits`` that. If
        it is the one that fetches, let the call not wait for that."""


class Consumers:
    """One engine's."""

    def __init__(self) -> None:
        self._consumers: weakref.WeakSet[Consumer] = weakref.WeakSet()
        self._lock = native.new_lock()

    def add(self, consumer: Consumer) -> None:
        """Keep track of one, for as long as it exists."""
        with self._lock:
            self._consumers.add(consumer)

    def leave(self, awaits: bool = False) -> None:
        """The calling thread is about to wait for the engine's end, or its task ``awaits`` that."""
        with self._lock:
            consumers = list(self._consumers)
        for consumer in consumers:
            consumer.leave(awaits)
