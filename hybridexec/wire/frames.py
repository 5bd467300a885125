"""Frames: what crosses a pipe, many calls or many results in one write.

Thread: whichever reads or writes a pipe: in the parent, the turn holder; in the worker, the hub or
the helper thread.
Guarantees: frames are delivered whole and in order; large payloads are not copied into a frame, and
what is sent as ``bytes`` arrives as such, all else so that it may be changed.

Layout, with little-endian numbers::

    u32 length of head | u32 number of segments | u64 length of each segment ... | head | segments

The head is a marshalled tuple, see :mod:`.messages`. In place of a large payload it has a list
``[first, count]``, which names segments, or ``[first, count, pickle]``, if what is large are the
buffers only; a head has no other list in such a place. A segment whose length has its highest bit
set does not follow: it is in a memory file that was handed over before. See
:mod:`hybridexec.wire.shared`.
"""

from __future__ import annotations

import io
import marshal
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from . import parts
from .payload import INLINE_LIMIT, Payload, Segments
from .shared import Buffer, File, Part, Region
from .uncollected import uncollected

_READ_SIZE = 256 * 1024
#: marshal's format without references, which cost several times as much as small values. In a large
#: head they pay, because a value that occurs many times is sent once.
_PLAINLY = 2
_LARGE = 256 * 1024
#: A head from this size on may hold so many values that it is worth it to keep the garbage
#: collector away.
_MANY = 8 * 1024
#: A prefix is put before a head of up to so many bytes, and written with a larger one.
_JOINED = 16 * 1024
_PREFIX = struct.Struct("<II")
_PREFIX_SIZE = _PREFIX.size
_LENGTH = struct.Struct("<Q")
#: Flags beside a segment's length: it is in a memory file; it is the first one of a new file; it is
#: to arrive as bytes, not as something that may be changed.
_IN_FILE, _NEXT_FILE, _EXACT = 1 << 63, 1 << 62, 1 << 61
_SIZE = _EXACT - 1


#: A decoded frame: its head, and the segments that the head names.
Frame = tuple[tuple[Any, ...], tuple[Part, ...]]


def embed(payload: Payload, segments: list[Part]) -> bytes | list[Any]:
    """What stands for ``payload`` in a head; the parts of a large one are added to ``segments``."""
    if type(payload) is Segments:
        first = len(segments)
        pickled, *buffers = payload.parts
        if type(pickled) is bytes and len(pickled) <= INLINE_LIMIT:
            segments.extend(buffers)
            return [first, len(buffers), pickled]
        segments.extend(payload.parts)
        return [first, len(payload.parts)]
    return payload


def extract(reference: bytes | list[Any], segments: Sequence[Part]) -> Payload:
    """The payload that ``reference`` stands for: itself, or the segments it names."""
    if type(reference) is list:
        first, count, *begun = reference
        return Segments((*begun, *segments[first : first + count]))
    assert type(reference) is bytes
    return reference


def encode(
    head: tuple[Any, ...],
    segments: Sequence[Part] = (),
    hand_over: Callable[[File], bool] | None = None,
    distinct: bool = False,
) -> list[Buffer]:
    """The buffers to write for one frame; ``distinct``, if no value in it occurs twice.

    The files that ``hand_over`` takes are sent before them, so these buffers must be written next.
    """
    body = marshal.dumps(head, _PLAINLY)
    if len(body) > _LARGE and not distinct:
        body = marshal.dumps(head)
    if not segments:
        begun = len(body).to_bytes(_PREFIX_SIZE, "little")  # the packed prefix, in a cheaper way
        return [begun + body] if len(body) <= _JOINED else [begun, body]
    lengths: list[int] = []
    written: list[Buffer] = []
    handed_over = False
    for segment in segments if hand_over is None else parts.move(segments):
        if isinstance(segment, Region):
            begins = segment.is_first
            if begins:
                handed_over = hand_over is not None and hand_over(segment.file)
            if handed_over:
                flags = _IN_FILE | (_NEXT_FILE if begins else 0) | (_EXACT if segment.exact else 0)
                lengths.append(segment.size | flags)
                continue
            segment = segment.load()
        exact = type(segment) is bytes
        lengths.append(memoryview(segment).nbytes | (_EXACT if exact else 0))
        written.append(segment)
    prefix = bytearray(_PREFIX.pack(len(body), len(lengths)))
    prefix += struct.pack(f"<{len(lengths)}Q", *lengths)
    prefix += body
    return [prefix, *written]


def _loaded(body: memoryview, size: int) -> Any:
    """A head of this size; what follows it is ignored."""
    return marshal.loads(body) if size < _MANY else uncollected(marshal.loads, body)


