"""What comes to the worker: frames are read here, and what they ask for is done.

Runs on: the hub, when the call pipe is readable; the attendant's thread, when a call keeps the hub.
Guarantees: no user code runs here; the end of the pipe, which means that the parent is gone, ends
the process at once.
"""

from __future__ import annotations

import os

from .. import native
from ..options import How
from ..wire import frames
from ..wire.shared import Channel
from . import stacks
from .functions import Functions
from .inbox import Inbox, Job, Run
from .outbox import Outbox
from .runners import Runners


class Inbound:
    """Reads frames, puts their calls into the inbox, and tells the runners."""

    def __init__(
        self,
        fd: int,
        channel: Channel,
        inbox: Inbox,
        functions: Functions,
        runners: Runners,
        outbox: Outbox,
    ) -> None:
        os.set_blocking(fd, False)
        self._reader = frames.FrameReader(fd, channel.take)
        self._inbox = inbox
        self._functions = functions
        self._runners = runners
        self._outbox = outbox
        # The job of the calls that came last, by function's number and how they are run: most calls
        # are like the last ones.
        self._jobs: dict[tuple[int, How], Job] = {}
        # Held by whoever reads: the hub or the attendant.
        self._lock = native.original("_thread", "allocate_lock")()

    def on_readable(self) -> None:
        """Read what has arrived and have it run; the hub's watcher calls this."""
        if self._read():
            self._runners.look()
            self._outbox.flush()

    def read_aside(self) -> bool:
        """Read what the hub has left unread; whether there was anything. Not on its thread."""
        arrived = self._read()
        if arrived:
            self._runners.service.wake()
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
        kind, rest = head[0], head[1:]
        runners = self._runners
        if kind == frames.CALLS:
            _, functions, spans = head
            for number, reference, needs in functions:
                self._functions.learn(number, frames.extract(reference, segments), needs)
            for function, how, first, items, bare in spans:
                if type(function) is not int:
                    job = Job(frames.extract(function, segments), how)
                elif (function, how) in self._jobs:
                    job = self._jobs[function, how]
                else:
                    self._jobs.clear()
                    job = self._jobs[function, how] = Job(function, how)
                if segments and not bare:
                    items = [
                        item if type(item) is tuple else frames.extract(item, segments)
                        for item in items
                    ]
                self._inbox.add(Run(job, first, items, bare))
        elif kind == frames.ASK:
            if runners.ask(*rest):
                self._outbox.add((frames.HUNGRY,))
        elif kind == frames.CANCEL:
            runners.stops.cancel(*rest)
        elif kind == frames.EXPIRE:
            runners.stops.expire(*rest)
        elif kind == frames.RECALL:
            self._outbox.add((frames.RECALLED, self._inbox.take_back(*rest)))
        elif kind == frames.RECLAIM:
            runners.reclaim(*rest)
        elif kind == frames.FORGET:
            self._jobs.clear()  # first, so that it lets go of no function
            self._functions.forget(*rest)
        elif kind == frames.STOP:
            runners.service.stop()
        elif kind == frames.WHERE:
            self._outbox.add((frames.HERE, *self._whereabouts()))

    def _whereabouts(self) -> tuple[int, str]:
        if native.ident() == self._runners.thread:
            return 0, ""  # the hub itself reads this: nothing keeps it
        return stacks.whereabouts(self._runners)
