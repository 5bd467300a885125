"""A stop reaches what a call has started.

Runs on: the hub. :meth:`Reach.tell` may also run in the signal handler that interrupts a call, and
:meth:`Reach.has_to_give_way` does.
Guarantees: the call is told first. What is told after it does that call's work and nobody else's,
is told once, in no critical section; what somebody begins after he was told, to clean up after
himself, runs on.

A call that is stopped often cannot end before its threads have: it leaves a ``with`` block of a
thread pool, or joins what it has started. It would wait until its grace is over, and cost its
worker. So there is told, besides the call,

- what it has begun (or something that it has begun, and that is told or has ended) and was waiting
  for when it was told: a thread in its ``join``, greenlets in ``get``, ``joinall`` or a pool's
  methods, a pool's work in ``Future.result``. The wait shows whose work that is. Who was in a
  thread pool's ``shutdown`` was waiting for all that he has submitted: which pool that went to is
  not looked at, and once told, he may leave that block before its threads have ended;
- while the call still waits: what it waits for now, in the same ways, and what it has submitted to
  thread pools, for it may wait in asyncio's loop for that, or in a pool's ``shutdown`` for its
  threads. What still waits for one of these threads is cancelled.

A thread that ends because it was told does so as of ``SystemExit``: nothing is printed.

Not told are threads that the call has started and does not wait for: they may serve others. So does
a thread pool's thread: what it runs is the matter of who submitted that. Between two works, or
waiting for one, it is left alone, so the pool can be used by the next call.

What keeps the hub while it does the work of a call that is to be stopped, is made to wait for a
moment, where a signal handler finds that it can: the hub can tell the call then.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import CodeType
from typing import Any

import gevent

from .. import native
from . import critical
from .descendants import SUBMITTED, Begun, Descendants, Owner, awaited_by

#: Seconds between two looks at calls that were told and still wait, the first and the longest.
_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.05
#: Seconds after which nothing more is looked for if nothing was found.
_PATIENCE = 10.0


class _Told:
    """A call that was told, and what was after it."""

    def __init__(self, runner: Any, error: type[BaseException]) -> None:
        self.runner = runner
        self.error = error
        #: What was begun later, by the call or by what was told after it, is not told.
        self.latest: dict[int, int] = {}
        #: What was being waited for, by ``id``.
        self.awaited: set[int] = set()
        #: What was told, with its greenlet, and for whom that begins something.
        self.begun: dict[Begun, tuple[Any, Owner]] = {}
        self.until = native.monotonic() + _PATIENCE


class Reach:
    """Tells what calls have begun that they are stopped."""

    def __init__(
        self,
        runner_of: Callable[[int], Any],
        call_of: Callable[[object], int],
        run_code: CodeType,
    ) -> None:
        """
        Args:
            runner_of: the runner that runs a call; None if it does not run.
            call_of: the call that a greenlet runs; 0 if it runs none.
            run_code: what runners run.
        """
        self._runner_of = runner_of
        self._run_code = run_code
        self._descendants = Descendants(call_of)
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
        self._note(told, runner, call)
        self._look_after(_FIRST_PAUSE)

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
        found = False
        for call, told in list(self._told.items()):
            if self._reach(call, told):
                found = True
                told.until = native.monotonic() + _PATIENCE
            elif self._is_over(call, told):
                del self._told[call]
        if self._told:
            self._look_after(_FIRST_PAUSE if found else min(2 * self._pause, _LAST_PAUSE))

    def _is_over(self, call: int, told: _Told) -> bool:
        if self._runner_of(call) is None and all(begun.has_ended for begun in told.begun):
            return True
        return native.monotonic() > told.until

    def _reach(self, call: int, told: _Told) -> bool:
        """Tell what is to be told; whether there was something."""
        waits = self._runner_of(call) is told.runner
        if waits:
            self._note(told, told.runner, call)
        for begun, (greenlet, owner) in told.begun.items():
            if not begun.has_ended:
                self._note(told, greenlet, owner)
        owners: list[Owner] = [call, *told.begun]
        each = [
            begun
            for owner in owners
            for begun in self._descendants.begun_by(owner)
            if begun not in told.begun
            and not begun.has_ended
            and begun.number < told.latest.get(begun.by, begun.number + 1)
        ]
        greenlets = [begun for begun in each if isinstance(begun.thing(), gevent.Greenlet)]
        found = False
        for begun in greenlets:
            thing = begun.thing()
            if id(thing) in told.awaited and not self._descendants.serves_others(thing):
                found |= self._throw(told, thing, begun, begun)
        items = [
            (begun, begun.thing(), self._descendants.runs(begun.thing()))
            for begun in each
            if begun not in greenlets
            and (waits or not told.awaited.isdisjoint((SUBMITTED, id(begun.thing().future))))
        ]
        queued = [item.future for _, item, greenlet in items if greenlet is None]
        if queued:
            # Before a thread that ends one turns to the next. Not in the hub: there are callbacks.
            gevent.spawn(_cancel, queued)
            return True
        for begun, _, greenlet in items:
            if self._descendants.is_in_item(greenlet):
                found |= self._throw(told, greenlet, begun, begun.owner)
        return found

    def _throw(self, told: _Told, greenlet: Any, begun: Begun, owner: Owner) -> bool:
        if (
            greenlet.dead
            or greenlet.parent is not self._hub
            or critical.is_waiting(greenlet, self._run_code)
        ):
            return False
        told.begun[begun] = greenlet, owner
        told.latest[begun.number] = self._descendants.latest
        self._note(told, greenlet, owner)
        _hush(greenlet, told.error)
        greenlet.throw(told.error())
        return True

    def _note(self, told: _Told, greenlet: Any, owner: Owner) -> None:
        if greenlet.gr_frame is not None:
            told.awaited |= awaited_by(greenlet, self._descendants.begun_by(owner))


def _hush(greenlet: Any, error: type[BaseException]) -> None:
    """Have a greenlet that is a thread end of such an error without a word."""
    thread: Any = threading._active.get(id(greenlet))  # type: ignore[attr-defined]  # no lock taken
    report = getattr(thread, "_invoke_excepthook", None)
    if report is None:  # no thread, or made by asking for the current one where there is none
        return

    def report_others(thread: Any) -> None:
        if sys.exc_info()[0] is not error:
            report(thread)

    thread._invoke_excepthook = report_others


def _cancel(futures: list[Any]) -> None:
    for future in futures:
        future.cancel()
