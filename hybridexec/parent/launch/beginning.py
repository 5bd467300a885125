"""What each worker calls first: what makes its event loop, if it has one, the initializer, and what
makes its state.

Thread: the caller's makes it; those that start workers read it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Beginning:
    """The initializer with its arguments, and what makes event loops and states, kept for as long
    as workers may be started."""

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        loop_factory: Callable[[], object] | None = None,
        worker_state: Callable[[], object] | None = None,
    ) -> None:
        self.initializer: Callable[..., object] | None = initializer
        self.initargs: tuple[Any, ...] = initargs
        self.loop_factory: Callable[[], object] | None = loop_factory
        self.worker_state: Callable[[], object] | None = worker_state

    def let_go(self) -> None:
        """No more workers are started: keep these alive no longer; there may be locks and queues
        among the arguments."""
        self.initializer = self.loop_factory = self.worker_state = None
        self.initargs = ()
