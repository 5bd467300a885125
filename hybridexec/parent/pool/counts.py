"""How many calls went which way.

Thread: turn holder; any thread reads the numbers.
"""

from __future__ import annotations


class Counts:
    """Those of one lane."""

    __slots__ = ("cancelled", "failed", "finished", "lost", "retried", "submitted", "timed_out")

    def __init__(self) -> None:
        self.submitted = 0
        self.finished = 0
        self.failed = 0
        self.retried = 0
        self.timed_out = 0
        self.cancelled = 0
        self.lost = 0

    @property
    def ended(self) -> int:
        """How many have ended."""
        return self.finished + self.failed + self.timed_out + self.cancelled + self.lost


class Lanes(dict[str, Counts]):
    """Those of each lane; a lane is there when it has a crew."""

    def __missing__(self, lane: str) -> Counts:
        counts = self[lane] = Counts()
        return counts


class Sum:
    """A number of :class:`Counts`, of all lanes together, as an attribute of what has ``lanes``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, tally: object, owner: type | None = None) -> int:
        lanes: Lanes = tally.lanes  # type: ignore[attr-defined]  # it has
        return sum(getattr(counts, self._name) for counts in list(lanes.values()))
