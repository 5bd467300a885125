"""The worker's two pipes, each served by the hub when it is free and by a native thread when not.

Runs on: a lone call is read, run and answered by the hub alone, with no hand-over between threads.
The threads are real ones, whatever gevent patched: a cancellation is heard and a result leaves
while the hub is busy with a call that hogs the CPU, and results that come faster than they can be
written leave many at a time.
Guarantees: no user code runs in the threads; the end of the call pipe, which means that the parent
is gone, ends the process at once; frames are written whole, one after another.
"""

from __future__ import annotations

import contextlib
import os
from _queue import Empty, SimpleQueue
from collections.abc import Iterable
from itertools import repeat
from typing import Any

from .. import native
from ..wire import frames
from ..wire.shared import Channel, Part
from . import stacks
from .runners import Entry, Job, Put, Runners

#: Entries in one frame: enough to spread its cost, few enough to start sending early.
_MAX_ENTRIES = 1024
_MAX_BUFFERS = 512
#: A write of up to so many bytes to a pipe happens whole or not at all (POSIX's PIPE_BUF).
_ATOMIC = 4096
#: Seconds that the thread leaves to the hub to read what has arrived.
_GRACE = 0.002
#: Milliseconds after which a call that keeps the hub from a cancellation is interrupted again, if
#: it has not been.
_INSIST_MS = 50

_READABLE, _WRITABLE = 1, 4  # select.POLLIN and POLLOUT


class Inbound:
    """Reads frames and hands their calls to the runners."""

    def __init__(self, fd: int, channel: Channel, runners: Runners, put: Put) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._reader = frames.FrameReader(fd, channel.take)
        self._runners = runners
        self._put = put
        # Held by whoever reads: the hub or the thread.
        self._lock = native.original("_thread", "allocate_lock")()

    def on_readable(self) -> None:
        """Read what has arrived and have it run; the hub's watcher calls this."""
        if self._read():
            self._runners.look()

    def run(self) -> None:
        """Read what the hub leaves unread; the thread runs this."""
        poller = native.original("select", "poll")()
        poller.register(self._fd, _READABLE)
        sleep = native.original("time", "sleep")
        while True:
            poller.poll(_INSIST_MS if self._runners.insist() else None)
            sleep(_GRACE)
            if self._read():
                self._runners.wake()

    def _read(self) -> bool:
        """Handle the frames of one read; whether there were any."""
        if not self._lock.acquire(False):
            return False
        try:
            received = self._reader.read()
            if received is None:
                os._exit(1)
            for frame in received:
                self._handle(frame)
            return bool(received)
        except BlockingIOError:
            return False
        finally:
            self._lock.release()

    def _handle(self, frame: frames.Frame) -> None:
        kind, *rest = frame.head
        runners = self._runners
        if kind == frames.CALLS:
            functions, spans = rest
            for number, reference in functions:
                runners.learn(number, frame.payload(reference))
            for function, how, first, items in spans:
                reference = function if type(function) is int else frame.payload(function)
                job = Job(reference, *how)
                if frame.segments:
                    items = [item if type(item) is tuple else frame.payload(item) for item in items]
                runners.add(zip(range(first, first + len(items)), repeat(job), items), len(items))
        elif kind == frames.ASK:
            runners.ask()
        elif kind == frames.CANCEL:
            runners.cancel(*rest)
        elif kind == frames.EXPIRE:
            runners.expire(*rest)
        elif kind == frames.RECALL:
            self._put((frames.RECALLED, runners.recall(*rest)))
        elif kind == frames.RECLAIM:
            runners.reclaim(*rest)
        elif kind == frames.FORGET:
            runners.forget(*rest)
        elif kind == frames.STOP:
            runners.stop()
        elif kind == frames.WHERE:
            self._put((frames.HERE, *self._whereabouts()))

    def _whereabouts(self) -> tuple[int, str]:
        if native.original("_thread", "get_ident")() == self._runners.thread:
            return 0, ""  # the hub itself reads this: nothing keeps it
        return stacks.whereabouts(self._runners)


class Outbound:
    """Writes results and other frames."""

    def __init__(self, fd: int, channel: Channel) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._channel = channel
        # The C queue: the patched one would need a hub in the thread.
        self._entries: SimpleQueue[Entry | None] = SimpleQueue()
        # Held while a frame is being written.
        self._lock = native.original("_thread", "allocate_lock")()
        self._finished = native.original("_thread", "allocate_lock")()
        self._finished.acquire()
        #: Queue a result ``(id, status, value, seconds)``, or the head of another frame. Callable
        #: from any thread and greenlet, never blocks.
        self.put: Put = self._entries.put

    def put_first(self, result: Entry) -> None:
        """As :attr:`put`, for the first result of a turn of the hub, maybe its only one: write it
        here and now, which costs less than waking the thread, if that cannot block."""
        if self._entries.empty() and self._lock.acquire(False):
            try:
                head, segments = _results_frame([result])
                frame = b"" if segments else frames.encode(head)[0]
                if 0 < len(frame) <= _ATOMIC:
                    os.write(self._fd, frame)
                    return
            except BlockingIOError:
                pass
            except OSError:
                os._exit(1)  # the parent is gone
            finally:
                self._lock.release()
        self.put(result)

    def finish(self) -> None:
        """Write what is queued, the last entries ever, and end the thread."""
        self._entries.put(None)
        self._finished.acquire()

    def run(self) -> None:
        """Write until :meth:`finish`."""
        entries = self._entries
        while True:
            batch = [entries.get()]
            with contextlib.suppress(Empty):
                while len(batch) < _MAX_ENTRIES:
                    batch.append(entries.get_nowait())
            last = batch[-1] is None
            # Results are the only entries of four; the head of any other frame is shorter.
            results = [entry for entry in batch if entry is not None and len(entry) == 4]
            with self._lock:
                if results:
                    self._write(*_results_frame(results))
                if len(results) < len(batch):
                    for entry in batch:
                        if entry is not None and len(entry) < 4:
                            self._write(entry)
            # While it waits for more, the thread must keep no large result alive.
            batch = results = entry = None  # type: ignore[assignment]
            if last:
                self._finished.release()
                return

    def _write(self, head: tuple[Any, ...], segments: Iterable[Part] = ()) -> None:
        buffers = frames.encode(head, segments, self._channel.hand_over)
        poller = native.original("select", "poll")()
        poller.register(self._fd, _WRITABLE)
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        while views:
            try:
                count = os.writev(self._fd, views[:_MAX_BUFFERS])
            except BlockingIOError:
                poller.poll()
                continue
            except OSError:
                os._exit(1)  # the parent is gone
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]


def _results_frame(results: list[Any]) -> tuple[tuple[Any, ...], list[Part]]:
    """The head and the segments of a frame with these results."""
    segments: list[Part] = []
    for index, (call, status, value, seconds) in enumerate(results):
        if status == frames.PICKLED:
            if type(value) is not bytes:
                results[index] = (call, status, frames.embed(value, segments), seconds)
        elif status in (frames.ERROR, frames.RETRIABLE):
            error, trace, note = value
            results[index] = (call, status, (frames.embed(error, segments), trace, note), seconds)
    return (frames.RESULTS, results), segments
