"""What a future asks of whoever has its call.

Runs on: any thread. The engine does it for the calls of its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .callbacks import Callbacks

if TYPE_CHECKING:
    from .future import CallFuture


class Keeper(Protocol):
    """Has calls until they have ended, and ends their futures."""

    #: Whether this is a forked process's copy, and of no use: its calls never end.
    inert: bool
    #: Whether a thread of this process that waits may block: in a patched one it may not.
    blocking_waits: bool
    #: Calls what was added to the futures.
    callbacks: Callbacks

    def check_open(self) -> None:
        """Raise why there will be no outcome, if there will be none."""

    def is_running(self, call: int) -> bool:
        """Whether a worker runs the call of this id now."""

    def cancel_call(self, call: CallFuture[Any]) -> None:
        """The call is not wanted any more; its future has ended."""

    def lead(self, call: CallFuture[Any], timeout: float | None) -> None:
        """The calling thread is about to wait for this outcome, up to ``timeout`` seconds: it may
        fetch it itself, for a moment."""

    def follow(self, call: CallFuture[Any]) -> None:
        """Somebody is interested in this outcome who does not wait for it in ``lead``."""
