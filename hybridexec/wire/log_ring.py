"""The log ring: memory in which a worker leaves its log records for its parent.

It is a part of the status page's file (:mod:`.page`), so it outlives the worker: what was put in
just before a kill is found by the parent.

Thread: in the worker, one thread at a time puts; in the parent, the turn holder takes.
Guarantees: neither waits for the other. What does not fit is dropped, and counted. A record is
taken whole or not at all.

Positions count bytes since the beginning, and only grow. The worker tells by a message
(``Logged``) how far there is something to take, so that what was put in before the message was
written is there when it is read; when the worker has ended, ``WRITTEN`` tells. Each record has its
length before it. When all was taken, the worker goes back to the start of the memory: so a worker
that seldom logs touches few of its pages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

#: Bytes of the ring with its header: some thousand records.
SIZE = 1 << 20
_HEADER = 64
#: Words of the header. ``TAKEN`` is the parent's, the others are the worker's. ``BEGUN`` is where
#: the worker went back to the start last: nothing is there between what was taken and that.
_WRITTEN, _TAKEN, _BEGUN, _DROPPED = range(4)
_LENGTH = struct.Struct("<I")
#: From here on it is worth going back to the start.
_NEAR = 64 * 1024


class LogRing:
    """The ring, as either side sees it."""

    def __init__(self, memory: memoryview) -> None:
        self._words = memory[:_HEADER].cast("Q")
        self._data = memory[_HEADER:]
        self._size = len(self._data)

    # -- in the worker --------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """The position up to which there is something to take."""
        return self._words[_WRITTEN]

    def put(self, record: bytes) -> None:
        """Put a record in, or count it as dropped."""
        words = self._words
        written = words[_WRITTEN]
        taken = max(words[_TAKEN], words[_BEGUN])
        if taken == written and written % self._size > _NEAR:
            taken = written = words[_BEGUN] = written - written % self._size + self._size
        entry = _LENGTH.pack(len(record)) + record
        if written + len(entry) - taken > self._size:
            words[_DROPPED] += 1
            return
        place = written % self._size
        first = entry[: self._size - place]
        self._data[place : place + len(first)] = first
        if len(first) < len(entry):
            self._data[: len(entry) - len(first)] = entry[len(first) :]
        words[_WRITTEN] = written + len(entry)

    # -- in the parent --------------------------------------------------------------------------

    @property
    def dropped(self) -> int:
        """How many records did not fit so far."""
        return self._words[_DROPPED]

    def take(self, end: int | None = None) -> bytes:
        """Take what there is up to this position; without one, all that a dead worker has left.

        :func:`records` finds the records in it.
        """
        words = self._words
        begin = max(words[_TAKEN], words[_BEGUN])
        if end is None:
            end = words[_WRITTEN]
        if end <= begin:
            return b""
        place = begin % self._size
        data = bytes(self._data[place : place + end - begin])
        if len(data) < end - begin:
            data += self._data[: end - begin - len(data)]
        words[_TAKEN] = end
        return data

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._data.release()


def records(data: bytes) -> Iterator[bytes]:
    """The records in what was taken."""
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        yield data[position : position + length]
        position += length
