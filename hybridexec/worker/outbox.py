"""What goes out: results and other messages.

Thread: main writes at the end of a turn, as far as that cannot block, and so does any other thread
that runs calls; the helper thread writes what these do not get to, and what does not fit into the
pipe.
Guarantees: frames are written whole, one after another; putting something in never waits.

The results of calls that wait, many at once, would leave one by one, as the descriptors that they
wait for become ready; and each would wake the parent. So such a result is held back for a while, to
leave with others: for a tenth of the time that its call took.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import native
from ..wire import frames, messages
from ..wire.messages import Results, ToParent
from ..wire.shared import Channel, Part
from .rows import Entry, Row, Yields

if TYPE_CHECKING:
    from .lane import Loop, Watcher

#: Results in one frame that are not in a row: enough to spread its cost, and to send early.
_MAX_RESULTS = 1024
#: Bytes and values that the rows in one frame have at most. (More than one row's, it may become.)
_MAX_BYTES, _MAX_VALUES = 1 << 20, 1 << 14
_MAX_BUFFERS = 512
#: A write of up to so many bytes to a pipe happens whole or not at all (POSIX's PIPE_BUF).
_ATOMIC = 4096

#: For how long a result is held back: this part of its call's time, so many seconds at most. If
#: that is less than so many, it is not.
_HELD_PART, _MOST_HELD, _LEAST_HELD = 0.1, 0.01, 0.001

_WRITABLE = 4  # select.POLLOUT


class Outbox:
    """Frames on their way to the parent."""

    def __init__(
        self,
        fd: int,
        channel: Channel,
        call_helper: Callable[[], None],
        loop: Loop,
    ) -> None:
        """
        Args:
            fd: the results pipe.
            channel: on which large results are handed over.
            call_helper: has the helper thread look, within milliseconds; for any thread.
            loop: the main thread's.
        """
        os.set_blocking(fd, False)
        self._fd = fd
        self._channel = channel
        self._call_helper = call_helper
        self._soon = loop.run_callback
        self._timer = loop.timer
        # While it is started, the main thread goes on writing as soon as the pipe has room.
        self._room = loop.io(fd, 2)
        # Results one by one, rows of them, calls' items, and other messages.
        self._entries: deque[Entry] = deque()
        # Results that are held back; while there are any, the timer runs by which they leave. (The
        # helper thread lets them leave if the main thread does not get to it.)
        self._held: deque[Entry] = deque()
        self._held_until = 0.0
        self._hold: Watcher | None = None
        # Held by whichever thread writes.
        self._lock = native.original("_thread", "allocate_lock")()
        # Guarded by _lock: the rest of a frame that is partly written.
        self._begun: list[memoryview] = []
        self._flush_is_due = False
        self._fitting = 256  # values in a frame, going by the size of the last ones

    @property
    def pending(self) -> bool:
        """Whether something is to be written."""
        return bool(self._entries or self._begun)

    @property
    def holding(self) -> bool:
        """Whether results are held back."""
        return bool(self._held)

    def add(self, entry: Entry) -> None:
        """Put something in, from any thread; :meth:`flush`, :meth:`push` or :meth:`write` must
        follow."""
        self._entries.append(entry)

    def put(self, entry: Entry) -> None:
        """Put something in, on the main thread: it leaves at the end of its loop's turn, if not
        sooner."""
        self._entries.append(entry)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._soon(self.flush)
        self._call_helper()  # in case a call keeps the turn from ending

    def put_late(self, result: Entry, began: float) -> None:
        """As :meth:`put`, for the result of a call that began then and waited, as many others still
        do: it may be held back."""
        now = native.monotonic()
        patience = min(_HELD_PART * (now - began), _MOST_HELD)
        if patience < _LEAST_HELD:
            self.put(result)
            return
        self._held.append(result)
        if self._hold is None:
            self._call_helper()
        elif now + patience >= self._held_until:
            return
        else:
            self._hold.stop()
        self._held_until = now + patience
        self._hold = self._timer(patience)
        self._hold.start(self._end_hold)

    def put_first(self, result: Entry) -> None:
        """As :meth:`put`, for the first result of a turn, maybe its only one: write it here and
        now, if that cannot block."""
        if not (self._entries or self._begun) and self._lock.acquire(False):
            try:
                message, segments = _results([result], [])
                frame = [] if segments else frames.encode(message.head)
                if len(frame) == 1 and len(frame[0]) <= _ATOMIC:
                    os.write(self._fd, frame[0])
                    return
            except BlockingIOError:
                pass
            except OSError:
                os._exit(1)  # the parent is gone
            finally:
                self._lock.release()
            self._entries.append(result)
            self.flush()
        else:
            self.put(result)

    def let_go(self) -> None:
        """In a child of the process: let nothing leave."""
        self._entries = deque(maxlen=0)
        self._held = deque(maxlen=0)
        self._call_helper = lambda: None
        self._begun = []
        self._lock = native.original("_thread", "allocate_lock")()
        self._lock.acquire()
        self._room.stop()

    def hurry(self, now: float) -> None:
        """Have what should have left by now be pending; on the helper thread."""
        if now > self._held_until:
            self._release()

    def _release(self) -> None:
        """Hold nothing back any more; on any thread."""
        try:
            while self._held:
                self._entries.append(self._held.popleft())
        except IndexError:
            pass  # the other thread does the same

    def _end_hold(self) -> None:
        self._release()
        self.flush()

    def flush(self) -> None:
        """Write what there is, as far as that cannot block; on the main thread."""
        self._flush_is_due = False
        if self._hold is not None and (self._entries or not self._held):
            self._hold.stop()
            self._hold = None
            self._release()  # they leave with the others
        if self._write_now():
            self._room.stop()
        elif not self._room.active:
            self._room.start(self.flush)
            self._call_helper()  # in case a call keeps the main thread

    def push(self) -> None:
        """As :meth:`flush`, on a thread that runs calls and is not main's."""
        if not self._write_now():
            self._call_helper()

    def _write_now(self) -> bool:
        """Write what there is, until that would block; false if it would."""
        # If another thread is at it, that looks again when it is done.
        while self.pending and self._lock.acquire(False):
            try:
                if not self._write_some(None):
                    return False
            finally:
                self._lock.release()
        return True

    def write(self) -> None:
        """Write what there is, however long that takes; on the helper thread, or at the end."""
        self._release()
        if not self.pending:
            return
        poller = native.original("select", "poll")()
        poller.register(self._fd, _WRITABLE)
        while self.pending:
            with self._lock:
                self._write_some(poller)

    def _write_some(self, poller: Any) -> bool:
        """Write some frames, or the rest of them; whether they are written. With a poller, wait
        until they are."""
        self._begun = self._begun or self._next_frames()
        while self._begun:
            try:
                count = os.writev(self._fd, self._begun[:_MAX_BUFFERS])
            except BlockingIOError:
                if poller is None:
                    return False
                poller.poll()
                continue
            except OSError:
                os._exit(1)  # the parent is gone
            done = 0
            while done < len(self._begun) and count >= len(self._begun[done]):
                count -= len(self._begun[done])
                done += 1
            del self._begun[:done]
            if count:
                self._begun[0] = self._begun[0][count:]
        return True

    def _next_frames(self) -> list[memoryview]:
        """The buffers of what comes next: a frame of items, or one of results and other messages
        around it."""
        entries = self._entries
        if entries and isinstance(entries[0], Yields):
            return self._next_items()
        before: list[memoryview] = []
        after: list[memoryview] = []
        results: list[Any] = []
        rows: list[messages.Row] = []
        room = self._fitting
        while entries and len(results) < _MAX_RESULTS and room > 0:
            entry = entries[0]
            if isinstance(entry, Row):
                if after:
                    break
                # Emptied first: from then on, the next value added puts it in again.
                row = entry.take(room)
                room -= len(row[1])
                if not entry.values:
                    entries.popleft()
                if row[1]:
                    rows.append(row)
            elif isinstance(entry, tuple):
                if after:
                    break
                results.append(entry)
                entries.popleft()
            elif isinstance(entry, Yields):
                break  # the files of a frame are handed over before the next one is encoded
            else:
                entries.popleft()
                frame = self._views(entry)
                if results or rows:
                    after += frame
                else:
                    before += frame
        if not results and not rows:
            return before
        frame = self._views(*_results(results, rows))
        if rows and not results:
            size = sum(map(len, frame)) // sum(len(values) for _, values, _ in rows)
            self._fitting = max(16, min(_MAX_VALUES, _MAX_BYTES // max(1, size)))
        return before + frame + after

    def _next_items(self) -> list[memoryview]:
        """The buffers of a frame of items."""
        entries = self._entries
        segments: list[Part] = []
        yielded: list[tuple[int, bool, list[Any]]] = []
        while entries and isinstance(entry := entries[0], Yields):
            values = entry.take()
            if not entry.values:  # as with rows
                entries.popleft()
            if entry.packed:
                values = [frames.embed(value, segments) for value in values]
            if values:
                yielded.append((entry.call, entry.packed, values))
        return self._views(messages.Items(yielded), segments) if yielded else []

    def _views(self, message: ToParent, segments: Sequence[Part] = ()) -> list[memoryview]:
        buffers = frames.encode(message.head, segments, self._channel.hand_over, message.distinct)
        return [memoryview(buffer).cast("B") for buffer in buffers]


def _results(results: list[Any], rows: list[messages.Row]) -> tuple[Results, list[Part]]:
    """The message with these results, and its segments."""
    segments: list[Part] = []
    for index, (call, status, value, seconds) in enumerate(results):
        if status == messages.PICKLED:
            if type(value) is not bytes:
                results[index] = (call, status, frames.embed(value, segments), seconds)
        elif status in (messages.ERROR, messages.RETRIABLE):
            error, *texts = value
            results[index] = (call, status, (frames.embed(error, segments), *texts), seconds)
    return Results(results, rows), segments
