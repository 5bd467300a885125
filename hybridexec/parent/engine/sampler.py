"""When the history gets its samples: once a second at first, while there are calls.

Thread: the I/O thread, in a turn; :meth:`Sampler.history` on any thread.
Guarantees: :mod:`.history` is not loaded before there is a second to tell of, or somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import native
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .history import History

#: How often, in seconds, samples are taken at first.
_SECONDS = 1.0


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
        self._due = self.began_at + _SECONDS
        self._history: History | None = None

    def seconds(self, now: float) -> float:
        """Seconds until :meth:`look` is due."""
        return max(0.0, self._due - now)

    def look(self, now: float) -> None:
        """Take a sample if it is time to."""
        if now >= self._due:
            self._sample(now)

    def history(self) -> History:
        """What the executor did until now."""
        with self._turning:
            return self._sample(native.monotonic())

    def _sample(self, now: float) -> History:
        if self._history is None:
            from .history import History

            self._history = History(self._snapshot, _SECONDS)
        self._history.sample(now)
        self._due = now + self._history.every
        return self._history
