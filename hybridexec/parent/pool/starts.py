"""Failed worker starts, and when to give up.

Thread: turn holder.
Guarantees: if no new worker gets as far as taking a call, only a few are started in a row, and the
workers that run keep their calls.

A start has failed if no process could be made, or if the process ended before it took a call:
before it was ready, or right after. What ends one worker this early most likely ends the next, so
workers are then started one at a time, with growing pauses, until one takes a call. Workers that
were started together and end together count as one failure.
"""

from __future__ import annotations

#: Consecutive failed starts after which there is no hope.
MAX_FAILED_STARTS = 3
#: Seconds until the next start, multiplied by the factor after each further failure, up to a limit.
_FIRST_PAUSE, _FACTOR, _LONGEST_PAUSE = 0.05, 4, 30.0


class Starts:
    """The recent worker starts of a pool."""

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._newest = 0  # the newest worker at the time of the last one
        #: No worker is to be started before this time.
        self.next_at = 0.0

    @property
    def doubtful(self) -> bool:
        """Whether the last start failed."""
        return self._failures > 0

    @property
    def hopeless(self) -> bool:
        """Whether too many starts in a row have failed."""
        return self._failures >= MAX_FAILED_STARTS

    def fail(self, number: int, newest: int, now: float) -> None:
        """The start of worker ``number`` failed. Workers up to ``newest`` were started before that
        was known, so their failures will not count."""
        if number > self._newest:
            self._newest = newest
            self.next_at = now + min(_FIRST_PAUSE * _FACTOR**self._failures, _LONGEST_PAUSE)
            self._failures += 1

    def succeed(self) -> None:
        """A worker has taken a call."""
        self._failures = 0
        self.next_at = 0.0
