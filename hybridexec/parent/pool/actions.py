"""Actions: what the pool decides that the supervisor is to do; and the tally of what has been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...wire.messages import ToWorker
from ...wire.shared import Part
from .tally import Tally


class Start(NamedTuple):
    """Start a process for this worker, which is of that lane."""

    worker: int
    lane: str


class Send(NamedTuple):
    """Tell this worker something."""

    worker: int
    message: ToWorker
    segments: Sequence[Part]


class Kill(NamedTuple):
    """Send a signal to this worker's process."""

    worker: int
    signal: int


Action = Start | Send | Kill


class Actions:
    """What has been decided and not been carried out yet."""

    def __init__(self) -> None:
        #: In order.
        self.decided: list[Action] = []
        #: What has happened.
        self.tally = Tally()

    def start(self, worker: int, lane: str) -> None:
        """Decide on a :class:`Start`."""
        self.decided.append(Start(worker, lane))

    def send(self, worker: int, message: ToWorker, segments: Sequence[Part] = ()) -> None:
        """Decide on a :class:`Send`."""
        self.decided.append(Send(worker, message, segments))

    def kill(self, worker: int, signal: int) -> None:
        """Decide on a :class:`Kill`."""
        self.decided.append(Kill(worker, signal))

    def take(self) -> list[Action]:
        """The actions since the last time."""
        decided, self.decided = self.decided, []
        return decided
