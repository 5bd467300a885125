"""What runners do about calls that are timed, traced or have a timeout, besides running them.

Thread: main, in the runners.
"""

from __future__ import annotations

from typing import Any

from ... import native
from ...wire.page import CURRENT, TAKEN, slot_index
from ..inbox import Job
from . import tracing
from .feed import Runner
from .stops import Stops

#: A call's time does not begin before its function is there, but after so many seconds: importing
#: its module may take long, and must not take for ever.
LOAD_SECONDS = 60.0

_monotonic = native.monotonic


class Watch:
    """A part of :class:`.runners.Runners`."""

    # The status page's.
    _words: memoryview[int]
    _times: memoryview[float]
    #: Stops running calls.
    stops: Stops
    _traced = False  # whether CURRENT is kept

    def _trace(self, call: int, job: Job) -> None:
        """A call is about to start about which there is more to do than to run it: have the status
        page tell when it has the CPU, if that is wanted."""
        if job.traced and not self._traced:
            self._traced = True
            tracing.trace(self._words, self.call_of)
        if self._traced:
            self._words[CURRENT] = call

    def _begin_time(self, call: int, job: Job, slot_id: int) -> Any:
        """A call's time begins; its timer, if it has one."""
        self._times[slot_id + 1] = _monotonic()
        return None if job.timeout is None else self.stops.timer(call, job.timeout)

    def _end_special(self, expiry: Any, job: Job, slot_id: int, loaded: bool) -> float | None:
        """Such a call has ended; how many seconds it took, if that is wanted."""
        if expiry is not None:
            expiry.close()
        if self._traced:
            self._words[CURRENT] = 0
        began = self._times[slot_id + 1] - (0.0 if loaded else LOAD_SECONDS)
        return _monotonic() - began if job.timed else None

    def call_of(self, who: object) -> int:
        """The call that a greenlet runs; 0 if it runs none."""
        if type(who) is not Runner or who.slot < 0:
            return 0
        word = self._words[slot_index(who.slot)]
        return word if word >= 0 else self._words[TAKEN] - word
