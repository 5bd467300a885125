"""What a future asks of whoever runs its call: the engine, for the calls of its workers.

Thread: any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from .callbacks import Callbacks

if TYPE_CHECKING:
    from .batch import Call
    from .future import CallFuture


class Keeper(Protocol):
    """Runs calls and ends their futures."""

    #: Whether this is the copy in a forked process, which is of no use: its calls never end.
    inert: bool
    #: Whether threads of this process may block to wait; not in one that gevent has patched.
    blocking_waits: bool
    #: Calls the futures' callbacks.
    callbacks: Callbacks

    def check_open(self) -> None:
        """Raise if there will be no outcome: the error says why."""

    def is_running(self, call: int) -> bool:
        """Whether a worker runs the call with this id now."""

    def running_calls(self) -> Iterator[Call]:
        """The calls that workers run now."""

    def cancel_call(self, call: CallFuture[Any]) -> None:
        """Cancel a call whose future has ended."""

    def lead(self, call: CallFuture[Any], timeout: float | None) -> None:
        """The calling thread is about to wait up to ``timeout`` seconds for this outcome: let it
        read the outcome itself, for a moment, if it may."""

    def follow(self, call: CallFuture[Any]) -> None:
        """A thread waits for or polls this outcome other than in :meth:`lead`."""
