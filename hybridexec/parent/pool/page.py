"""What the pool asks of a worker's status page, and what it takes for granted without one.

Thread: turn holder; any thread may read, and then gets what was true a moment ago.

A worker that shares no memory with this process, because it is on another machine, has no page.
That leads to this:

- What was sent counts as started: at most once must hold, and nothing tells the contrary. So if
  such a worker is lost, all its calls fail or become suspects, and ``Future.running()`` is true of
  them. Calls that it was not sent go to others.
- None is recalled or reclaimed from it. (At shutdown it is asked, and what it gives back has not
  started.)
- Timeouts are its own affair: who runs the calls has to stop them at their deadlines and, after the
  grace period, to end what does not stop. Here, when they started is not known, so nobody is
  interrupted, given up or killed. If nothing comes from it at all, that is for its link to notice.
- A cancelled call that is not answered within the grace period is reported, as any other. It does
  not cost its worker: it may not have started.
- Whether its hub is blocked is not known, so it is not watched.

A link that is told some of this by the far end may have a page of its own that says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from ...wire.histogram import Histogram

if TYPE_CHECKING:
    from .in_flight import InFlight


class Counted(Protocol):
    """What is known of a worker's calls without its page: a ``Worker``."""

    done: int
    in_flight: InFlight


class Page(Protocol):
    """What is known of a worker at any time, without asking it."""

    @property
    def taken(self) -> int:
        """How many calls it has taken from its inbox, so that they may have started."""

    @property
    def heartbeat(self) -> float:
        """When its hub last ticked, in monotonic seconds; 0 before its first tick."""

    @property
    def current(self) -> int:
        """The call that has the CPU; 0 if none has or it is not known; ``wire.page.SHARED`` where
        calls run in threads."""

    @property
    def busy(self) -> float:
        """For which share of the last seconds another call could not have run, from 0 to 1."""

    @property
    def cpu_seconds(self) -> float:
        """The CPU that it has used, in seconds."""

    @property
    def resident(self) -> int:
        """Its bytes in RAM; 0 if that is not known."""

    @property
    def run_seconds(self) -> Histogram:
        """For how long its calls have run."""

    @property
    def wait_seconds(self) -> Histogram:
        """For how long its calls had waited until they ran."""

    def running(self) -> Mapping[int, float]:
        """The running calls by id, with their start in monotonic seconds."""

    def starts(self) -> list[float]:
        """When the running calls have started, as far as that is known."""

    def earliest(self, count: int) -> list[tuple[float, int]]:
        """When those of them that have started first did, and their ids; so many at most."""

    def hold(self, number: int) -> bool:
        """Keep the worker from taking calls; returns whether that is possible, see
        :meth:`StatusPage.hold`."""


class Unseen:
    """Stands in for the page of a worker that has none, or does not exist yet."""

    heartbeat = math.inf
    current = resident = 0
    busy = cpu_seconds = 0.0
    run_seconds = wait_seconds = Histogram()

    def __init__(self, worker: Counted) -> None:
        self._worker = worker

    @property
    def taken(self) -> int:
        """All that were sent."""
        return self._worker.done + self._worker.in_flight.count

    def running(self) -> Mapping[int, float]:
        """All that were sent and not answered."""
        return _Sent(self._worker.in_flight)

    def starts(self) -> list[float]:
        """Nothing is known."""
        return []

    def earliest(self, count: int) -> list[tuple[float, int]]:
        """Nothing is known."""
        return []

    def hold(self, number: int) -> bool:
        """Nobody can, from here."""
        return False


class _Sent(Mapping[int, float]):
    """The calls that were sent: not before the end of time is one known to be late."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    def __getitem__(self, call: int) -> float:
        if call in self._in_flight:
            return math.inf
        raise KeyError(call)

    def __iter__(self) -> Iterator[int]:
        return (call for call, _ in self._in_flight.calls())

    def __len__(self) -> int:
        return self._in_flight.count
