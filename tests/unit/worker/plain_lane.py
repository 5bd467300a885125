"""The smallest kind of worker: it runs one call after another, in plain Python.

It shows what :mod:`hybridexec.worker.lane` asks of a kind of worker, and that it asks no more. Its
main thread is whichever thread calls :func:`make`. A call that keeps it is stopped as another
thread can stop one: by an exception at its next bytecode.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hybridexec.wire import messages, payload
from hybridexec.wire.contract import Boot
from hybridexec.wire.page import HEARTBEAT, HELD, TAKEN, StatusPage, slot_index
from hybridexec.worker import failures, stacks
from hybridexec.worker.functions import Functions
from hybridexec.worker.inbox import Inbox
from hybridexec.worker.outbox import Outbox


class Stopped(BaseException):
    """Raised in a call that is to end, once."""


class Watcher:
    """Calls back while its descriptor is ready."""

    def __init__(self, fd: int, events: int) -> None:
        self.fd, self.events = fd, select.POLLOUT if events == 2 else select.POLLIN
        self.active = False

    def start(self, callback: Callable[[], None], /) -> None:
        self.callback, self.active = callback, True

    def stop(self) -> None:
        self.active = False


class Loop:
    """Callbacks at the end of a turn, and watchers."""

    def __init__(self) -> None:
        self._callbacks: deque[Callable[[], None]] = deque()
        self._watchers: list[Watcher] = []
        self._woken, self._wake = os.pipe()
        self.io(self._woken, 1).start(lambda: None)

    def run_callback(self, callback: Callable[[], None], /) -> None:
        self._callbacks.append(callback)

    def timer(self, after: float, /) -> Watcher:
        raise NotImplementedError("no call waits here while another runs")

    def io(self, fd: int, events: int, /) -> Watcher:
        self._watchers.append(Watcher(fd, events))
        return self._watchers[-1]

    def wake(self) -> None:
        os.write(self._wake, b"w")

    def turn(self, may_wait: bool) -> None:
        while self._callbacks:
            self._callbacks.popleft()()
        poller = select.poll()
        active = {watcher.fd: watcher for watcher in self._watchers if watcher.active}
        for watcher in active.values():
            poller.register(watcher.fd, watcher.events)
        for fd, _ in poller.poll(100 if may_wait else 0):
            if fd == self._woken:
                os.read(fd, 4096)
            active[fd].callback()

    def close(self) -> None:
        """When no other thread can wake it any more."""
        os.close(self._woken)
        os.close(self._wake)


_main = threading.local()


def prepare(boot: Boot) -> None:
    """It runs anywhere."""


def loop(factory: Callable[[], object] | None = None) -> Loop:
    if not hasattr(_main, "loop"):
        _main.loop = Loop()
    found: Loop = _main.loop
    return found


new_lock = threading.RLock


class PlainLane:
    """Runs one call after another."""

    def __init__(
        self,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        call_helper: Callable[[], None],
    ) -> None:
        self._words, self._times = page.words, page.times
        self._inbox, self._functions, self._put = inbox, functions, outbox.put
        self._loop = loop()
        self._thread = threading.get_ident()
        self._call = 0  # the one that runs
        self._told: tuple[int, int] = 0, 0  # a call that was stopped, and how it ends
        self._to_stop: deque[tuple[list[int], int]] = deque()
        self._turn_over = self._ends = False

    # -- main thread --------------------------------------------------------------------------

    def set_up(
        self, initialize: Callable[[], object], failed: Callable[[BaseException], object]
    ) -> bool:
        try:
            initialize()
        except BaseException as error:
            failed(error)
            return False
        return True

    def serve(self, calls_fd: int, on_readable: Callable[[], None]) -> None:
        self._loop.io(calls_fd, 1).start(on_readable)
        ran = False
        while not self._ends:
            self._times[HEARTBEAT] = time.monotonic()
            self._loop.turn(may_wait=not ran)
            self._functions.forgotten.clear()
            self._turn_over = ran = False
            while not self._turn_over and self._run_one():
                ran = True

    def look(self) -> None:
        self._inbox.forget_dropped()

    def _run_one(self) -> bool:
        """Run the next call; whether there may be more."""
        inbox, words = self._inbox, self._words
        span = inbox.head()
        if span is None:
            return False
        words[TAKEN] += 1
        try:
            if words[HELD] != inbox.released:
                raise IndexError
            item = span.items.popleft()
        except IndexError:  # it has been taken back just now, or is about to be
            words[TAKEN] -= 1
            return False
        call = span.next
        span.next += 1
        if inbox.asked and words[TAKEN] >= inbox.low_at:
            inbox.asked = False
            self._put(messages.LowWatermark())
        if call in inbox.dropped:
            inbox.dropped.discard(call)
            self._put((call, messages.CANCELLED, None, None))
            return True
        job = span.job
        slot = slot_index(0)
        words[slot], self._times[slot + 1] = call, time.monotonic()
        self._call = call
        value: Any
        try:
            function = job.function or self._functions.load(job)
            args, kwargs = ((item,), {}) if span.bare else (item, {})
            if not span.bare and type(item) is not tuple:
                args, kwargs = payload.loads(item)
            status, value = messages.PICKLED, payload.dumps(function(*args, **kwargs))
        except BaseException as error:
            told, status = self._told
            if isinstance(error, Stopped) and told == call:
                value = job.timeout if status == messages.TIMED_OUT else None
            else:
                status = messages.ERROR
                value = failures.describe(error, "call", job.function, item)
        self._call = words[slot] = 0
        self._put((call, status, value, None))
        return True

    # -- who reads the call pipe --------------------------------------------------------------

    def cancel(self, calls: list[int], running: bool) -> None:
        self._inbox.drop(calls)
        if running:
            self._to_stop.append((calls, messages.CANCELLED))

    def expire(self, call: int) -> None:
        self._to_stop.append(([call], messages.TIMED_OUT))

    def more(self, call: int, fetched: int) -> None:
        raise NotImplementedError("no call streams here")

    def stop(self) -> None:
        self._ends = True

    def where(self) -> tuple[int, str]:
        if threading.get_ident() == self._thread:
            return 0, ""
        code = PlainLane._run_one.__code__
        return stacks.whereabouts(self._thread, code, lambda call: call == self._call)

    def stacks(self) -> tuple[int, list[messages.StackGroup], int]:
        busy = None if threading.get_ident() == self._thread else self._thread
        code = PlainLane._run_one.__code__
        return stacks.all_stacks(busy, [], code, lambda call: call == self._call)

    # -- any thread ---------------------------------------------------------------------------

    @property
    def calling(self) -> Callable[[], str]:
        return lambda: f"call {self._call}" if threading.get_ident() == self._thread else ""

    # -- the helper thread --------------------------------------------------------------------

    def wake(self) -> None:
        self._loop.wake()

    def end_turn(self) -> None:
        self._turn_over = True

    @property
    def is_stopping(self) -> bool:
        return bool(self._to_stop)

    def insist(self) -> bool:
        while self._to_stop:
            calls, status = self._to_stop.popleft()
            call = self._call
            if call and call in calls and self._told[0] != call:
                self._told = call, status
                raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raise_in(ctypes.c_ulong(self._thread), ctypes.py_object(Stopped))
        return False


make = PlainLane
