"""A copy of the status page of a worker on another machine.

Thread: Dask's loop writes; the turn holder and others read, as with any page.
Guarantees: times are those of this machine's clock. ``taken`` never tells of a call that it has
started if it has not; when the worker's process has ended, it is exact; when the connection was
lost, it is all that was sent.
"""

from __future__ import annotations

from .. import native
from ..wire.page import HEARTBEAT, TAKEN, StatusPage

#: How old, in seconds, a copy may be: the hub is taken to have ticked meanwhile.
COPY_SECONDS = 0.25
_LATE = 2 * COPY_SECONDS
#: With a copy older than this, in seconds, it is the node that is late.
_SILENT = 4 * COPY_SECONDS


class RemotePage(StatusPage):
    """What is known of a worker's page."""

    def __init__(self, slots: int) -> None:
        super().__init__(-1, slots, lambda fd, length: memoryview(bytearray(length)))
        #: How many calls were sent; the link counts them.
        self.sent = 0
        #: Whether the connection was lost, so that any of them may have started.
        self.lost = False
        self._copied_at = 0.0
        self._reached = 0

    @property
    def taken(self) -> int:
        """As far as is known; see the module's docstring."""
        return self.sent if self.lost else max(self._reached, self.words[TAKEN])

    @property
    def heartbeat(self) -> float:
        """When the hub last ticked; later, by as much as the copy may be older than that. What it
        does while a node is silent is not known."""
        beat, now = super().heartbeat, native.monotonic()
        silence = now - self._copied_at
        return min(beat + _LATE + (silence if silence > _SILENT else 0.0), now) if beat else 0.0

    def hold(self, number: int) -> bool:
        """Nobody can hold a worker on another machine."""
        return False

    def reach(self, taken: int) -> None:
        """So many calls were taken when what has just arrived was sent."""
        # Not on the page, where slots tell of their calls by what was taken when it was copied.
        self._reached = taken

    def copy(self, header: bytes, fields: bytes, offset: float) -> None:
        """Take over what was on the page.

        Args:
            fields: what follows the header; empty if it has not changed.
            offset: what to add to the other machine's clock.
        """
        copied = memoryview(bytearray(header + fields))
        words, times = copied.cast("q"), copied.cast("d")
        if times[HEARTBEAT]:
            times[HEARTBEAT] += offset
        if fields and offset:  # there are none on this machine, and slots may be thousands
            for place in self.slot_times():
                if words[place - 1]:
                    times[place] += offset
        self._memory[: len(copied)] = copied  # at once: other threads read
        self._copied_at = native.monotonic()
