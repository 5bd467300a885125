"""Actions: what the pool decides that the supervisor is to do, and what it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ...wire.messages import ToWorker
from ...wire.shared import Part
from .tally import Tally

if TYPE_CHECKING:
    from ...events import Event


class Start(NamedTuple):
    """Start a process for this worker."""

    worker: int


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


class Abandoned(NamedTuple):
    """Report that calls with these names were cancelled and go on in a worker, after the grace
    period."""

    pid: int | None
    names: list[str]


class Actions:
    """What has been decided and not been carried out yet."""

    def __init__(self) -> None:
        #: In order.
        self.decided: list[Action] = []
        #: What is to be reported.
        self.unsaid: list[Abandoned] = []
        #: What has happened.
        self.tally = Tally()

    def start(self, worker: int) -> None:
        """Decide on a :class:`Start`."""
        self.decided.append(Start(worker))

    def send(self, worker: int, message: ToWorker, segments: Sequence[Part] = ()) -> None:
        """Decide on a :class:`Send`."""
        self.decided.append(Send(worker, message, segments))

    def kill(self, worker: int, signal: int) -> None:
        """Decide on a :class:`Kill`."""
        self.decided.append(Kill(worker, signal))

    def say(self, pid: int | None, names: list[str]) -> None:
        """Decide on an :class:`Abandoned`."""
        self.unsaid.append(Abandoned(pid, names))

    def take_unsaid(self) -> list[Abandoned]:
        """The reports since the last time."""
        unsaid, self.unsaid = self.unsaid, []
        return unsaid

    def take(self) -> list[Action]:
        """The actions since the last time."""
        decided, self.decided = self.decided, []
        return decided

    def take_events(self, now: float) -> list[Event]:
        """What has happened since the last time, as far as somebody listens."""
        emitter = self.tally.emitter
        return [] if emitter is None else emitter.take(now)
