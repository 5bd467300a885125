"""Makes an exception of a signal handler hit the call that has set the handler, and no other.

Thread: main, the only one that may set handlers and on which Python runs them.
Guarantees: a handler is its call's while that runs, and the process's after that: a call finds
what it has set itself, or what would be there without its neighbours. What a handler raises is
raised in its call: at once, if that has the CPU, else where it waits; if that call has ended,
nowhere. The signals that a worker itself needs keep working, and are never blocked.

Python runs a handler wherever the main thread happens to be. In a worker that may be in another
call, which would get what the handler raises, or in the hub, which would raise it in the main
greenlet and so end the process. If several calls have a handler for a signal, the one that has the
CPU gets it (it has most likely sent the signal to itself), else the one that set its handler last,
as in a process without calls. Which call an alarm belongs to, :mod:`.alarms` knows.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C module
import signal
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FrameType
from typing import Any

import gevent
import greenlet

from ... import native
from ...wire.page import DUMP_SIGNAL
from . import critical
from .feed import Runner
from .runners import Runners
from .stops import FIRST_PAUSE, LAST_PAUSE, CallExpired, StopCall

Handler = Callable[[int, FrameType | None], object]

_set: Callable[[int, Any], Any] = _signal.signal
_get: Callable[[int], Any] = _signal.getsignal
#: The system's.
set_wakeup_fd: Callable[..., int] = _signal.set_wakeup_fd
_mask: Callable[[int, Any], set[int]] = _signal.pthread_sigmask
_DEFAULT, _IGNORE = int(signal.SIG_DFL), int(signal.SIG_IGN)
#: What the system does nothing about by default.
_HARMLESS = {signal.SIGURG, signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH}
_RUN_CALLS = Runners._run_calls.__code__
_OURS = f"{__name__.partition('.')[0]}."

#: The worker's.
installed: Signals | None = None

#: A call, and who runs it. (A NamedTuple would compile code at each worker's start.)
Owner = tuple[int, Any]


class Signals:
    """The handlers of a worker's calls."""

    def __init__(self, runners: Runners, running: Callable[[], Mapping[int, float]]) -> None:
        """Must be made on the main thread, with the handlers in place that must not change.

        Args:
            running: the calls that run.
        """
        self._runners = runners
        self._running = running
        self._hub: Any = gevent.get_hub()
        # Who has set which handler for a signal, the last one last. None: it is the process's.
        self._handlers: dict[int, dict[Owner | None, Any]] = {}
        # Those signals of which a call that has ended has set the process's handler.
        self._left: set[int] = set()
        #: Takes signals of which it knows for whom they are; whether it has.
        self.take: Callable[[int, FrameType | None], bool] = lambda number, frame: False
        #: Has those hear of a signal by a descriptor who want to.
        self.wake: Callable[[Owner | None, int], None] | None = None
        #: Calls that wait until a handler of theirs has run, whichever.
        self.pausing: set[Owner | None] = set()
        self._interrupt: Handler = _get(signal.SIGURG)
        # What is done about these stays as it is.
        self._kept: set[int] = {signal.SIGURG, DUMP_SIGNAL or signal.SIGURG}
        # Those of them that a call has blocked, as it believes.
        self._blocked: set[int] = set()
        #: The main thread, as the system calls it.
        self.main: int = native.ident()

    def install(self) -> None:
        """From now on, have handlers belong to calls."""
        global installed
        installed = self
        for number in signal.valid_signals() - self._kept - {signal.SIGINT}:
            handler = _get(number)
            if callable(handler):  # an import has set it, or the parent before it forked
                self._handlers[number] = {None: handler}
                _set(number, self.handle)
        # signal.signal calls it, also for those who have imported that before.
        _signal.signal = self.signal
        _signal.getsignal = self.getsignal
        _signal.pthread_sigmask = self.pthread_sigmask
        _signal.set_wakeup_fd = signal.set_wakeup_fd = self.set_wakeup_fd

    # -- for the user's code --------------------------------------------------------------------

    def signal(self, number: int, handler: Any) -> Any:
        """As ``signal.signal``."""
        before = self.getsignal(number)
        if number in self._kept:
            self._keep(number, handler)
        elif callable(handler):
            _set(number, self.handle)
        elif handler not in (_DEFAULT, _IGNORE) or not any(map(callable, self._of_others(number))):
            _set(number, handler)
        handlers = self._handlers.setdefault(number, {None: before})
        owner = self.owner()
        handlers.pop(owner, None)
        handlers[owner] = handler
        if owner is None:
            self._left.discard(number)
        return before

    def getsignal(self, number: int) -> Any:
        """As ``signal.getsignal``."""
        handlers = self._now(number)
        owner = self.owner()
        if owner in handlers:
            return handlers[owner]
        if None in handlers:
            return handlers[None]
        return _DEFAULT if number in self._kept else _get(number)

    def pthread_sigmask(self, how: int, mask: Iterable[int]) -> set[int]:
        """As ``signal.pthread_sigmask``. All calls have the main thread's mask."""
        if native.ident() != self.main:
            return _mask(how, mask)
        mask = set(mask)
        before = _mask(how, mask - self._kept) | self._blocked
        if how != signal.SIG_BLOCK:
            self._blocked -= mask if how == signal.SIG_UNBLOCK else self._kept
        if how != signal.SIG_UNBLOCK:
            self._blocked |= mask & self._kept
        return before

    def set_wakeup_fd(self, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        """As ``signal.set_wakeup_fd``."""
        from .wakeups import Wakeups  # few need them

        if self.wake is None:
            self._wakeups = Wakeups(self)
            self.wake = self._wakeups.wake
        return self._wakeups.set_fd(fd, warn_on_full_buffer)

    def unkept(self, numbers: Iterable[int]) -> set[int]:
        """Those signals that the worker does not need itself."""
        return set(numbers) - self._kept

    def _keep(self, number: int, handler: Any) -> None:
        """Add to what the worker does about a signal."""
        if not callable(handler) and handler not in (_DEFAULT, _IGNORE):
            _set(number, handler)  # it knows how to refuse that
        _set(signal.SIGURG, self._handle_urgent)  # refuses to do so in other threads

    def _of_others(self, number: int) -> list[Any]:
        owner = self.owner()
        return [handler for who, handler in self._now(number).items() if who != owner]

    # -- whose it is ----------------------------------------------------------------------------

    def owner(self) -> Owner | None:
        """The call that has started the current greenlet or thread, itself or in several steps."""
        who: Any = greenlet.getcurrent()
        while who is not None and type(who) is not Runner:
            spawner = getattr(who, "spawning_greenlet", None)
            who = who.parent if spawner is None else spawner()
        owner = (self._runners.call_of(who), who)
        return owner if self.runs(owner) else None

    def runs(self, owner: Owner) -> bool:
        """Whether a call has not ended."""
        return bool(owner[0]) and self._runners.runner_of(owner[0]) is owner[1]

    def _now(self, number: int) -> dict[Owner | None, Any]:
        """Who has set which handler. What those have set who have ended is the process's."""
        handlers = self._handlers.get(number, {})
        for owner in [who for who in handlers if who is not None and not self.runs(who)]:
            handlers[None] = handlers.pop(owner)
            self._left.add(number)
        return handlers

    def handler_of(self, owner: Owner | None, number: int) -> Any:
        """What a call has set for a signal, or else the process."""
        handlers = self._now(number)
        return handlers.get(owner, handlers.get(None, _DEFAULT))

    # -- when a signal comes ----------------------------------------------------------------------

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Do what is to be done about a signal."""
        if self.take(number, frame):
            return
        handlers = self._now(number)
        owner = self.owner()
        if owner is None or owner not in handlers:
            owner = next((who for who in reversed(handlers) if who is not None), None)
        self.deliver(owner, number, frame)

    def _handle_urgent(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(number, frame)
        self.handle(number, frame)

    def deliver(self, owner: Owner | None, number: int, frame: FrameType | None) -> bool:
        """Have a call, or nobody in particular, get a signal; false if it cannot just now, because
        it is about to start or to end."""
        handler = self.handler_of(owner, number)
        if not callable(handler):
            if handler == _DEFAULT and number not in _HARMLESS:
                _set(number, _DEFAULT)
                signal.raise_signal(number)
            return True
        if self.wake is not None:
            self.wake(owner, number)
        if self.pausing:
            handler = partial(self._end_pauses, handler, owner)
        current: Any = greenlet.getcurrent()
        if not self._is_users(current, frame):
            if owner is not None and current is owner[1]:
                return False
            # Nothing may wait in the hub, or between two calls.
            waiting = frame if owner is None else owner[1].gr_frame
            gevent.spawn(self._run, handler, number, waiting, owner)
        elif number not in self._left if owner is None else current is owner[1]:
            handler(number, frame)
        else:
            self._run(handler, number, frame, owner)
        return True

    def _end_pauses(
        self, handler: Handler, owner: Owner | None, number: int, frame: FrameType | None
    ) -> None:
        try:
            handler(number, frame)
        finally:
            self.pausing.difference_update(list(self.pausing) if owner is None else [owner])

    def _run(
        self, handler: Handler, number: int, frame: FrameType | None, owner: Owner | None
    ) -> None:
        """Run a handler where nothing may be raised."""
        try:
            handler(number, frame)
        except (StopCall, CallExpired):
            raise  # meant for the call that was interrupted by the signal
        except BaseException as error:
            running = () if owner is not None or number in self._left else [*self._running()]
            if len(running) == 1:  # as if there were no others
                owner = (running[0], self._runners.runner_of(running[0]))
            if owner is None:
                traceback.print_exc()
            else:
                why = number, self.handler_of(owner, number)
                self._hub.loop.run_callback(self._throw, owner, error, why)

    def _throw(
        self, owner: Owner, error: BaseException, why: tuple[int, Any], pause: float = FIRST_PAUSE
    ) -> None:
        """Raise in a call that waits what its handler has raised; after a critical section, if the
        handler is there still: else what it was set for is over."""
        if not self.runs(owner) or self.handler_of(owner, why[0]) is not why[1]:
            return
        if critical.is_waiting(owner[1], _RUN_CALLS):
            timer = self._hub.loop.timer(pause)

            def again() -> None:
                timer.close()
                self._throw(owner, error, why, min(2 * pause, LAST_PAUSE))

            timer.start(again)
        else:
            owner[1].throw(type(error), error, error.__traceback__)

    def _is_users(self, current: Any, frame: FrameType | None) -> bool:
        """Whether it is code of the user's that a signal has interrupted, and may get an error."""
        called: FrameType | None = None
        while frame is not None and frame.f_code is not _RUN_CALLS:
            called, frame = frame, frame.f_back
        if frame is None:
            return (
                current is not self._hub
                and current.parent is not None
                and (type(current) is not Runner)
            )
        return called is not None and not str(called.f_globals.get("__name__")).startswith(_OURS)
