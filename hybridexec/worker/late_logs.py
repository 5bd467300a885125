"""Begins to send log records when a worker has imported logging: many programs never do there.

Thread: main, when the worker gets ready; then whichever imports logging, and whichever reads the
call pipe.
Guarantees: no record is made before records are sent. A process that a call has forked sends none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import native
from .late import after_import

if TYPE_CHECKING:
    from ..wire.log_ring import LogRing
    from ..wire.log_tree import Tree
    from .logs import Logs
    from .outbox import Outbox


class LateLogs:
    """The log records of a worker that may have none."""

    def __init__(self) -> None:
        self._tree: Tree | None = None
        self._logs: Logs | None = None

    def begin(
        self,
        tree: Tree,
        ring: LogRing,
        outbox: Outbox,
        call_helper: Callable[[], None],
        calling: Callable[[], str],
    ) -> None:
        """Send records, when there can be some; on the main thread. See :class:`.logs.Logs`."""
        self._tree = first = tree
        worker, main = os.getpid(), native.original("_thread", "get_ident")()

        def install(_: object) -> None:
            if os.getpid() != worker:
                return
            from .logs import Logs

            logs = self._logs = Logs(first, ring, outbox, call_helper, calling, main)
            logs.install()
            if self._tree is not None and self._tree is not first:  # it has changed meanwhile
                logs.follow(self._tree)

        after_import("logging", install)

    def follow(self, tree: Tree) -> None:
        """The parent's logging is like this now."""
        self._tree = tree
        if self._logs is not None:
            self._logs.follow(tree)
