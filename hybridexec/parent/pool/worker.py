"""What the pool knows of a worker, and how far ahead it is sent calls (its window).

Thread: turn holder.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ...process import Process
from ..work.batch import Batch
from .deadlines import HUB_LATE, Deadlines
from .in_flight import InFlight
from .page import Page, Unseen

if TYPE_CHECKING:
    from .crew import Crew

#: Calls sent ahead of free slots: enough to hide one round trip; more would delay cancel().
MIN_WINDOW = 2
MAX_WINDOW = 65536
#: The largest that a worker gets because it has run dry, which says nothing about its calls.
MAX_GUESS = 16384
#: Bytes of large payloads in the calls of a window, but that MIN_WINDOW calls may have more. More
#: would only be copied twice, and to memory that no cache has.
MAX_AHEAD = 1024 * 1024
#: A new worker's window, before anything is known about its calls.
FIRST_WINDOW = 4
#: Seconds' worth of calls that a window holds, at the rate at which the worker takes them.
HORIZON = 0.01
#: Shortest time, in seconds, over which that rate is measured.
_MIN_SAMPLE = 0.0005


class WorkerState(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    QUARANTINE = "quarantine"
    RETIRING = "retiring"
    STOPPING = "stopping"


class Worker:
    """What the pool knows of one worker."""

    __slots__ = (
        "ahead",
        "asked",
        "budget",
        "crew",
        "deadlines",
        "done",
        "exists",
        "expired",
        "failed",
        "forsaken",
        "held_at",
        "holds",
        "id",
        "in_flight",
        "known",
        "limited",
        "moved_at",
        "page",
        "place",
        "predecessor",
        "process",
        "quarantine",
        "recalled_at",
        "recalls",
        "recycled",
        "rested_at",
        "sampled_at",
        "sampled_done",
        "sampled_taken",
        "state",
        "window",
    )

    def __init__(
        self,
        number: int,
        crew: Crew,
        budget: int | None,
        predecessor: Worker | None,
        deadlines: Deadlines,
        quarantine: bool = False,
        place: int = 0,
    ) -> None:
        self.id = number
        #: Whose worker it is.
        self.crew = crew
        #: From 0 up to the number of workers: another of its crew that replaces it has the same.
        self.place = place
        #: Whether it runs one group of suspects and nothing else.
        self.quarantine = quarantine
        self.state = WorkerState.STARTING
        self.exists = False  # it was started
        self.process = Process(None)
        self.page: Page = Unseen(self)
        # A worker takes calls in the order sent, so the first `taken - done` of these have started,
        # and no others.
        self.in_flight = InFlight()
        #: Why another is to take its place; empty if none is.
        self.recycled = ""
        self.done = 0  # calls it has taken and answered
        self.failed = 0  # those of them that ended with an error
        self.known: set[int] = set()  # numbers of the functions it has
        self.budget = budget  # calls it may still be sent; None for no limit
        # The worker it replaces, until that has drained. Such a chain shares one worker's slots, so
        # that no more calls run at once than were asked for.
        self.predecessor = predecessor
        self.window = FIRST_WINDOW  # unstarted calls it may have
        self.ahead = MIN_WINDOW  # calls it may have beyond its slots
        self.sampled_at = 0.0
        self.sampled_taken = 0
        self.sampled_done = 0
        self.moved_at = 0.0  # when `taken` was last seen to have grown
        self.rested_at = 0.0  # when it last answered the only call it had
        self.asked = False  # whether a LowWatermark is due
        self.limited = False  # when calls were last sent, more were waiting
        self.deadlines = deadlines
        #: Calls that it is being killed for, because they did not end at their deadlines.
        self.expired: set[int] = set()
        #: Whether it is killed as soon as the calls that it has are all abandoned.
        # Invariant: it is RETIRING or STOPPING then.
        self.forsaken = False
        # Recalls not answered yet. Meanwhile nothing is sent, or the order of `sent` would not be
        # known.
        self.recalls = 0
        self.recalled_at = 0.0  # when the last Recall was sent because it was stuck
        self.holds = 0  # how often it was held
        self.held_at: float | None = None  # since when it is held, until its calls are reclaimed

    @property
    def pid(self) -> int | None:
        """That of its process."""
        return self.process.pid

    @property
    def taken(self) -> int:
        """How many calls it has taken from its inbox."""
        return self.page.taken

    @property
    def running(self) -> int:
        """How many calls have started and not been answered."""
        return self.taken - self.done

    @property
    def waiting(self) -> int:
        """How many calls were sent and have not started."""
        return len(self.in_flight) - self.running

    @property
    def kept_slots(self) -> int:
        """How many slots its calls keep from its replacement."""
        abandoned = len(self.deadlines.abandoned) if self.forsaken else 0
        return self.in_flight.count - abandoned

    @property
    def is_idle(self) -> bool:
        """Whether it is ready for calls and has none."""
        return self.state is WorkerState.READY and not self.in_flight.count and not self.recalls

    @property
    def idle_since(self) -> float:
        """Since when, if it is idle."""
        return max(self.moved_at, self.rested_at)

    def window_for(self, weight: int) -> int:
        """How many unstarted calls it may have, if they have ``weight`` bytes each."""
        return min(self.window, max(MIN_WINDOW, MAX_AHEAD // weight)) if weight else self.window

    def is_kept(self, now: float) -> bool:
        """Whether a call blocks its hub, so that no other can start."""
        return self.running > 0 and now - self.page.heartbeat > HUB_LATE

    @property
    def may_give(self) -> bool:
        """Whether it has calls that it can be asked to give back."""
        return (
            self.state in (WorkerState.READY, WorkerState.RETIRING)
            and not self.recalls
            and not self.quarantine
            and self.waiting > 0
        )

    @property
    def hoards(self) -> bool:
        """Whether it can give back calls and has more of them than a stuck worker should."""
        return self.may_give and self.waiting > MIN_WINDOW

    def take_back(self, calls: list[int]) -> list[tuple[Batch, int]]:
        """Remove calls that have not started; returns their batches and ids."""
        if self.budget is not None:
            self.budget += len(calls)
        for call in calls:
            self.deadlines.remove(call)
        return [(self.in_flight.pop(call), call) for call in calls]

    def begin_sample(self, now: float) -> None:
        """Calls are about to be sent: leave out the time in which it had none to take."""
        if not self.in_flight.count:
            self.moved_at = self.sampled_at = now
            self.sampled_taken = self.sampled_done = self.done
        elif self.waiting <= 0:
            self.moved_at = now

    def sample(self, now: float) -> None:
        """Fit the window to the rate at which it takes calls."""
        if self.limited and not self.in_flight:
            # It has run dry: its calls take less time than sending more does, or less than it waits
            # for a processor, so the rate says nothing about the calls.
            self.limited = False
            self.window = max(self.window, min(2 * self.window, MAX_GUESS))
            self.ahead = max(self.ahead, min(2 * self.ahead, MAX_GUESS))
            self.moved_at = now
            self._begin_sample(now)
            return
        taken = self.page.taken
        if taken == self.sampled_taken:
            return
        self.moved_at = now
        elapsed = now - self.sampled_at
        if elapsed < _MIN_SAMPLE:
            return
        # Down only if calls wait there: a worker that took all it had could have taken more.
        least = 2 if self.waiting > 0 else 1
        self.window = _fit(self.window // least, taken - self.sampled_taken, elapsed)
        self.ahead = _fit(self.ahead // least, self.done - self.sampled_done, elapsed)
        self._begin_sample(now)

    def _begin_sample(self, now: float) -> None:
        self.sampled_at = now
        self.sampled_taken = self.taken
        self.sampled_done = self.done


def _fit(least: int, calls: int, elapsed: float) -> int:
    """The next window, after ``calls`` went through in ``elapsed`` seconds; not below ``least``."""
    wanted = int(calls / elapsed * HORIZON)
    # Up at once, but down by halves, so that one slow call does not stall a stream of fast ones.
    return max(MIN_WINDOW, min(MAX_WINDOW, max(wanted, least)))
