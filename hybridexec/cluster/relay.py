"""Passes on what goes to one worker and what comes from it.

Thread: the Dask worker's event loop.
Guarantees: bytes are passed on in order, as they come, whatever they mean. The end of the worker is
told after all that it had written.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ..parent.engine.connection import Connection
from ..parent.launch.launcher import Started
from ..wire.page import HEADER_BYTES

if TYPE_CHECKING:
    from .agent import Session

#: Bytes that are read at once.
_READ_SIZE = 256 * 1024
#: Seconds that a stack takes to be written; the client waits for it for some more only.
_DUMP_SECONDS = 0.05
#: How often, in seconds, a worker whose end has begun is asked whether it has ended.
_END_SECONDS = 0.001


class Relay:
    """The way between a client and one worker."""

    def __init__(self, number: int, started: Started, session: Session) -> None:
        self._number = number
        #: Its poller is this.
        self.connection = Connection(started, self)  # type: ignore[arg-type]  # as far as it is used
        self._page = started.page
        self._session = session
        self._post = session.post
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._fields = b""  # as they were told last
        self._dumping = False
        self._end: asyncio.Task[None] | None = None
        # Large results come through the pipe: a memory file would lead nowhere.
        self.connection.refuse_files()
        self.read_on()
        (sentinel,) = self.connection.ends
        self._loop.add_reader(sentinel, self._hear_of_end, sentinel)

    def register(self, fd: int, events: int) -> None:
        """Wait for room in the call pipe."""
        self._loop.add_writer(fd, self.connection.flush, True)

    def unregister(self, fd: int) -> None:
        """Wait no more."""
        self._loop.remove_writer(fd)

    def read_on(self) -> None:
        """Read what the worker writes, unless too much is on its way already."""
        if not self._reading and self._end is None and not self._session.full:
            self._reading = True
            self._loop.add_reader(self.connection.results_fd, self._read)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.connection.results_fd)

    def _read(self) -> None:
        try:
            data = os.read(self.connection.results_fd, _READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._stop_reading()
            return
        self._tell(data)
        if self._session.full:
            self._stop_reading()

    def _tell(self, data: bytes) -> None:
        self._tell_logs()
        self._session.sent(len(data))
        self._post.send(["data", self._number, self._page.taken, data], len(data))

    def _tell_logs(self) -> None:
        records, dropped = self.connection.take_logs(None)
        if records:
            self._post.send(["logs", self._number, records, dropped], len(records))

    def copy_page(self) -> None:
        """Tell what is on the worker's page."""
        if self._end is not None:
            return
        header, fields = self._copied()
        dump = ""
        if self._dumping:
            dump = self.connection.take_dump()
            self._dumping = not dump
        item = ["page", self._number, header, fields, self.connection.state, dump]
        self._post.send(item, len(header) + len(fields))

    def _copied(self) -> tuple[bytes, bytes]:
        """The page's header, and what follows, if it has changed since it was told last."""
        copied = self._page.copied()
        header, fields = copied[:HEADER_BYTES], copied[HEADER_BYTES:]
        if fields == self._fields:
            return header, b""
        self._fields = fields
        return header, fields

    def request_dump(self) -> None:
        """Have the main thread's stack written; it is told with a later page, and soon."""
        self._dumping = True
        self.connection.request_dump()
        self._loop.call_later(_DUMP_SECONDS, self.copy_page)

    def _hear_of_end(self, sentinel: int) -> None:
        self._loop.remove_reader(sentinel)
        self._stop_reading()
        self._end = asyncio.create_task(self._finish())

    async def _finish(self) -> None:
        """The worker has ended, or is about to: tell the rest, and how."""
        connection = self.connection
        for _ in range(int(connection.ended() / _END_SECONDS)):
            if not connection.ended():
                break
            await asyncio.sleep(_END_SECONDS)
        connection.finish()
        try:
            while data := os.read(connection.results_fd, _READ_SIZE):
                self._tell(data)
        except BlockingIOError:  # a process that a call has left behind has the other end
            pass
        self._tell_logs()
        header, fields = self._copied()
        self._post.send(["ended", self._number, list(connection.death), header, fields])
        self._loop.remove_writer(connection.calls_fd)
        connection.close()
        self._session.gone(self._number)
