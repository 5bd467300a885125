"""What those who show an executor may ask of it: the door for ``hybridexec.watching``.

Thread: any, without a lock: each answer was true a moment ago.
Guarantees: no worker is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...stats import ExecutorStats
from .. import lifecycle
from ..pool.failures import Failure
from .history import History
from .observers import Companion
from .statistics import histograms, stats

if TYPE_CHECKING:
    from .engine import Engine

#: From how many seconds, to how many, and how many calls are between.
Buckets = list[tuple[float, float, int]]


class Watched:
    """One executor, as it may be watched."""

    def __init__(self, engine: Engine, slots: Mapping[str, int]) -> None:
        """
        Args:
            slots: how many calls each worker runs at once, by lane.
        """
        self.slots = slots
        self._engine = engine
        self._tally = engine.snapshot.tally

    @property
    def max_workers(self) -> int:
        """How many workers run calls at most."""
        return self._engine.snapshot.max_workers

    @property
    def began_at(self) -> float:
        """When the executor's parts were made, in monotonic seconds."""
        return self._engine.sampler.began_at

    @property
    def state(self) -> str:
        """``"running"``, ``"broken"``, ``"shutting down"`` or ``"ended"``."""
        engine = self._engine
        if engine.ended.is_set():
            return "ended"
        if engine.closed is not None:
            return "shutting down"
        return "running" if engine.broken is None else "broken"

    def stats(self) -> ExecutorStats:
        """As the executor's method of that name."""
        self._engine.follow()
        return stats(self._engine.snapshot)

    def ended(self) -> tuple[list[tuple[float, int]], int]:
        """How many calls had ended at some times of the last minute, in monotonic seconds and at
        least a second apart, each just before another did; and how many have now."""
        return self._tally.marks(), self._tally.ended

    def failures(self) -> list[Failure]:
        """How calls have failed, in groups; the latest last."""
        return self._tally.failures.groups()

    def stacks(self) -> list[dict[str, Any]]:
        """Where the calls of each worker are; this waits for workers, for a second or so, and so is
        for a native thread of its own. See :mod:`hybridexec.watching.stacks`."""
        return self._engine.stacks()

    def log(self) -> list[tuple[Any, ...]]:
        """What has happened to workers: for each event when, the name of its class, and its other
        fields in their order; the latest last."""
        return list(self._tally.log)

    def history(self) -> History:
        """What the executor did over time."""
        self._engine.follow()
        return self._engine.sampler.history()

    def durations(self) -> tuple[Buckets, Buckets]:
        """How many calls have run for how long, and waited."""
        runs, waits = histograms(self._engine.snapshot)
        return runs.buckets(), waits.buckets()

    def accompany(self, companion: Companion) -> bool:
        """Have it end with the executor; false if that has ended."""
        return self._engine.observers.accompany(companion)

    def leave(self, companion: Companion) -> None:
        """It has ended before the executor."""
        self._engine.observers.leave(companion)

    def keep_from_children(self, fd: int) -> None:
        """Close this descriptor in every process that is forked from this one, until
        :meth:`release`."""
        lifecycle.keep_from_children(fd)

    def release(self, fd: int) -> None:
        """This descriptor is about to be closed."""
        lifecycle.release(fd)
