"""The watchdog: decides which hubs have stopped ticking, and what to report about each.

Thread: turn holder, which passes in the time, heartbeats and answers, and carries out the steps.
Guarantees: each *episode* (from a hub's last tick to its next) is reported once, and the end of a
reported one once. Nothing here waits, reads a clock or ends a worker.

An episode that has reached the limit is investigated before it is reported::

    ask the worker's helper thread ──answer──▶ report
          └──no answer, so the GIL is held──▶ ask for faulthandler's dump ──▶ report

A worker that does neither (its process is stopped, say) is reported without a stack. If the hub
ticks meanwhile, nothing is reported: the parent, or the machine, had been asleep too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

#: Seconds for the helper thread to answer: many times what it needs to get the GIL.
ANSWER_SECONDS = 0.5
#: Seconds for faulthandler to write.
DUMP_SECONDS = 0.4
#: Longest time between two looks, in seconds, and the time while an episode is investigated.
_MAX_PERIOD, _BUSY_PERIOD = 0.5, 0.1


class Ask(NamedTuple):
    """Ask this worker what its main thread is doing."""

    worker: int


class Dump(NamedTuple):
    """Have faulthandler write what this worker's main thread is doing."""

    worker: int


class Report(NamedTuple):
    """Report that this worker's hub has not ticked for ``seconds``."""

    worker: int
    seconds: float
    #: The call that has the CPU; 0 if it is not known.
    call: int
    #: Where the main thread is; None if the worker did not answer, so that only a dump may tell.
    stack: str | None


class Discard(NamedTuple):
    """Discard what faulthandler has written in this worker: its hub ticks again."""

    worker: int


class Over(NamedTuple):
    """Report that this worker's hub ticks again, after ``seconds``."""

    worker: int
    seconds: float


Step = Ask | Dump | Report | Discard | Over


class _Episode:
    __slots__ = ("asked_at", "beat", "call", "dumped_at", "reported", "stack")

    def __init__(self, beat: float, asked_at: float) -> None:
        self.beat = beat  # the hub's last tick
        self.asked_at = asked_at
        self.dumped_at: float | None = None
        self.call = 0
        self.stack: str | None = None
        self.reported = False


class Watchdog:
    """Watches the hubs of one executor's workers."""

    def __init__(self, limit: float) -> None:
        """
        Args:
            limit: seconds without a tick after which an episode is reported.
        """
        self._limit = limit
        self._episodes: dict[int, _Episode] = {}

    @property
    def following(self) -> Collection[int]:
        """The workers with an episode: they must stay in ``beats`` until it ends."""
        return self._episodes.keys()

    @property
    def period(self) -> float:
        """Seconds until :meth:`look` is to be called again."""
        if all(episode.reported for episode in self._episodes.values()):
            return min(self._limit / 4, _MAX_PERIOD)
        return _BUSY_PERIOD

    def look(self, now: float, beats: Mapping[int, float]) -> list[Step]:
        """Decide what to do; ``beats`` has the last tick of each hub that is watched."""
        steps: list[Step] = []
        for worker, beat in beats.items():
            episode = self._episodes.get(worker)
            if episode is not None and beat != episode.beat:
                del self._episodes[worker]
                if episode.reported:
                    steps.append(Over(worker, beat - episode.beat))
                elif episode.dumped_at is not None:
                    steps.append(Discard(worker))
                episode = None
            if episode is None:
                if now - beat >= self._limit:
                    self._episodes[worker] = _Episode(beat, now)
                    steps.append(Ask(worker))
            elif not episode.reported:
                steps += self._look_into(worker, episode, now)
        return steps

    def _look_into(self, worker: int, episode: _Episode, now: float) -> list[Step]:
        if episode.stack is None:
            if episode.dumped_at is None:
                if now - episode.asked_at < ANSWER_SECONDS:
                    return []
                episode.dumped_at = now
                return [Dump(worker)]
            if now - episode.dumped_at < DUMP_SECONDS:
                return []
        episode.reported = True
        return [Report(worker, now - episode.beat, episode.call, episode.stack)]

    def answered(self, worker: int, call: int, stack: str) -> None:
        """A worker has answered; an empty ``stack`` means that its hub itself had time to."""
        episode = self._episodes.get(worker)
        if episode is not None and stack:
            episode.call = call
            episode.stack = stack

    def blocker(self, worker: int) -> int:
        """The call that blocks this worker's hub; 0 if none does or it is not known."""
        episode = self._episodes.get(worker)
        return 0 if episode is None else episode.call

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        self._episodes.pop(worker, None)
