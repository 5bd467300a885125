"""What each worker calls first: the initializer.

Thread: the caller's makes it; those that start workers read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Beginning:
    """The initializer and its arguments, kept for as long as workers may be started."""

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.initializer: Callable[..., object] | None = initializer
        self.initargs: tuple[Any, ...] = initargs

    def let_go(self) -> None:
        """No more workers are started: keep the initializer and its arguments alive no longer;
        there may be locks and queues among them."""
        self.initializer = None
        self.initargs = ()
