"""How fast calls end, and when all will have ended.

Thread: the reporter's. It never looks at the clock itself.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ..progress import Progress

if TYPE_CHECKING:
    from ..parent.client.counted import Counts

#: The rate is that of the last seconds, or of the last calls if there were fewer.
_SECONDS, _CALLS = 10.0, 20


class Meter:
    """Makes a :class:`Progress` of counts."""

    def __init__(self, expected: int | None, now: float) -> None:
        """
        Args:
            expected: how many calls there are to be; None if that is not known.
            now: when the first calls were made, in monotonic seconds.
        """
        self._expected = expected
        self._began = now
        # When how many had ended.
        self._samples = deque([(now, 0)])

    def progress(self, counts: Counts, now: float, last: bool = False) -> Progress:
        """The progress; ``last``: at the end."""
        since, before = (self._began, 0) if last else self._sample(counts.done, now)
        elapsed = now - since
        rate = (counts.done - before) / elapsed if elapsed > 0 else 0.0
        total = counts.total
        if total is None and self._expected is not None and self._expected >= counts.made:
            total = self._expected
        eta = None
        if total == counts.done:
            eta = 0.0
        elif total is not None and rate and not last:
            eta = (total - counts.done) / rate
        return Progress(
            total, counts.done, counts.failed, counts.retried, counts.running, rate, eta
        )

    def _sample(self, done: int, now: float) -> tuple[float, int]:
        """Note how many have ended; returns where the time begins that the rate is taken over."""
        samples = self._samples
        if done > samples[-1][1]:
            samples.append((now, done))
        # To where more would be too few, so that the rate falls while nothing ends.
        while len(samples) > 2 and (
            now - samples[1][0] >= _SECONDS and done - samples[1][1] >= _CALLS
        ):
            samples.popleft()
        return samples[0]
