"""The runners, long-lived threads that run calls, and when one more is to run some.

Thread: main wakes and starts runners; these rest themselves.
Guarantees: while calls wait and a slot is free, the runners that are awake get to them within a
millisecond or so, or others are woken; a runner that is awake takes calls until there are none.

To hand each call to a thread would cost more than most short calls take. So a runner takes one
call after another, and one is enough as long as its calls are short. That they are not, main finds
out by looking, every millisecond while calls wait for which there are slots:

- no call has been taken for a moment: so all that are running take long, whatever they do;
- main itself gets the GIL at once whenever it wants it: so what runs hardly uses it, but waits, or
  computes in C without it.

Then more runners are woken, twice as many with each look: a hundred slots are full after seven.
"""

from __future__ import annotations

import _thread
import contextlib
import threading
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING

from ... import native

if TYPE_CHECKING:
    from .answers import Answers
    from .loop import Loop, Timer
    from .taking import Taken, Taking

#: A call has kept its runner for a moment after so many seconds; it is the time between two looks,
#: too.
_MOMENT = 0.001
#: How long it may take to get to the next call, in seconds, where there is much else to do.
_PATIENCE = 0.02
#: Main got the GIL at once if it was not later than that by so many seconds, in so many looks.
_AT_ONCE, _LOOKS = 0.0004, 2


class Runner:
    """A thread that runs calls, one after another."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        #: The thread's number.
        self.ident = 0
        #: The call that it has taken, 0 if none, and what of it; since when that runs.
        self.call = 0
        self.taken: Taken | None = None
        self.began = 0.0
        #: What wakes it: it waits for this.
        self.bell = _thread.allocate_lock()
        self.bell.acquire()
        self.thread: threading.Thread | None = None
        #: Its calls' results, on their way out.
        self.answers: Answers
        #: Whether something was raised in it from outside. What is kept for the thread may be half
        #: done then (a connection whose reply is on its way, say): it runs no other call.
        self.worn = False


class Feed:
    """Starts runners, wakes them, and lets them rest."""

    def __init__(
        self,
        slots: int,
        taking: Taking,
        loop: Loop,
        running: Sized,
        serve: Callable[[Runner], None],
    ) -> None:
        """
        Args:
            slots: how many runners there may be.
            running: the calls that run.
            serve: runs calls in a runner's thread, until the runner is to end.
        """
        self._taking = taking
        self._loop = loop
        self._running = running
        self._serve = serve
        self._free_slots = list(range(slots))[::-1]
        self._runners: list[Runner] = []
        # Those that rest: the last is woken first, so that no more threads are used than needed.
        self._resting: list[Runner] = []
        #: When a call was taken last, or a runner was about to take one.
        self.latest = 0.0
        #: Whether the runners are to end.
        self.ending = False
        self._look: Timer | None = None  # when main looks next
        #: Whether a runner has ended while calls waited: :meth:`begin` is to be called.
        self.is_due = False
        self._more = 1  # how many are woken at the next look, if more are to be
        self._at_once = 0  # looks in a row for which main got the GIL at once

    # -- main -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """There may be calls to take."""
        self.is_due = False
        if not self._wanted():
            return
        now = native.monotonic()
        if len(self._resting) == len(self._runners) or self._are_kept(now):
            self._wake(1, now)
        if self._look is None and self._wanted():
            self._look_again()

    def _look_again(self) -> None:
        self._look = self._loop.timer(_MOMENT)
        self._look.start(self._see)

    def _see(self) -> None:
        """Wake more runners, if those that are awake do not get to the calls."""
        now = native.monotonic()
        assert self._look is not None
        at_once = now - self._look.due < _AT_ONCE and not self._one_is_free()
        self._at_once = self._at_once + 1 if at_once else 0
        self._look = None
        if self._wanted():
            if self._are_kept(now) or self._at_once >= _LOOKS:
                self._wake(self._more, now)
                self._more *= 2
            else:
                self._more = 1
            self._look_again()
        else:
            self._more, self._at_once = 1, 0

    def _one_is_free(self) -> bool:
        """Whether a runner is awake that runs no call: it is about to take one."""
        return len(self._runners) - len(self._resting) > len(self._running)

    def _are_kept(self, now: float) -> bool:
        """Whether none of the runners that are awake seems to take a call soon."""
        return now - self.latest >= (_PATIENCE if self._one_is_free() else _MOMENT)

    def _wanted(self) -> int:
        """How many more runners could take a call at once."""
        return min(self._taking.waiting, len(self._resting) + len(self._free_slots))

    def _wake(self, count: int, now: float) -> None:
        self.latest = now
        for _ in range(min(count, self._wanted())):
            if self._resting:
                self.wake_one()
            elif self._free_slots:
                self._start()

    def wake_one(self) -> None:
        """Have a runner that rests go on, if there is one."""
        with contextlib.suppress(IndexError):  # it may have gone on by itself
            self._resting.pop().bell.release()

    def _start(self) -> None:
        # It may end before start() has returned, and others may meanwhile.
        runner = Runner(self._free_slots.pop())
        self._runners.append(runner)
        name = f"hybridexec-{runner.slot}"
        runner.thread = threading.Thread(target=self._serve, args=(runner,), name=name, daemon=True)
        try:
            runner.thread.start()
        except RuntimeError:  # the system has no more threads for us
            self._runners.remove(runner)
            if not self._runners:
                raise
            self._free_slots.clear()

    def end(self) -> None:
        """Have the runners end that run no call, and wait for that."""
        self.ending = True
        while self._resting:
            self._resting.pop().bell.release()
        for runner in self.runners:
            if not runner.call and runner.thread is not None:
                runner.thread.join()

    @property
    def runners(self) -> list[Runner]:
        """All runners."""
        return list(self._runners)

    # -- in a runner ----------------------------------------------------------------------------

    def retire(self, me: Runner) -> None:
        """This runner ends: another may take its slot."""
        self._runners.remove(me)
        self._free_slots.append(me.slot)
        if self._taking.waiting > 0:
            self.is_due = True
            self._loop.wake()

    def rest(self, me: Runner) -> None:
        """Wait until there may be a call to take."""
        self._resting.append(me)
        if self._taking.waiting > 0 or self.ending:
            try:
                # They may have come before it was to be seen that this one rests.
                self._resting.remove(me)
                return
            except ValueError:
                pass  # it is woken already
        me.bell.acquire()
