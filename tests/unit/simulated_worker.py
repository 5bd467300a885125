"""A worker process and its pipes, as the pool sees them.

It follows hybridexec/worker: calls are taken in the order they were sent, recall takes them back
from the tail, and each side hears of the other only when a frame is read. Each step is one method,
so that tests decide in which order things happen.

Calls with an odd number swallow what is raised in them, be it because they were cancelled or
because their time is up. A call may keep the hub for itself (``hog``): until it ends, no other call
of that worker starts or ends, and the hub's heart does not beat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hybridexec.wire import messages
from hybridexec.wire.histogram import Histogram


class Page:
    """As much of a status page as the pool reads."""

    def __init__(self) -> None:
        self.taken = 0
        self.heartbeat = 0.0
        self.current = self.resident = 0
        self.busy = self.cpu_seconds = 0.0
        self.run_seconds = self.wait_seconds = Histogram()
        self.held = 0
        self.started: dict[int, float] = {}

    def hold(self, number: int) -> bool:
        assert number > self.held, "each hold has a number of its own"
        self.held = number
        return True

    def starts(self) -> list[float]:
        return list(self.started.values())

    def earliest(self, count: int) -> list[tuple[float, int]]:
        return sorted((since, call) for call, since in self.started.items())[:count]

    def running(self) -> dict[int, float]:
        return self.started


class SimulatedWorker:
    """A worker process with its pipes."""

    def __init__(self, number: int, lane: str, clock: Callable[[], float]) -> None:
        self.number = number
        self.lane = lane
        self.clock = clock
        self.pid = 1000 + number
        self.page = Page()
        self.pipe: deque[tuple[Any, ...]] = deque()  # frames it has not read
        self.out: deque[tuple[str, Any]] = deque()  # what the parent has not read
        self.inbox: deque[int] = deque()
        self.running: dict[int, None] = {}
        self.dropped: set[int] = set()
        self.hog: int | None = None  # the call that keeps the hub
        self.held_up: list[tuple[int, int]] = []  # what the hub will raise when it gets to it
        self.asked = False
        self.low = 0
        self.was_kept = False  # some call has kept its hub
        self.exists = False  # its process was started
        self.greeted = False  # the parent has read its HELLO
        self.doomed = False  # a signal is on its way
        self.failure: BaseException | None = None  # what it said in FAILED
        self.stopped = False  # it has read STOP
        self.released = 0  # the number of the last RECLAIM it has read
        # What the parent's frames promised it, whether read or not.
        self.functions: set[int] = set()
        self.told_to_stop = False

    def __repr__(self) -> str:
        return f"worker {self.number}"

    def read(self) -> None:
        """Handle one frame."""
        kind, *rest = self.pipe.popleft()
        if kind == messages.Calls.kind:
            _, spans = rest
            for _, _, first, items, *_ in spans:
                self.inbox.extend(range(first, first + len(items)))
        elif kind == messages.NotifyLow.kind:
            (self.low,) = rest
            self.asked = True
            self._check_watermark()
        elif kind == messages.Cancel.kind:
            calls, running = rest
            self.dropped.update(set(self.inbox).intersection(calls))
            for call in calls if running else ():
                self._stop(call, messages.CANCELLED)
        elif kind == messages.Expire.kind:
            self._stop(rest[0], messages.TIMED_OUT)
        elif kind == messages.Recall.kind:
            count = min(rest[0], len(self.inbox))
            calls = [self.inbox.pop() for _ in range(count)]
            self.dropped.difference_update(calls)
            self.out.append(("recalled", calls))
        elif kind == messages.Reclaim.kind:
            self.released, calls = rest
            while self.inbox and self.inbox[-1] in calls:
                self.inbox.pop()
            assert not set(self.inbox).intersection(calls), "the last calls are reclaimed"
            self.dropped.difference_update(calls)
        elif kind == messages.Stop.kind:
            assert not self.inbox
            assert not self.running
            self.stopped = True

    def _stop(self, call: int, status: int) -> None:
        if self.hog not in (None, call):
            self.held_up.append((call, status))
        elif call in self.running and call % 2 == 0:
            self.answer(call, status)

    def keep_hub(self, call: int, traced: bool = True) -> None:
        """A running call keeps the hub; ``traced``: and the page says which."""
        self.hog = call
        self.was_kept = True
        self.page.current = call if traced else 0

    def yield_hub(self) -> None:
        """The hub gets to everything again."""
        self.hog = None
        self.page.current = 0
        self.page.heartbeat = self.clock()
        held_up, self.held_up = self.held_up, []
        for call, status in held_up:
            self._stop(call, status)

    def _check_watermark(self) -> None:
        if self.asked and len(self.inbox) <= self.low:
            self.asked = False
            self.out.append(("low_watermark", None))

    def may_take(self, slots: int) -> bool:
        """Whether there is a call to take, and room for it."""
        held = self.page.held != self.released
        return bool(self.inbox) and len(self.running) < slots and not held

    def take(self) -> int:
        """Take a call from the inbox and start it, unless it was cancelled."""
        self.page.taken += 1
        call = self.inbox.popleft()
        self._check_watermark()
        if call in self.dropped:
            self.dropped.discard(call)
            self.out.append(("results", [(call, messages.CANCELLED, None, None)]))
        else:
            self.running[call] = None
            self.page.started[call] = self.clock()
        return call

    def answer(self, call: int, status: int = messages.VALUE, seconds: float | None = None) -> None:
        """End a running call, which may say when it is to be tried again."""
        del self.running[call]
        del self.page.started[call]
        failed = status in (messages.ERROR, messages.RETRIABLE)
        value: Any = call
        if failed:
            value = (b"", "Traceback\nError: it failed\n", "", "Error", "it failed")
        if status == messages.RETRIABLE:
            value = (*value, seconds)
        self.out.append(("results", [(call, status, value, None)]))
        if self.hog == call:
            self.yield_hub()
