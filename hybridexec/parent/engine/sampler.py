"""When the history gets its samples: often at first, then once a second, while there are calls.

Thread: the I/O thread, in a turn; :meth:`Sampler.history` and :meth:`Sampler.measures` on any
thread.
Guarantees: :mod:`.history` is not loaded before there is something to tell, or somebody asks; who
asks after the end is told how it was then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import native
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .history import History
    from .measures import Measures

#: When the first sample is taken, in seconds after the executor was made.
_FIRST = 0.25
#: The next one is taken after this share of the time so far, in seconds at least and at most. (If
#: there are many, after more.)
_SHARE, _LEAST, _SECONDS = 1 / 40, 0.1, 1.0
#: The share of the I/O thread's time that samples take, unless that means fewer than one a second:
#: of a hundred thousand running calls, one takes milliseconds.
_MOST_TIME = 1 / 100


class Sampler:
    """One engine's."""

    def __init__(self, snapshot: Snapshot, turning: Any) -> None:
        """
        Args:
            turning: the turn.
        """
        self._snapshot = snapshot
        self._turning = turning
        #: When this executor was made, in monotonic seconds.
        self.began_at = native.monotonic()
        self._due = self.began_at + _FIRST
        self._busy = False  # there were calls when the last one was taken
        self._ended_at: float | None = None
        self._made: History | None = None

    def seconds(self, now: float, unfinished: int) -> float | None:
        """Seconds until :meth:`look` is due; None if nothing changes."""
        # When calls have ended, that is to be seen, too.
        return max(0.0, self._due - now) if unfinished or self._busy else None

    def look(self, now: float) -> None:
        """Take a sample if it is time to."""
        if now >= self._due:
            history = self._history()
            began = native.monotonic()
            history.sample(now)
            took = native.monotonic() - began
            self._busy = self._snapshot.has_calls
            soon = max((now - self.began_at) * _SHARE, took / _MOST_TIME)
            self._due = now + max(history.every, min(_SECONDS, soon))

    def end(self) -> None:
        """The executor has ended."""
        with self._turning:
            self._ended_at = native.monotonic()
            if self._made is not None:
                self._made.sample(self._ended_at)

    def history(self) -> History:
        """What the executor did until now."""
        with self._turning:
            history = self._history()
            history.look(self._ended_at or native.monotonic())
            return history

    def measures(self) -> Measures:
        """All numbers, at one time."""
        from .measures import measure

        with self._turning:
            return measure(self._snapshot, native.monotonic())

    def _history(self) -> History:
        if self._made is None:
            from .history import History

            self._made = History(self._snapshot, _LEAST)
        return self._made
