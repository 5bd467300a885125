"""What the status page says of a worker's calls and of its process, for those who watch it.

Thread: main, but for :meth:`Vitals.ran`, which threads that run calls take turns with, and
:meth:`Vitals.let_go`.

To read a clock for every call would cost the shortest ones a tenth of their time. So it is read
once for calls that run one after another without waiting: all of them together take some
milliseconds, but for the last, and count as having taken the same time each.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from .. import native
from ..wire import histogram
from ..wire.page import BUSY, BUSY_SECONDS, CPU, HEARTBEAT, RESIDENT, StatusPage

#: How often, in seconds, :meth:`Vitals.beat` is to be called.
BEAT_SECONDS = 0.1
#: A beat that is later than this by so many seconds was kept by a call.
_LATE = 0.05
#: How often, in seconds, the memory is measured.
_MEASURE_SECONDS = 1.0
#: For how many seconds calls run one after another, but for the last.
_TURN_SECONDS = 0.005


class Vitals:
    """One worker's."""

    def __init__(self, page: StatusPage, cpu: Callable[[], float] | None = None) -> None:
        """
        Args:
            cpu: the CPU that was used for calls, in seconds; the main thread's, if it runs them.
        """
        self._cpu_used = cpu or time.thread_time
        self._words, self._times = page.words, page.times
        self._runs_at, self._waits_at = page.runs_at, page.waits_at
        self._usual = 0.0  # how long calls take that do not wait, in seconds
        self._beaten_at = native.monotonic()
        self._measure_at = 0.0
        self._cpu = self._cpu_used()  # until then

    def ran(self, count: int, waited: float, seconds: float, last_waited: bool) -> None:
        """Calls have run one after another, without waiting but for the last.

        Args:
            count: how many.
            waited: for how many seconds each had waited until it ran.
            seconds: for how many they ran, together.
            last_waited: whether the last is known to have waited for something.
        """
        words, times = self._words, self._times
        histogram.add(words, times, self._waits_at, waited, count)
        if count > 1 and (last_waited or seconds > _TURN_SECONDS):
            self._usual = min(self._usual, _TURN_SECONDS / count)
            histogram.add(words, times, self._runs_at, self._usual, count - 1)
            count = 1
        else:
            seconds = self._usual = seconds / count
        histogram.add(words, times, self._runs_at, seconds, count)

    def beat(self) -> None:
        """The main thread's loop is running."""
        now, cpu = native.monotonic(), self._cpu_used()
        times = self._times
        times[HEARTBEAT] = now
        passed = now - self._beaten_at
        # A call that waits in C uses no CPU, and keeps the loop all the same.
        held = max(cpu - self._cpu, passed - BEAT_SECONDS - _LATE)
        if passed > 0:
            part = 1.0 - math.exp(-passed / BUSY_SECONDS)
            times[BUSY] += (min(1.0, held / passed) - times[BUSY]) * part
        times[CPU] = time.process_time()
        self._beaten_at, self._cpu = now, cpu
        if now >= self._measure_at:
            self._measure_at = now + _MEASURE_SECONDS
            self._words[RESIDENT] = native.resident_bytes(os.getpid()) or 0

    def let_go(self) -> None:
        """In a child of the process: leave the page alone."""
        words = memoryview(bytearray(self._words.nbytes))
        self._words, self._times = words.cast("q"), words.cast("d")
