"""Worker starts that have come to nothing, and when it is time to give up.

Runs on: whoever has the engine's turn, as part of the pool.
Guarantees: if no new worker gets as far as to take a call, no more than a few are started in a row,
and those that are there keep what they have.

A start has come to nothing if no process could be made, or if it was gone before it had taken a
call: before it was ready, or right after that. What kills one worker so kills the next one, most
likely. So from then on they are started one at a time, with pauses, until one has done better; that
several end together, which were started together, counts once.
"""

from __future__ import annotations

#: So many starts in a row may come to nothing.
MAX_FAILED_STARTS = 3
#: Seconds before the next one; each further time so many times as long, up to a limit.
_FIRST_PAUSE, _FACTOR, _LONGEST_PAUSE = 0.05, 4, 30.0


class Starts:
    """How a pool's worker starts have gone of late."""

    def __init__(self) -> None:
        self._failures = 0  # in a row
        self._newest = 0  # the newest worker that there was at the last one
        #: Not before this time another one is to be started.
        self.next_at = 0.0

    @property
    def doubtful(self) -> bool:
        """Whether the last start has come to nothing."""
        return self._failures > 0

    @property
    def hopeless(self) -> bool:
        """Whether too many have."""
        return self._failures >= MAX_FAILED_STARTS

    def fail(self, number: int, newest: int, now: float) -> None:
        """The start of worker ``number`` has come to nothing; the ``newest`` that there is may have
        been started before that was known."""
        if number > self._newest:
            self._newest = newest
            self.next_at = now + min(_FIRST_PAUSE * _FACTOR**self._failures, _LONGEST_PAUSE)
            self._failures += 1

    def succeed(self) -> None:
        """A worker has taken a call."""
        self._failures = 0
        self.next_at = 0.0
