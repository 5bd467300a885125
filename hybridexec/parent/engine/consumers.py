"""Those whose calls go on only as far as somebody fetches what has come of them: streaming calls.

Thread: any.
Guarantees: a thread that waits for the engine's end is not waited for by a call.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from ... import native


class Consumer(Protocol):
    """What fetches a call's items."""

    def leave(self) -> None:
        """The calling thread is about to wait for the engine's end. If it is the one that fetches,
        let the call not wait for that."""


class Consumers:
    """One engine's."""

    def __init__(self) -> None:
        self._consumers: weakref.WeakSet[Consumer] = weakref.WeakSet()
        self._lock = native.new_lock()

    def add(self, consumer: Consumer) -> None:
        """Keep track of one, for as long as it exists."""
        with self._lock:
            self._consumers.add(consumer)

    def leave(self) -> None:
        """The calling thread is about to wait for the engine's end."""
        with self._lock:
            consumers = list(self._consumers)
        for consumer in consumers:
            consumer.leave()
