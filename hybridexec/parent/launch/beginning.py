"""What each worker calls first: the initializer.

Runs on: the caller's thread makes it; the threads that start workers read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Beginning:
    """What each worker calls first, for as long as workers may be started."""

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.initializer: Callable[..., object] | None = initializer
        self.initargs: tuple[Any, ...] = initargs

    def let_go(self) -> None:
        """No worker will be started: locks and queues among them need not outlive the others."""
        self.initializer = None
        self.initargs = ()