class FrameReader:
    """Cuts what a pipe delivers into frames; blocks only if the descriptor does."""

    def __init__(
        self, fd: int, take: Callable[[], File] | None = None, later: bool = False
    ) -> None:
        """
        Args:
            take: returns the next file that was handed over.
            later: whether large parts may be copied out of it when they are unpickled.
        """
        # Reads into a list of buffers, and returns how many bytes.
        self._readv: Callable[[list[memoryview]], int] = partial(os.readv, fd)
        self._take = take
        self._later = later
        #: How many bytes have arrived, in memory files too.
        self.received = 0
        #: Whether the last read left nothing in the pipe.
        self.drained = False
        # Read into, again and again: new memory for each read would cost more than the read.
        self._arrival = memoryview(bytearray(_READ_SIZE))
        # The same after a prefix: marshal ignores what follows its value.
        self._arrived_body = self._arrival[_PREFIX_SIZE:]
        self._held = 0  # how much of it is the beginning of a head
        self._head: tuple[Any, ...] = ()
        self._segments: list[Part] = []
        # Segments that are still to arrive, the next one last: place, size, and whether as bytes.
        # Invariant: it is empty unless a head was read and its segments are incomplete.
        self._missing: list[tuple[int, int, bool]] = []
        # The next one, as far as it has arrived, and how far that is.
        self._partial: bytearray | memoryview = bytearray()
        self._filled = 0
        # Where smaller ones that are to be bytes are put together, for the reason above.
        self._scratch = memoryview(b"")

    def read(self) -> list[Frame] | None:
        """Do one read; return the frames it completed, or None at the end of the pipe.

        Raises:
            BlockingIOError: a non-blocking descriptor had nothing to read.
        """
        if self._missing:
            # Read straight into its place, so that a gigabyte is never copied.
            view = memoryview(self._next())[self._filled :]
            count = self._readv([view])
            if not count:
                return None
            self.received += count
            self._filled += count
            self.drained = count < len(view)
            if self.drained:
                return []
            received = self._next_segment(self._partial)
            self._cut(self._arrival[:0], received)
            return received
        room = self._arrival[self._held :] if self._held else self._arrival
        count = self._readv([room])
        if not count:
            return None
        self.received += count
        self.drained = count < len(room)
        size = self._held + count
        if size >= _PREFIX_SIZE:
            # Fast path: exactly one frame, without segments.
            length, segments = _PREFIX.unpack_from(self._arrival)
            if not segments and length + _PREFIX_SIZE == size:
                self._held = 0
                return [(_loaded(self._arrived_body, length), ())]
        received = []
        position = self._cut(self._arrival[:size], received)
        self._hold(position, size)
        return received

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes, which has come by another way than the descriptor."""
        source = io.BytesIO(data)
        self._readv = lambda buffers: source.readinto(buffers[0])
        received: list[Frame] = []
        while (some := self.read()) is not None:
            received += some
        return received

    def _hold(self, position: int, size: int) -> None:
        """Keep what has arrived from ``position`` on, with room for all of its head."""
        rest = self._held = size - position
        if position:
            self._arrival[:rest] = self._arrival[position:size]
        wanted = 0
        if rest >= _PREFIX_SIZE:
            length, count = _PREFIX.unpack_from(self._arrival)
            wanted = _PREFIX_SIZE + count * _LENGTH.size + length
        # One that is large is kept while such heads come.
        if wanted > len(self._arrival) or (len(self._arrival) > _READ_SIZE and not rest):
            arrival = memoryview(bytearray(max(wanted, _READ_SIZE)))
            arrival[:rest] = self._arrival[:rest]
            self._arrival, self._arrived_body = arrival, arrival[_PREFIX_SIZE:]

    def _next(self) -> bytearray | memoryview:
        """Where the next segment is read into."""
        if not self._filled:
            _, size, exact = self._missing[-1]
            if exact and size <= _READ_SIZE:
                self._scratch = self._scratch or memoryview(bytearray(_READ_SIZE))
                self._partial = self._scratch[:size]
            else:
                self._partial = bytearray(size)
        return self._partial

    def _next_segment(self, segment: Buffer) -> list[Frame]:
        """A segment is there, go on to the next; returns the finished frame, if it was the last."""
        self._partial, self._filled = bytearray(), 0
        place, _, exact = self._missing.pop()
        self._segments[place] = bytes(segment) if exact else segment
        return [] if self._missing else self._finished()

    def _finished(self) -> list[Frame]:
        frame = self._head, tuple(self._segments)
        self._segments = []
        return [frame]

    def _cut(self, data: memoryview, frames: list[Frame]) -> int:
        """Add the frames that ``data`` completes; returns how much of it is used up."""
        position = 0
        size = len(data)
        while True:
            if self._missing:
                _, wanted, exact = self._missing[-1]
                take = min(wanted - self._filled, size - position)
                arrived = data[position : position + take]
                position += take
                if exact and take == wanted:
                    frames += self._next_segment(bytes(arrived))
                    continue
                self._next()[self._filled : self._filled + take] = arrived
                self._filled += take
                if self._filled < wanted:
                    break
                frames += self._next_segment(self._partial)
                continue
            if size - position < _PREFIX_SIZE:
                break
            length, count = _PREFIX.unpack_from(data, position)
            start = position + _PREFIX_SIZE + count * _LENGTH.size
            if size < start + length:
                break
            head = _loaded(data[start : start + length], length)
            if not count:
                frames.append((head, ()))
            else:
                self._head = head
                self._place(struct.unpack_from(f"<{count}Q", data, position + _PREFIX_SIZE))
                if not self._missing:
                    frames += self._finished()
            position = start + length
        return position

    def _place(self, lengths: Iterable[int]) -> None:
        """Make room for each segment of a frame whose head has arrived."""
        missing: list[tuple[int, int, bool]] = []
        file: File | None = None
        for length in lengths:
            size, exact = length & _SIZE, bool(length & _EXACT)
            if not length & _IN_FILE:
                missing.append((len(self._segments), size, exact))
                self._segments.append(b"")
                continue
            if length & _NEXT_FILE:
                assert self._take is not None
                if file is not None:
                    file.received()
                file = self._take()
            assert file is not None
            self._segments.append(file.receive(size, exact, self._later))
            self.received += size
        if file is not None:
            file.received()
        self._missing = missing[::-1]
