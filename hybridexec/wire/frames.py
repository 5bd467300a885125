"""Frames: what crosses a pipe, many calls or many results in one write.

Runs on: the parent's I/O thread and the worker's two pipe threads.
Guarantees: a frame is delivered whole and in order; large payloads are neither copied into a frame
nor out of one.

Layout, in native byte order, since both ends are the same interpreter on the same machine::

    u32 length of head | u32 number of segments | u64 length of each segment ... | head | segments

The head is a marshalled tuple whose first member is the kind of frame. Where it would hold a large
payload it holds a list ``[first, count]`` that names segments instead; nothing else in a head is a
list of its own type at that place.

Parent to worker::

    (CALLS, [(number, payload)], [(function, how, first id, [item, ...], bare)])
        A function is a number that an earlier or the same frame introduced, or a payload for one
        use. How to run it is ``(timeout, timed, traced, retry_on)``: see ``inbox.Job``. An item
        is a tuple of plain arguments, or a payload of ``(args, kwargs)``; a bare item is the one
        argument itself, plain.
    (ASK, low)           send HUNGRY as soon as no more than so many calls wait in the inbox
    (CANCEL, ids, running)  drop these calls; stop them too where ``running`` and they have started
    (EXPIRE, id)         this call's time is up, and its worker has not stopped it so far
    (RECALL, count)      give back up to ``count`` calls that have not started, the newest first
    (RECLAIM, number, ids)  these calls are not the worker's any more: it has not started them, and
                         has not answered a RECALL. It may take others again.
    (FORGET, number)     this function will not be called again
    (STOP,)              leave: nothing is outstanding
    (WHERE,)             say what the main thread is doing

Worker to parent::

    (HELLO, pid)         ready for calls
    (FAILED, stage, text)   cannot get ready: why
    (RESULTS, [(id, status, value, seconds)], [(first id, [plain value, ...])])
    (HUNGRY,)            the inbox is low and slots are free
    (RECALLED, ids)      the answer to RECALL
    (HERE, call, stack)  the answer to WHERE: the call that has the CPU (0: none), and the main
                         thread's stack as text, empty if the hub itself had time to answer
"""

from __future__ import annotations

import marshal
import os
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from .payload import Payload, Segments

CALLS, ASK, CANCEL, RECALL, RECLAIM, FORGET, STOP, EXPIRE, WHERE = range(1, 10)
#: What must be heard while a call keeps the worker's hub.
URGENT = frozenset({CANCEL, EXPIRE, RECALL, WHERE})
HELLO, FAILED, RESULTS, HUNGRY, RECALLED, HERE = range(1, 7)

#: How a call ended. VALUE: a plain value; PICKLED: a payload; ERROR: ``(payload of the exception,
#: remote traceback, note)``; CANCELLED: dropped or stopped on request; TIMED_OUT: its time was up;
#: RETRIABLE: as ERROR, and the exception is one of those after which the call may be tried again.
VALUE, PICKLED, ERROR, CANCELLED, TIMED_OUT, RETRIABLE = range(6)

_READ_SIZE = 256 * 1024
_PREFIX = struct.Struct("=II")
_LENGTH = struct.Struct("=Q")

Buffer = bytes | bytearray | memoryview


class Frame(NamedTuple):
    """A decoded frame: its head, and the segments that the head names."""

    head: tuple[Any, ...]
    segments: tuple[bytearray, ...]

    def payload(self, reference: bytes | list[int]) -> Payload:
        """The payload at ``reference``: itself, or the segments it names."""
        if type(reference) is list:
            first, count = reference
            return Segments(self.segments[first : first + count])
        return reference  # type: ignore[return-value]


def embed(payload: Payload, segments: list[Buffer]) -> bytes | list[int]:
    """What stands for ``payload`` in a head; a large one's parts are added to ``segments``."""
    if type(payload) is Segments:
        first = len(segments)
        segments.extend(payload.parts)
        return [first, len(payload.parts)]
    return payload  # type: ignore[return-value]


def encode(head: tuple[Any, ...], segments: Iterable[Buffer] = ()) -> list[Buffer]:
    """The buffers to write for one frame."""
    body = marshal.dumps(head)
    segments = list(segments)
    prefix = bytearray(_PREFIX.pack(len(body), len(segments)))
    for segment in segments:
        prefix += _LENGTH.pack(memoryview(segment).nbytes)
    prefix += body
    return [prefix, *segments]


class FrameReader:
    """Cuts what a pipe delivers into frames; blocks exactly where the descriptor does."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._head: tuple[Any, ...] = ()
        # Invariant: _segments is empty unless a head was read and its segments are incomplete.
        self._segments: list[bytearray] = []
        self._filled = 0  # bytes of the current segment that have arrived
        self._current = 0  # index of the segment that is being filled

    def read(self) -> list[Frame] | None:
        """Do one read; return the frames it completed, or None at the end of the pipe.

        Raises:
            BlockingIOError: a non-blocking descriptor had nothing to read.
        """
        if self._segments:
            # Straight into its place: a gigabyte is received once and never copied.
            view = memoryview(self._segments[self._current])[self._filled :]
            count = os.readv(self._fd, [view])
            if not count:
                return None
            self._filled += count
            if count < len(view):
                return []
            return self._cut(self._next_segment())
        data = os.read(self._fd, _READ_SIZE)
        if not data:
            return None
        self._buffer += data
        return self._cut([])

    def _next_segment(self) -> list[Frame]:
        """Go on to the next segment; the finished frame, if that was the last."""
        self._filled = 0
        self._current += 1
        if self._current < len(self._segments):
            return []
        frame = Frame(self._head, tuple(self._segments))
        self._segments = []
        self._current = 0
        return [frame]

    def _cut(self, frames: list[Frame]) -> list[Frame]:
        buffer = self._buffer
        position = 0
        size = len(buffer)
        while True:
            if self._segments:
                target = self._segments[self._current]
                take = min(len(target) - self._filled, size - position)
                target[self._filled : self._filled + take] = buffer[position : position + take]
                self._filled += take
                position += take
                if self._filled < len(target):
                    break
                frames += self._next_segment()
                continue
            if size - position < _PREFIX.size:
                break
            length, count = _PREFIX.unpack_from(buffer, position)
            start = position + _PREFIX.size + count * _LENGTH.size
            if size < start + length:
                break
            self._head = marshal.loads(memoryview(buffer)[start : start + length])
            if count:
                lengths = struct.unpack_from(f"={count}Q", buffer, position + _PREFIX.size)
                self._segments = [bytearray(n) for n in lengths]
            else:
                frames.append(Frame(self._head, ()))
            position = start + length
        del buffer[:position]
        return frames
