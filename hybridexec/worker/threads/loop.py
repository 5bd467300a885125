"""What the main thread waits with: descriptors, timers, and callbacks at the end of a turn.

Thread: main; :meth:`Loop.wake` on any thread.
Guarantees: after each :meth:`Loop.wake`, the loop comes round.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
from collections import deque
from collections.abc import Callable

from ... import native


class Ready:
    """Calls back whenever a descriptor is ready, as long as it is started."""

    def __init__(self, poller: select.poll, callbacks: dict[int, Callable[[], None]], fd: int):
        self._poller = poller
        self._callbacks = callbacks
        self._fd = fd
        self.events = select.POLLIN

    @property
    def active(self) -> bool:
        """Whether it is started."""
        return self._fd in self._callbacks

    def start(self, callback: Callable[[], None], /) -> None:
        """Call ``callback`` whenever that is so."""
        self._callbacks[self._fd] = callback
        self._poller.register(self._fd, self.events)

    def stop(self) -> None:
        """Do not any more."""
        if self._callbacks.pop(self._fd, None) is not None:
            self._poller.unregister(self._fd)


class Timer:
    """Calls back once, some time after it was started."""

    def __init__(self, at: Callable[[float, Timer], None], after: float) -> None:
        self._at = at
        self._after = after
        self._callback: Callable[[], None] | None = None
        #: When it is to call back, in monotonic seconds.
        self.due = 0.0

    @property
    def active(self) -> bool:
        """Whether it is started."""
        return self._callback is not None

    def start(self, callback: Callable[[], None], /) -> None:
        """Call ``callback`` when the time is over; it was not started before."""
        self._callback = callback
        self.due = native.monotonic() + self._after
        self._at(self.due, self)

    def stop(self) -> None:
        """Do not any more."""
        self._callback = None

    def fire(self) -> None:
        """The time is over."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """The main thread's."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._soon: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._woken = False
        self._wake_fd, self._waker_fd = os.pipe()
        for fd in (self._wake_fd, self._waker_fd):
            os.set_blocking(fd, False)
        self.io(self._wake_fd, 1).start(self._wake_up)

    def run_callback(self, callback: Callable[[], None], /) -> None:
        """Call ``callback`` before the loop waits for anything."""
        self._soon.append(callback)

    def io(self, fd: int, events: int, /) -> Ready:
        """What watches a descriptor; ``events`` is 1 for readable, 2 for writable."""
        ready = Ready(self._poller, self._ready, fd)
        if events == 2:
            ready.events = select.POLLOUT
        return ready

    def timer(self, after: float, /) -> Timer:
        """What calls back once, so many seconds after it was started."""
        return Timer(self._add, after)

    def _add(self, due: float, timer: Timer) -> None:
        heapq.heappush(self._timers, (due, next(self._numbers), timer))

    def wake(self) -> None:
        """Have the loop come round; for any thread."""
        if not self._woken:
            self._woken = True
            os.write(self._waker_fd, b"w")

    def _wake_up(self) -> None:
        os.read(self._wake_fd, 4096)
        self._woken = False

    def turn(self) -> None:
        """Wait until there is something to do, and do all there is."""
        soon = self._soon
        while soon:
            soon.popleft()()
        # Rounded up: poll() waits for whole milliseconds.
        wait = None
        if self._timers:
            wait = max(0.0, (self._timers[0][0] - native.monotonic()) * 1000)
        for fd, _ in self._poller.poll(wait):
            callback = self._ready.get(fd)
            if callback is not None:
                callback()
        if self._timers:
            now = native.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2].fire()

    def close(self) -> None:
        """When no other thread can wake it any more."""
        os.close(self._wake_fd)
        os.close(self._waker_fd)
