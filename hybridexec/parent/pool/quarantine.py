"""Suspects: calls whose worker died while they ran. Any of them may have killed it.

Thread: turn holder.
Guarantees: suspects share a worker with suspects only; each is tried a bounded number of times; a
cancelled call is never handed out.

Calls that may run again after their worker's death (``on_worker_loss="retry"``) run as suspects, a
group at a time, each group in a worker that runs nothing else and ends with it:

- If the status page says which call had the CPU when the worker died, that call is a group of its
  own and the others form another, which will most likely succeed.
- A group whose worker dies too is split into parts, down to single calls.
- A call whose workers die with it alone, or with others, too often is the culprit: it fails.

With one culprit among n calls, the others run two or three times; with any number of culprits, at
most about log(n) times.
"""

from __future__ import annotations

from collections import deque

from ..work.batch import SUSPECT, Call

#: Deaths of workers that ran a call alone, after which it fails. One could be an accident: a system
#: that is short of memory kills the largest process.
MAX_ALONE = 3
#: Deaths of workers that ran a call, alone or not, after which it fails.
MAX_DEATHS = 14
#: Deaths in a row, with no suspect succeeding between them, after which all suspects fail.
MAX_DEATHS_IN_A_ROW = 200
#: Parts into which a group is split when its worker dies.
_PARTS = 4


class Quarantine:
    """Groups of suspects that wait for a worker of their own."""

    def __init__(self) -> None:
        # May contain calls that were cancelled meanwhile: they are skipped when they come up.
        self._groups: deque[list[Call]] = deque()
        self._deaths = 0  # in a row
        # Invariant: how many of the calls are SUSPECT.
        self.count = 0

    @property
    def groups(self) -> int:
        """How many groups wait, each for a worker of its own."""
        return len(self._groups) if self.count else 0

    def implicate(self, calls: list[Call], running: int, current: int, text: str) -> list[Call]:
        """Put calls that ran in a worker that died into groups.

        Args:
            running: how many calls ran in that worker, these included.
            current: id of the call that had the CPU; 0 if it is not known.
            text: how the worker died, in one line.

        Returns:
            The calls to give up, which were tried too often.
        """
        if not self.count and all(not batch.history_of(place).deaths for batch, place in calls):
            self._deaths = 0  # no earlier suspects are left
        self._deaths += 1
        fresh = True
        given_up: list[Call] = []
        alone: list[Call] = []
        others: list[Call] = []
        for call in calls:
            batch, place = call
            history = batch.history_of(place)
            fresh = fresh and not history.deaths
            history.deaths += 1
            history.alone += running == 1
            if (
                history.alone >= MAX_ALONE
                or history.deaths >= MAX_DEATHS
                or self._deaths >= MAX_DEATHS_IN_A_ROW
            ):
                given_up.append(call)
                continue
            history.texts.append(text)
            (alone if batch.first + place == current else others).append(call)
        self._put_first([alone, *_split(others, 1 if alone and fresh else _PARTS)])
        if self._deaths >= MAX_DEATHS_IN_A_ROW:
            given_up += self.clear()
            self._deaths = 0
        return given_up

    def put_back(self, calls: list[Call]) -> None:
        """Take back, as a group, calls that had not started when their worker died."""
        self._put_first([calls])

    def _put_first(self, groups: list[list[Call]]) -> None:
        for group in reversed(groups):
            if group:
                self._groups.appendleft(group)
                self.count += len(group)
                for batch, place in group:
                    batch.park(place, SUSPECT)

    def take(self, count: int) -> list[Call]:
        """Hand out the next group, or its first ``count`` calls."""
        group: list[Call] = []
        while self._groups and not group:
            calls = _wanted(self._groups.popleft())
            group = calls[:count]
            if calls[count:]:
                self._groups.appendleft(calls[count:])
        self.forget(len(group))
        return group

    def forget(self, count: int) -> None:
        """``count`` of the calls do not wait here any more."""
        self.count -= count
        if not self.count:
            self._groups.clear()  # a batch of which no call waits may hold much memory

    def came_through(self) -> None:
        """A suspect has ended and its worker lives."""
        self._deaths = 0

    def clear(self) -> list[Call]:
        """Hand out all calls."""
        calls = [call for group in self._groups for call in _wanted(group)]
        self.forget(self.count)
        return calls


def _wanted(calls: list[Call]) -> list[Call]:
    """Those that were not cancelled."""
    return [(batch, place) for batch, place in calls if batch.states[place] == SUSPECT]


def _split(calls: list[Call], parts: int) -> list[list[Call]]:
    size = -(-len(calls) // parts) or 1
    return [calls[start : start + size] for start in range(0, len(calls), size)]
