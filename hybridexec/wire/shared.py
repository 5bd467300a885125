"""Large parts of payloads in anonymous memory files, which one process writes and another reads.

Thread: the one that pickles writes a file, or the one that writes a frame; the latter hands it
over, the one that reads frames copies its contents; the one that unpickles maps what is huge.
Nothing here waits.
Guarantees: what cannot be shared travels through the pipe like everything else; nothing is left
behind, whichever process ends, when and how.

Who owns what:

- A :class:`File` owns a descriptor. The process that wrote it keeps it as long as the payload
  exists: until the call has ended, or the result has been sent. If a call is sent again, its file
  is handed over again. The process that got it keeps it until it has been read.
- Handing a file over gives the other process a descriptor of its own. The kernel keeps that until
  it is taken, and closes it if the channel is closed before.
- The memory belongs to the kernel, has no name, and is freed with the last descriptor and mapping.
- A file does not change while its payload exists. A reader copies what it gets, and then marks the
  file as read; huge parts are mapped instead, privately: the kernel copies the pages that the
  reader writes to.
- The parent copies large parts of a few files when they are unpickled, so mostly in the thread that
  wants the result, not in the one that reads frames. The last such part marks the file when it is
  gone, read or not.
- Large ``bytes``, which nobody can change, are put into a file only when their frame is written,
  several of a frame into one; a file then lives until that has been written.
- A process reuses a file for a later payload if it was never handed over, or if the only process
  that it was handed to has marked it: filling existing pages takes a fifth of the time of new ones.
  It keeps a few such spare files for as long as it has a channel.
- A process holds a bounded number of descriptors for all this.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import mmap
import os
import weakref
from collections import deque
from collections.abc import Sequence
from typing import final

from .. import native

Buffer = bytes | bytearray | memoryview

#: Size from which the reader maps a part. Below, malloc can mostly reuse memory, and a copy costs
#: less than page faults.
MAPPED_FROM = 32 * 1024 * 1024
#: Bytes in all spare files of a process, and in one of them: less than a part that could have been
#: mapped.
SPARE_BYTES = 48 * 1024 * 1024
_LARGEST_SPARE = 24 * 1024 * 1024
_MAX_SPARES = 16
#: Size from which a part may be copied by who unpickles it, because memory for it, which is mostly
#: new, takes longer than the copy; and how many files may be left to be read then. (More, and their
#: writer would need new ones.)
_PUT_OFF_FROM = 512 * 1024
_MOST_UNREAD = 4

#: How many descriptors are held here at most, and what share of those that the process may have.
_MOST = 1024
_MOST_OF_ALL = 1 / 4
_MAX_BUFFERS = 512
_PAGE = mmap.ALLOCATIONGRANULARITY
_UNREAD, _READ = b"\0", b"\1"  # a file's first byte


class File:
    """A memory file: a page for the mark, then each part of a payload on pages of its own."""

    def __init__(self, fd: int, ours: bool) -> None:
        """
        Args:
            fd: owned by this object from now on; -1 if the file was lost on its way.
            ours: whether this process writes the file.
        """
        self.fd = fd
        self.ours = ours
        self.size = _PAGE  # bytes in it now
        self.pages = 0  # bytes in it before, if it is reused
        self.readers = 0  # how many times it was handed over
        self.lasts = False  # whether a part of it is read only when it is unpickled
        _holders.add(self)

    def __del__(self) -> None:
        if self.ours and self.readers <= 1:
            _spares.put(self)
        if _unread.pop(id(self), None) is not None and not self.lasts:
            self._mark()
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            native.close(fd)

    def append(self, pieces: Sequence[Buffer], size: int, exact: bool = False) -> Region:
        """Write a part of ``size`` bytes."""
        region = Region(self, size, exact)
        position = region.offset
        left = [memoryview(piece) for piece in pieces]
        while left:
            count = os.pwritev(self.fd, left[:_MAX_BUFFERS], position)
            position += count
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if count:
                left[0] = left[0][count:]
        return region

    def receive(self, size: int, exact: bool, later: bool = False) -> bytes | bytearray | Region:
        """The next part, of ``size`` bytes, of a file that was taken from the channel; with
        ``later``, it need not be copied now."""
        region = Region(self, size, exact)
        if self.fd < 0 or (size >= MAPPED_FROM and has_room()):
            self.lasts = True
            return region
        if later and size >= _PUT_OFF_FROM and (len(_unread) < _MOST_UNREAD or self.unread):
            _unread[id(self)] = weakref.ref(self)
            return region
        return region.copy()

    @property
    def unread(self) -> bool:
        """Whether a part of it is copied when it is unpickled: when none is left, it was read."""
        return id(self) in _unread

    def received(self) -> None:
        """All parts were received: if they were copied, the file was read."""
        if not self.lasts and not self.unread:
            self._mark()
            self.close()

    def _mark(self) -> None:
        """It was read: its writer may reuse it."""
        # A limit on the size of files may forbid this: then the file is not reused.
        with contextlib.suppress(OSError):
            os.pwrite(self.fd, _READ, 0)


class _Mapping(mmap.mmap):
    """A mapping, for which Python keeps a descriptor."""


@final
class Region:
    """A part of a payload, in a file."""

    __slots__ = ("exact", "file", "offset", "size")

    def __init__(self, file: File, size: int, exact: bool = False) -> None:
        """The next ``size`` bytes of ``file``; to be read as ``bytes`` if ``exact``, else as
        something that may be changed."""
        self.exact = exact
        self.file = file
        self.offset = file.size
        self.size = size
        file.size += -(-size // _PAGE) * _PAGE

    @property
    def is_first(self) -> bool:
        """Whether it is the first part of its file."""
        return self.offset == _PAGE

    def load(self) -> Buffer:
        """The bytes.

        Raises:
            OSError: there is no memory, or the file was lost on its way.
        """
        if self.file.fd < 0:
            raise OSError(errno.EMFILE, "no descriptor was left for a large argument or result")
        if self.size >= MAPPED_FROM and not self.exact and has_room():
            with contextlib.suppress(OSError):
                mapping = _Mapping(
                    self.file.fd, self.size, access=mmap.ACCESS_COPY, offset=self.offset
                )
                _holders.add(mapping)
                return memoryview(mapping)
        return self.copy()

    def copy(self) -> bytes | bytearray:
        """As :meth:`load`, but always a copy."""
        if self.exact:
            read = os.pread(self.file.fd, self.size, self.offset)
            if len(read) == self.size:
                return read
        data = bytearray(self.size)
        left = memoryview(data)
        while left:
            count = os.preadv(self.file.fd, [left], self.offset + self.size - len(left))
            if not count:
                raise OSError(errno.EIO, "a memory file was cut short")
            left = left[count:]
        return bytes(data) if self.exact else data

    def __bytes__(self) -> bytes:
        return bytes(self.load())


Part = bytes | bytearray | memoryview | Region

#: The objects that hold a descriptor.
_holders: weakref.WeakSet[File | _Mapping] = weakref.WeakSet()
#: The files of which parts are still to be copied, by id.
_unread: dict[int, weakref.ref[File]] = {}


def has_room() -> bool:
    """Whether this process may hold another descriptor."""
    limit = os.sysconf("SC_OPEN_MAX")
    most = _MOST if limit == -1 else min(_MOST, int(limit * _MOST_OF_ALL))
    return len(_holders) < most


class _Spares:
    """Files to reuse, the oldest first. Any thread may use this, because each step is a single
    operation of a deque."""

    def __init__(self) -> None:
        self._files: deque[tuple[int, int, bool]] = deque()  # descriptor, bytes, handed over

    def put(self, file: File) -> None:
        """Keep the descriptor of a file whose payload is gone, if the file is small enough."""
        size = max(file.size, file.pages)
        if file.fd < 0 or size > _LARGEST_SPARE:
            return
        fd, file.fd = file.fd, -1
        self._files.append((fd, size, file.readers > 0))
        while len(self._files) > _MAX_SPARES or self._bytes() > SPARE_BYTES:
            self._close_oldest()
        if not _channels:
            self.clear()  # after the append, because the last channel may be closed meanwhile

    def take(self) -> File | None:
        """A file that nobody reads any more; None if there is none."""
        for _ in range(len(self._files)):
            try:
                spare = self._files.popleft()
            except IndexError:  # another thread was faster
                break
            fd, pages, handed_over = spare
            if not handed_over or os.pread(fd, 1, 0) == _READ:
                try:
                    os.pwrite(fd, _UNREAD, 0)
                except OSError:  # a limit on the size of files forbids it
                    native.close(fd)
                    break
                file = File(fd, ours=True)
                file.pages = pages
                return file
            self._files.append(spare)
        return None

    def clear(self) -> None:
        """Close all."""
        while self._files:
            self._close_oldest()

    def _bytes(self) -> int:
        return sum(size for _, size, _ in tuple(self._files))

    def _close_oldest(self) -> None:
        with contextlib.suppress(IndexError):  # another thread was faster
            native.close(self._files.popleft()[0])


_spares = _Spares()


def file_to_write() -> File:
    """A spare file, or else a new one.

    Raises:
        OSError: there can be none: no room, in memory or among the descriptors.
    """
    file = _spares.take()
    if file is not None:
        return file
    if not has_room():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    file = File(os.memfd_create("hybridexec-payload", os.MFD_CLOEXEC), ours=True)
    os.fchmod(file.fd, 0o600)
    return file


# Linux's, and newer macOS's.
_NO_SIGPIPE: int = getattr(_socket, "MSG_NOSIGNAL", 0)


class Channel:
    """One end of the socket pair on which parent and worker hand files to each other.

    A file is handed over before the frame that refers to it is written, and taken when that frame
    has been read: so it has arrived by then, and the order tells which one it is.
    """

    def __init__(self, fd: int) -> None:
        """Own the end ``fd``."""
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        self._socket.settimeout(0.0)
        _channels.add(self)

    def hand_over(self, file: File) -> bool:
        """Give the other side a descriptor of ``file``; returns whether that was possible."""
        rights = array.array("i", [file.fd])
        try:
            attached = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
            self._socket.sendmsg([b"f"], attached, _NO_SIGPIPE)
        except OSError:  # too many are on their way, or nobody is there
            return False
        file.readers += 1
        return True

    def take(self) -> File:
        """The next file that the other side handed over."""
        _close_reserve()
        fds = array.array("i", [-1])
        space = _socket.CMSG_SPACE(fds.itemsize)
        with contextlib.suppress(OSError):
            for _, _, data in self._socket.recvmsg(1, space, _socket.MSG_CMSG_CLOEXEC)[1]:
                fds = array.array("i", data)
        if not _reserve:
            with contextlib.suppress(OSError):
                _reserve.append(os.dup(self._socket.fileno()))
        return File(fds[0], ours=False)

    def close(self) -> None:
        """Close this end, and all that was not taken from it."""
        _channels.discard(self)
        self._socket.close()
        _close_reserve()  # it may be this socket's
        if not _channels:
            _spares.clear()


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()

# A spare descriptor, closed to make room for a file when no other is left: most files are read at
# once, and then it can be opened again.
_reserve: list[int] = []


def _close_reserve() -> None:
    with contextlib.suppress(IndexError):
        native.close(_reserve.pop())


def open_channel() -> tuple[Channel, int]:
    """One end of a new channel, and the descriptor of the other."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return Channel(ours.detach()), theirs.detach()


def _before_fork() -> None:
    """Have what is still to be read stay as it is: the child may read it, too."""
    for reference in list(_unread.values()):
        file = reference()
        if file is not None:
            file.lasts = True


def _after_fork_in_child() -> None:
    """Close what belongs to the parent: the child must neither keep its memory nor write to it.

    Files with parts that are still to be unpickled stay open.
    """
    for holder in list(_holders):
        if isinstance(holder, File) and not holder.lasts:
            holder.close()
    for channel in list(_channels):
        channel.close()  # the last one closes the spare files, too


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
