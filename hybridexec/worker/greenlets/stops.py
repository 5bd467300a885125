"""Stops calls that are cancelled or whose time is up.

Thread: main, in the hub; the methods under "from who reads the call pipe" also on the helper
thread: they touch only deques and sets, by single operations, which the GIL makes atomic.
Guarantees: what stops a call is raised in that call only, and once, because then it may be cleaning
up; never in a critical section (see :mod:`.critical`), but after it.

A call that waits is stopped by the hub, which raises where the call waits. One that keeps the CPU
is interrupted (see :mod:`.interrupts`), because the hub does not run. Then what the call has
started is stopped as well, as far as it does the call's work (see :mod:`.reach`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Any

import gevent

from ..inbox import Inbox
from . import critical
from .interrupts import Interrupts
from .reach import Reach

#: Seconds between two looks at a call that waits in a critical section, the first and the longest.
FIRST_PAUSE, LAST_PAUSE = 0.001, 0.05


class StopCall(gevent.GreenletExit):
    """Raised in a call that was cancelled, at the point where it waits."""


class CallExpired(gevent.GreenletExit):
    """Raised in a call whose time is up, at the point where it waits."""


class Stops:
    """Stops the calls that :class:`.runners.Runners` runs."""

    def __init__(
        self,
        runner_of: Callable[[int], Any],
        call_of: Callable[[object], int],
        run_code: CodeType,
        ours: frozenset[str],
        tell: Callable[[Any, int, type[BaseException]], None],
        inbox: Inbox,
        call_helper: Callable[[], None],
    ) -> None:
        """Must be made on the main thread.

        Args:
            runner_of: the runner that runs a call; None if it does not run.
            call_of: the call that a greenlet runs; 0 if it runs none.
            run_code: see :class:`.interrupts.Interrupts`; so are the next two.
            ours: as there.
            tell: as there.
            inbox: where the calls are that have not started.
            call_helper: has the helper thread look, which insists.
        """
        self._runner_of = runner_of
        self._inbox = inbox
        self._run_code = run_code
        self._note = tell
        # Tells what the calls have begun.
        self._reach = Reach(runner_of, call_of, run_code, call_helper)
        #: See :meth:`.Descendants.call_for`.
        self.call_for = self._reach.call_for
        # Reaches the call that keeps the CPU.
        self._interrupts = Interrupts(runner_of, run_code, ours, self._tell, self._has_to_give_way)
        self._loop = gevent.get_hub().loop
        #: What the hub is to see to.
        self.cancelled: deque[tuple[list[int], bool]] = deque()
        self.expired: deque[int] = deque()
        # Calls whose time is up, and which had the CPU when that was heard.
        self._late: set[int] = set()
        # Timers of the calls to be stopped that wait in a critical section.
        self._held: dict[int, Any] = {}

    # -- on the hub ---------------------------------------------------------------------------

    def look(self) -> None:
        """See to what the call pipe has brought."""
        while self.cancelled:
            self._stop(*self.cancelled.popleft())
        while self.expired:
            self._throw(self.expired.popleft(), CallExpired)

    def timer(self, call: int, seconds: float) -> Any:
        """Have a call that is about to start stopped after so many seconds; what is to be closed at
        its end."""
        # It may have run here before, until its time was up.
        self._runner_of(call).raised = (0, None)
        self._late.discard(call)
        self._hold_no_more(call)
        self._reach.forget(call)
        timer = self._loop.timer(seconds)
        timer.start(self._throw, call, CallExpired)
        return timer

    def raised(self, call: int) -> BaseException | None:
        """What has been raised in a call, which runs, to stop it; None if nothing has."""
        told, what = self._runner_of(call).raised
        return what() if told == call else None

    def _stop(self, calls: list[int], running: bool) -> None:
        for call in calls:
            if self._runner_of(call) is not None:
                self._inbox.dropped.discard(call)
                if running:
                    self._throw(call, StopCall)
        self._inbox.forget_dropped()

    def _throw(self, call: int, error: type[BaseException], pause: float = FIRST_PAUSE) -> None:
        """Raise ``error`` in a running call; only from the hub, so that it cannot hit another."""
        self._hold_no_more(call)
        runner = self._runner_of(call)
        if runner is None or _is_told(runner, call, error):
            return
        if critical.is_waiting(runner, self._run_code):
            timer = self._held[call] = self._loop.timer(pause)
            timer.start(self._throw, call, error, min(2 * pause, LAST_PAUSE))
            self._interrupts.follow(call, error)
            return
        self._tell(runner, call, error)
        runner.throw(error())

    def _tell(self, runner: Any, call: int, error: type[BaseException]) -> None:
        self._note(runner, call, error)
        self._reach.tell(call, error)

    def _has_to_give_way(self, greenlet: Any) -> bool:
        return self._reach.has_to_give_way(greenlet, self._is_to_stop)

    def _is_to_stop(self, call: int) -> bool:
        cancelled = list(self.cancelled)
        return call in self.expired or any(
            running and call in calls for calls, running in cancelled
        )

    def _hold_no_more(self, call: int) -> None:
        timer = self._held.pop(call, None)
        if timer is not None:
            timer.close()

    # -- from who reads the call pipe -----------------------------------------------------------

    def cancel(self, calls: list[int], running: bool) -> None:
        """Drop those calls that have not started; with ``running``, stop those that have.

        :meth:`look` must follow.
        """
        self._inbox.drop(calls)
        if running:
            for call in calls:
                if self._interrupts.interrupt(call, StopCall):
                    break  # only one has the CPU
        self.cancelled.append((calls, running))

    @property
    def pending(self) -> bool:
        """Whether there may be something to stop that keeps the hub from it."""
        return bool(self.cancelled or self.expired or self._late or self._reach.looks)

    def insist(self) -> bool:
        """Interrupt once more what is to be stopped and was just about to start, in code of ours,
        or in a long critical section, the first time, and what keeps the hub from it; whether there
        may be more to stop."""
        for calls, running in list(self.cancelled):
            for call in calls if running else ():
                self._interrupts.interrupt(call, StopCall)
        for call in list(self._late):
            runner = self._runner_of(call)
            if runner is None or _is_told(runner, call, CallExpired):
                self._late.discard(call)
            else:
                self._interrupts.interrupt(call, CallExpired)
        if self.cancelled or self.expired or self._reach.looks:
            self._interrupts.make_way()
        return self.pending

    def expire(self, call: int) -> None:
        """Stop a call whose time is up, unless it has been told.

        :meth:`look` must follow.
        """
        runner = self._runner_of(call)
        if runner is None or _is_told(runner, call, CallExpired):
            return
        if self._interrupts.interrupt(call, CallExpired):
            self._late.add(call)
        else:
            self.expired.append(call)


def _is_told(runner: Any, call: int, error: type[BaseException]) -> bool:
    """Whether there is no need to raise ``error`` in a call. One whose time is up can still be
    cancelled."""
    told, what = runner.raised
    return bool(told == call) and (what is error or error is CallExpired)
