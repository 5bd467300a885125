"""Gives each call a timer of its own: ``signal.alarm`` and ``signal.setitimer``.

Thread: main, as part of :mod:`.signals`.
Guarantees: a call's alarm goes off when its time is up, whatever other calls set, and in that call:
it runs the handler that this call has, and what the handler raises hits this call only. When a call
has ended, its alarm is off.

A process has one real-time timer, which is set to the earliest of these alarms. It also has one
timer of CPU time, and nobody can tell how much each call has used: that one belongs to whoever set
it last.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module
import math
import os
import signal
import sys
from types import FrameType
from typing import Any

from ... import native
from .signals import Owner, Signals

_setitimer, _getitimer = signal.setitimer, signal.getitimer
#: Seconds until an alarm is tried again whose call is just about to start or to end.
_AGAIN = 0.005
#: Seconds by which the system's timer may be early.
_PRECISION = 0.001
_CPU_TIMERS = {signal.SIGVTALRM: signal.ITIMER_VIRTUAL, signal.SIGPROF: signal.ITIMER_PROF}

#: The worker's.
installed: Alarms | None = None


class Alarms:
    """The timers of a worker's calls."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        # When each alarm is due, and after how many seconds again. None: the process's.
        self._due: dict[Owner | None, tuple[float, float]] = {}
        # When the real timer goes off; whether it has, while it was being set anew.
        self._at = 0.0
        self._stray = False
        #: Who waits for the signal.
        self.waiting: set[Owner | None] = set()
        # Those alarms that somebody else has taken, until their owners do.
        self._kept: dict[Owner | None, Any] = {}
        # Who has set the timers of CPU time, by their signals.
        self._setters: dict[int, Owner | None] = {}

    def install(self) -> None:
        """From now on, have alarms belong to calls."""
        global installed
        installed = self
        self._signals.take = self.take
        os.register_at_fork(after_in_child=self._due.clear)  # a child has no timers
        modules: tuple[Any, ...] = (signal, _signal)
        for module in modules:
            module.setitimer = self.setitimer
            module.getitimer = self.getitimer
            module.alarm = self.alarm

    # -- for the user's code --------------------------------------------------------------------

    def setitimer(self, which: int, seconds: float, interval: float = 0.0) -> tuple[float, float]:
        """As ``signal.setitimer``."""
        owner = self._signals.owner()
        before = self.getitimer(which)
        _setitimer(which, seconds, interval)  # refuses what is wrong
        if which != signal.ITIMER_REAL:
            self._setters.update({n: owner for n, timer in _CPU_TIMERS.items() if timer == which})
            return before
        if seconds:
            self._due[owner] = (native.monotonic() + seconds, interval)
        else:
            self._due.pop(owner, None)
        self._set_timer()
        return before

    def getitimer(self, which: int) -> tuple[float, float]:
        """As ``signal.getitimer``."""
        if which != signal.ITIMER_REAL:
            return _getitimer(which)
        due, interval = self._due.get(self._signals.owner(), (0.0, 0.0))
        return (max(due - native.monotonic(), 1e-6) if due else 0.0), interval

    def alarm(self, seconds: int) -> int:
        """As ``signal.alarm``."""
        return math.ceil(self.setitimer(signal.ITIMER_REAL, seconds.__index__())[0])

    # -- when a signal comes ----------------------------------------------------------------------

    def take(self, number: int, frame: FrameType | None) -> bool:
        """Have those calls get the signal whose alarms are due; whether it was an alarm."""
        if number in _CPU_TIMERS:
            owner = self._setters.get(number)
            if owner is None:
                return False
            if self._signals.runs(owner):
                self._signals.deliver(owner, number, frame)
            else:
                _setitimer(_CPU_TIMERS[signal.Signals(number)], 0)
            return True
        if number != signal.SIGALRM:
            return False
        stray, due = self._pop_due()
        here = self._signals.owner()
        # What is raised here ends this: the others come first.
        self._deliver(sorted(due, key=lambda who: who == here), frame)
        return bool(due) or stray

    # -- for those who wait for the signal ---------------------------------------------------------

    def claim(self, info: Any) -> bool:
        """Whether a signal that the current call has taken is for it: an alarm may be that of
        another, who gets it then."""
        if info.si_signo != signal.SIGALRM:
            return True
        stray, due = self._pop_due()
        here = self._signals.owner()
        for owner in due:
            handler = self._signals.handler_of(owner, signal.SIGALRM)
            if owner != here and (owner in self.waiting or not callable(handler)):
                self._kept[owner] = info
        others = [who for who in due if who != here and who not in self._kept]
        self._deliver(others, sys._getframe())
        return here in due or not (due or stray)

    def kept(self) -> Any:
        """The alarm of the current call, if another has taken it from the system."""
        for owner in [who for who in self._kept if who is not None and not self._signals.runs(who)]:
            del self._kept[owner]
        return self._kept.pop(self._signals.owner(), None)

    # ----------------------------------------------------------------------------------------------

    def _pop_due(self) -> tuple[bool, list[Owner | None]]:
        """Whether an alarm may come twice, and whose alarms are due."""
        stray, self._stray, self._at = self._stray, False, 0.0
        now = native.monotonic()
        due = [owner for owner, (when, _) in self._due.items() if when <= now + _PRECISION]
        for owner in due:
            when, interval = self._due.pop(owner)
            if interval:
                self._due[owner] = (max(when + interval, now), interval)
        self._set_timer()
        return stray, due

    def _deliver(self, due: list[Owner | None], frame: FrameType | None) -> None:
        for owner in due:
            if (owner is None or self._signals.runs(owner)) and not self._signals.deliver(
                owner, signal.SIGALRM, frame
            ):
                self._due.setdefault(owner, (native.monotonic() + _AGAIN, 0.0))
                self._set_timer()

    def _set_timer(self) -> None:
        for owner in [who for who in self._due if who is not None and not self._signals.runs(who)]:
            del self._due[owner]
        now = native.monotonic()
        self._stray = 0 < self._at <= now + _PRECISION
        self._at = min((when for when, _ in self._due.values()), default=0.0)
        _setitimer(signal.ITIMER_REAL, max(self._at - now, 1e-6) if self._at else 0)
