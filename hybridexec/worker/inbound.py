"""What comes in: reads frames and does what they ask for.

Thread: main, when the call pipe is readable; the helper thread, while a call keeps main.
Guarantees: no user code runs here; the end of the pipe, which means that the parent is gone, ends
the process at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import native
from ..wire import frames, messages
from ..wire.page import TAKEN, StatusPage
from ..wire.shared import Channel
from .functions import Functions
from .inbox import Inbox, Job, Span
from .outbox import Outbox

if TYPE_CHECKING:
    from ..options import How
    from .lane import Lane
    from .late_logs import LateLogs


class Inbound:
    """Reads frames, puts their calls into the inbox, and tells the lane."""

    def __init__(
        self,
        fd: int,
        channel: Channel,
        page: StatusPage,
        inbox: Inbox,
        functions: Functions,
        outbox: Outbox,
        lane: Lane,
        logs: LateLogs,
    ) -> None:
        os.set_blocking(fd, False)
        self._reader = frames.FrameReader(fd, channel.take)
        self._inbox = inbox
        self._functions = functions
        self._outbox = outbox
        self._lane = lane
        self._page = page
        self._words = page.words
        # The job of the calls that came last, by function's number and how they are run: most calls
        # are like the last ones.
        self._jobs: dict[tuple[int, How], Job] = {}
        # What is done for a message but calls, with its fields.
        self._handlers: dict[int, Callable[..., object]] = {
            messages.NotifyLow.kind: self._notify_low,
            messages.Cancel.kind: lane.cancel,
            messages.Recall.kind: self._give_back,
            messages.Reclaim.kind: inbox.reclaim,
            messages.Forget.kind: self._forget,
            messages.Stop.kind: lane.stop,
            messages.Expire.kind: lane.expire,
            messages.Where.kind: self._say_where,
            messages.ShowStacks.kind: self._show_stacks,
            messages.Follow.kind: logs.follow,
            messages.More.kind: lane.more,
        }
        # Held by whichever thread reads.
        self._lock = native.original("_thread", "allocate_lock")()

    def on_readable(self) -> None:
        """Read what has arrived and have it run; on the main thread, when the pipe is readable."""
        if self._read():
            self._lane.look()
            self._outbox.flush()

    def read_aside(self) -> bool:
        """On the helper thread: read what main has left unread; whether there was anything."""
        arrived = self._read()
        if arrived:
            self._lane.wake()
            self._outbox.write()
        return arrived

    def _read(self) -> bool:
        """Handle the frames of one read; whether there was anything to read."""
        if not self._lock.acquire(False):
            return False
        try:
            received = self._reader.read()
            if received is None:
                os._exit(1)
            for frame in received:
                self._handle(frame)
            return True
        except BlockingIOError:
            return False
        finally:
            self._lock.release()

    def _handle(self, frame: frames.Frame) -> None:
        head, segments = frame
        if head[0] != messages.Calls.kind:  # the most, and the only ones with segments
            self._handlers[head[0]](*head[1:])
            return
        _, functions, spans = head
        for number, reference, needs in functions:
            self._functions.learn(number, frames.extract(reference, segments), needs)
        for function, how, first, items, bare, prelude, since in spans:
            if type(function) is not int:
                job = Job(frames.extract(function, segments), how)
            elif (function, how) in self._jobs:
                job = self._jobs[function, how]
            else:
                self._jobs.clear()
                job = self._jobs[function, how] = Job(function, how)
            # A small pickle among fragments is in the head, too, but as one in segments is.
            if (prelude is not None or (segments and not bare)) and list in set(map(type, items)):
                items = [
                    item if type(item) is tuple else frames.extract(item, segments)
                    for item in items
                ]
            self._inbox.add(Span(job, first, items, bare, prelude, since))

    def _notify_low(self, low: int) -> None:
        if self._inbox.notify_low(low, self._words[TAKEN]):
            self._outbox.add(messages.LowWatermark())

    def _give_back(self, count: int) -> None:
        self._outbox.add(messages.Recalled(self._inbox.take_back(count)))

    def _forget(self, number: int) -> None:
        self._jobs.clear()  # first, so that it lets go of no function
        self._functions.forget(number)

    def _say_where(self, modules: tuple[str, ...]) -> None:
        # The parent has taken the stack that was dumped because nobody was here to answer, or will.
        self._page.rewind_log()
        loaded = [name for name in modules if name in sys.modules]
        self._outbox.add(messages.Here(*self._lane.where(), loaded))

    def _show_stacks(self) -> None:
        self._page.rewind_log()  # as above
        self._outbox.add(messages.Stacks(*self._lane.stacks()))
