"""Stops what a call has started, when the call is stopped.

Thread: main, in the hub. :meth:`Reach.tell` may also run in the signal handler that interrupts a
call, and :meth:`Reach.has_to_give_way` does.
Guarantees: the call is stopped first. What is stopped after it does that call's work and nobody
else's, and is stopped once, in no critical section; what it starts after that, to clean up, runs
on.

A stopped call often cannot end before its threads have: it leaves a ``with`` block of a thread
pool, or joins what it has started. It would wait until its grace is over, and cost its worker. And
who cancels a call wants its work to end, not only its wait. So besides the call, what it has
started is stopped, or what was started by something that is being stopped or has ended:

- greenlets and threads;
- what it has submitted to thread pools; queued work is cancelled. The threads of a pool themselves
  are not stopped, so the next call can use the pool.

Daemon threads may serve others, as those of libraries do, which start them for the first call that
needs them. They are stopped only if they are joined, or as the last resort, if the call does not
end: it may wait for one in a way that does not show, as in anyio. Even then, those are left alone
that seem to wait for something to do.

A stopped thread ends as with ``SystemExit``: nothing is printed.

What keeps the hub while it does the work of a call that is to be stopped is made to wait for a
moment, where a signal handler finds that possible: then the hub can stop the call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import gevent

from ... import native
from . import critical
from .descendants import (
    Begun,
    Descendants,
    Owner,
    is_daemon,
    joined_by,
    seems_to_serve,
    thread_of,
)

#: Seconds between two looks at calls that were told and still wait, the first and the longest.
_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.05
#: Seconds after which nothing more is looked for if nothing was found.
_PATIENCE = 10.0
#: The last resort is taken after so many looks in a row that found nothing: half a grace, by
#: default, and more where the hub is slow to come round.
_LOOKS = 12


class _Told:
    """A call that was told, and what was after it."""

    def __init__(self, runner: Any, error: type[BaseException]) -> None:
        self.runner = runner
        self.error = error
        #: What was begun later, by the call or by what was told after it, is not told.
        self.latest: dict[int, int] = {}
        #: The threads that it waits for, or what was told after it, by the ``id`` of greenlets.
        self.joined: set[int] = set()
        #: What was told, with its greenlet, and for whom that begins something.
        self.begun: dict[Begun, tuple[Any, Owner]] = {}
        #: How many looks have found nothing since something was found.
        self.looks = 0
        self.until = native.monotonic() + _PATIENCE


class Reach:
    """Tells what calls have begun that they are stopped."""

    def __init__(
        self,
        runner_of: Callable[[int], Any],
        call_of: Callable[[object], int],
        run_code: CodeType,
        call_helper: Callable[[], None],
    ) -> None:
        """
        Args:
            runner_of: the runner that runs a call; None if it does not run.
            call_of: the call that a greenlet runs; 0 if it runs none.
            run_code: what runners run.
            call_helper: has the helper thread look, which makes way for the hub.
        """
        self._runner_of = runner_of
        self._run_code = run_code
        self._call_helper = call_helper
        self._descendants = Descendants(call_of)
        #: See :meth:`.Descendants.call_for`.
        self.call_for = self._descendants.call_for
        self._hub = gevent.get_hub()
        self._told: dict[int, _Told] = {}
        self._timer: Any = None
        self._pause = _FIRST_PAUSE

    def tell(self, call: int, error: type[BaseException]) -> None:
        """A running call is about to be told."""
        descendants = self._descendants
        if not descendants:
            return
        runner = self._runner_of(call)
        told = self._told[call] = _Told(runner, error)
        told.latest[call] = descendants.latest
        told.joined |= joined_by(runner)
        self._look_after(_FIRST_PAUSE)
        self._call_helper()

    def forget(self, call: int) -> None:
        """It has ended, and runs again."""
        self._told.pop(call, None)

    @property
    def looks(self) -> bool:
        """Whether there are calls that were told and may still wait for something."""
        return bool(self._told)

    def has_to_give_way(self, greenlet: Any, stopping: Callable[[int], bool]) -> bool:
        """Whether a greenlet does the work of a call that was told, or is to be."""
        call = self._descendants.call_for(greenlet)
        return bool(call) and (call in self._told or stopping(call))

    # -- on the hub ---------------------------------------------------------------------------

    def _look_after(self, pause: float) -> None:
        if self._timer is not None:
            if pause >= self._pause:
                return
            self._timer.close()
        self._pause = pause
        self._timer = self._hub.loop.timer(pause)
        self._timer.start(self._look)

    def _look(self) -> None:
        self._timer.close()
        self._timer = None
        again = False
        for call, told in list(self._told.items()):
            found, left = self._reach(call, told)
            if found:
                again = True
                told.looks = 0
                told.until = native.monotonic() + _PATIENCE
            elif (not left and self._is_over(call, told)) or native.monotonic() > told.until:
                del self._told[call]
            else:
                told.looks += 1
        if self._told:
            self._look_after(_FIRST_PAUSE if again else min(2 * self._pause, _LAST_PAUSE))

    def _is_over(self, call: int, told: _Told) -> bool:
        return self._runner_of(call) is not told.runner and all(
            begun.has_ended for begun in told.begun
        )

    def _reach(self, call: int, told: _Told) -> tuple[bool, bool]:
        """Tell what is to be told; whether there was something, and whether there is something that
        cannot be told just now."""
        descendants = self._descendants
        waits = self._runner_of(call) is told.runner
        if waits:
            told.joined |= joined_by(told.runner)
        for begun, (greenlet, _) in told.begun.items():
            if not begun.has_ended:
                told.joined |= joined_by(greenlet)
        to_tell: list[tuple[Begun, Any, Owner]] = []
        queued: list[Any] = []
        for begun in self._begun(call, told):
            thing = begun.thing()
            if thing is None:
                continue
            if begun.is_greenlet:
                if self._is_calls(thing, told, waits):
                    to_tell.append((begun, thing, begun))
            elif (thread := descendants.runs(thing)) is not None:
                to_tell.append((begun, thread, begun.owner))
            else:
                queued.append(thing.future)
        if queued:
            # Before a thread that ends one turns to the next. Not in the hub: there are callbacks.
            gevent.spawn(_cancel, queued)
            return True, True
        thrown = [self._throw(told, *each) for each in to_tell]
        return any(thrown), not all(thrown)

    def _begun(self, call: int, told: _Told) -> list[Begun]:
        """What is to be told, as far as that depends on who has begun it when."""
        owners: list[Owner] = [call, *told.begun]
        return [
            begun
            for owner in owners
            for begun in self._descendants.begun_by(owner)
            if begun not in told.begun
            and not begun.has_ended
            and begun.number <= told.latest.get(begun.by, begun.number)
        ]

    def _is_calls(self, greenlet: Any, told: _Told, waits: bool) -> bool:
        """Whether a greenlet is there for its beginner only."""
        if self._descendants.serves_others(greenlet):
            return False
        if not is_daemon(greenlet) or id(greenlet) in told.joined:
            return True
        return waits and told.looks >= _LOOKS and not seems_to_serve(greenlet)

    def _throw(self, told: _Told, begun: Begun, greenlet: Any, owner: Owner) -> bool:
        if (
            begun.has_ended
            or not (begun.is_greenlet or self._descendants.is_in_item(greenlet))
            or greenlet.parent is not self._hub
            or (greenlet.gr_frame is None and thread_of(greenlet) is not None)  # about to start
            or critical.is_waiting(greenlet, self._run_code)
        ):
            return False
        told.begun[begun] = greenlet, owner
        told.latest[begun.number] = self._descendants.latest
        told.joined |= joined_by(greenlet)
        if begun.is_greenlet:
            _hush(greenlet, told.error)
        greenlet.throw(told.error())
        return True


def _hush(greenlet: Any, error: type[BaseException]) -> None:
    """Have a greenlet that is a thread end of such an error without a word."""
    thread = thread_of(greenlet)
    report = getattr(thread, "_invoke_excepthook", None)
    if report is None:
        return

    def report_others(thread: Any) -> None:
        if sys.exc_info()[0] is not error:
            report(thread)

    thread._invoke_excepthook = report_others


def _cancel(futures: list[Any]) -> None:
    for future in futures:
        future.cancel()
