"""The runners, long-lived greenlets that run calls, and when they take the next one.

Thread: main, in the hub and the runners; the helper thread sets :attr:`Feed.turn_over`.
Guarantees: while calls wait in the inbox and a slot is free, a runner takes them; a call that waits
holds its runner only; when calls have held the hub for some milliseconds, none is taken until its
loop has handled timers and descriptors; a runner in which something was raised from outside takes
no other call.

A runner about to run a call makes sure that the hub, should it get control before the call has
ended, starts or wakes another runner while there are calls and slots. So calls that never wait run
one after another in a single runner, and calls that wait get a runner each.

The hub goes on running callbacks, which start or wake the next runner, almost as long as there are
any; only then does its loop look at the clock and at descriptors. So after a turn that has used up
its time, the next runner is not started by a callback: the loop comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import greenlet
from gevent import getcurrent

from ... import native
from ...wire.page import HELD, slot_index
from ..inbox import Inbox, Span
from . import forks

#: The hub sees to everything else when calls have held it for so long.
_TURN_SECONDS = 0.005
#: Of the loop's watchers, those with this priority are called last.
_LAST = -2

_monotonic = native.monotonic


class Runner(gevent.Greenlet):  # type: ignore[type-arg]  # it is generic for the checker only
    """A greenlet that runs calls, one after another."""

    slot = -1
    #: The last call that was stopped, and what was raised in it for that.
    raised: tuple[int, type[BaseException] | None] = (0, None)
    #: Whether something was raised in it from outside. What is kept for it as for a thread may be
    #: half done then (a connection whose reply is on its way, say): it runs no other call.
    worn = False


class Feed:
    """Starts runners, wakes them, and lets them rest."""

    def __init__(
        self,
        concurrency: int,
        words: memoryview[int],
        inbox: Inbox,
        run_calls: Callable[[Runner, int, Span], None],
    ) -> None:
        """
        Args:
            concurrency: how many runners there may be.
            words: the status page's.
            inbox: where calls are taken from.
            run_calls: takes calls out of a span and runs them, in a runner, whose index on the
                status page it gets.
        """
        self._words = words
        self._inbox = inbox
        self._run_calls = run_calls
        self._hub = gevent.get_hub()
        self._loop = self._hub.loop
        # The turn, as the loop counts them, that the hub feeds in, and when that must be over.
        self._turn = -1
        self._ends = 0.0
        # Feeds when the loop has seen to all else.
        self._next_turn = self._loop.async_(ref=False, priority=_LAST)
        self._next_turn.start(self._feed)
        #: Those that live. Without this, nobody might hold one that waits.
        self._runners: set[Runner] = set()
        # Invariant: a slot is in _free_slots or owned by one living runner.
        self._free_slots = list(range(concurrency - 1, -1, -1))
        # Runners that wait for a call; the last to park is the first to be woken, so that few
        # stay warm. A dict, because a runner that is killed must be found.
        self._parked: dict[greenlet.greenlet, None] = {}
        #: Invariant: if the inbox is not empty and a runner could take from it, the hub feeds, or
        #: this says that it will, or a runner is on its way to the inbox.
        self.is_due = False
        #: Whether the hub must see to the others before a call is taken. The helper thread sets it,
        #: too, which looks at the clock so that a runner need not do so for every call.
        self.turn_over = False

    # -- on the hub ---------------------------------------------------------------------------

    def begin(self) -> None:
        """There may be something in the inbox."""
        if not self.is_due:
            self._feed()

    def schedule(self) -> None:
        """Have the hub feed when it gets control, unless that is due."""
        if not self.is_due:
            self.is_due = True
            self._loop.run_callback(self._feed)

    def _feed(self) -> None:
        """Give calls in the inbox to runners, until the turn is over."""
        if self._words[HELD] != self._inbox.released:
            self.is_due = False
            return  # the Reclaim that is on its way has the hub look
        self.is_due = True  # a runner woken below need not schedule another feed
        turn = self._loop.iteration
        begins = turn != self._turn
        if begins:
            self._turn = turn
            self._ends = _monotonic() + _TURN_SECONDS
            self.turn_over = False
        while self._inbox.spans:
            if begins:
                begins = False
            elif self.turn_over or _monotonic() > self._ends:
                self.turn_over = True
                self._next_turn.send()
                return
            if self._parked:
                self._parked.popitem()[0].switch()
            else:
                if self._free_slots:
                    # It starts in a later callback, takes a call and schedules the next feed.
                    self._spawn()
                break
        self.is_due = False

    def _spawn(self) -> None:
        runner = Runner.spawn(self._serve, self._free_slots.pop())
        self._runners.add(runner)
        runner.rawlink(self._runners.discard)

    # -- in a runner ----------------------------------------------------------------------------

    def look_at_clock(self, began: float) -> None:
        """A runner has run calls since ``began``, of which none has waited: see whether that was
        long enough for this turn."""
        if _monotonic() - began > _TURN_SECONDS:
            self._turn = self._loop.iteration
            self.turn_over = True

    def _serve(self, slot: int) -> None:
        """A runner: take calls and run them, for as long as the process lives."""
        me: Any = getcurrent()
        me.slot = slot
        slot_id = slot_index(slot)
        inbox = self._inbox
        try:
            while True:
                span = inbox.head()
                if span is None or self._words[HELD] != inbox.released:
                    span = None
                    self._park(me)
                    continue
                self._run_calls(me, slot_id, span)
                span = None
                if me.worn:
                    forks.leave()
                    return
                if self.turn_over:
                    self.schedule()
                    self._park(me)
        finally:
            # Only one that is worn gets here, or that the user's code killed: another takes its
            # place.
            self._parked.pop(me, None)
            self._free_slots.append(slot)
            self.schedule()

    def _park(self, me: greenlet.greenlet) -> None:
        forks.leave()
        self._parked[me] = None
        try:
            self._hub.switch()
        except gevent.GreenletExit:
            raise
        except BaseException:
            # A timeout or a throw that an earlier call left behind: nobody is there to get it.
            pass
        finally:
            self._parked.pop(me, None)

    # -- when something is raised in one --------------------------------------------------------

    def wear(self, runner: Runner) -> None:
        """Something is raised in a runner from outside: the call that it runs is its last."""
        runner.worn = True
        self.turn_over = True  # it takes no other

    def stop(self, runner: Runner, call: int, error: type[BaseException]) -> None:
        """The call that a runner runs is being stopped."""
        runner.raised = (call, error)
        self.wear(runner)
