"""What both ends of a connection between a client and a node use: a queue of items to send, a
pulse, and the words that both speak.

Thread: the event loop's; :meth:`Post.send` on any.
Guarantees: items arrive whole and in order, many in one message of Dask's. An end that has heard
nothing for :data:`SILENT_SECONDS` closes the connection; what delays its own loop does not count.

An item is a list whose first element is one of these words:

=========  =====================================================  =============================
word       what follows                                           from
=========  =====================================================  =============================
plan       what workers are like, pickled (:class:`.plan.Plan`)   client, before any start
start      worker, lane, the client's logging, pickled            client
started    worker, pid                                            node
refused    worker, whether it may go well later, text             node
data       worker, bytes, urgent, buffers                         client: for its call pipe
data       worker, calls taken, bytes                             node: from its result pipe
ack        how many bytes have arrived, all in all                client
page       worker, header, fields or None, state, dump or None    node: its status page
logs       worker, records, how many were dropped                 node
kill       worker, signal                                         client
dump       worker                                                 client
give up    lane                                                   client
ended      worker, how (:class:`.exit_errors.Death`), its page    node
leaving                                                           node: it is about to go
ping       the sender's clock, in monotonic seconds               client
pong       that, and the node's clock                             node
=========  =====================================================  =============================
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from .dask import Comm

Item = list[Any]

#: The op under which Dask workers know us, and the version of what is said here.
OP, PROTOCOL = "hybridexec", 1
#: How often, in seconds, each end is heard of at least, and after how many it is taken for gone.
PULSE_SECONDS = 1.0
SILENT_SECONDS = 8.0
#: Bytes of items in one message. More would only delay what comes behind; and while a message is on
#: its way, nothing is heard of who sends it.
_ENOUGH = 128 * 1024
_GIVEN_UP = "the other end has closed it"


class Post:
    """One end of a connection."""

    def __init__(
        self,
        comm: Comm,
        receive: Callable[[Item], None],
        beat: Callable[[], Item],
    ) -> None:
        """
        Args:
            receive: called with each item that arrives, on the loop.
            beat: what is sent when a pulse is due.
        """
        self._comm = comm
        self._receive = receive
        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self._items: deque[tuple[Item, int]] = deque()
        self._wake = asyncio.Event()
        self._woken = False
        self._heard = True
        #: Why the connection has ended; empty if one side has closed it.
        self.why = ""
        self.closed = False

    def send(self, item: Item, size: int = 0) -> None:
        """Send an item with about ``size`` bytes; does nothing if the connection has ended."""
        if self.closed:
            return
        self._items.append((item, size))
        if not self._woken:
            self._woken = True
            # The loop has been closed: the process ends.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Send and receive until the connection ends."""
        tasks = [asyncio.create_task(each) for each in (self._write(), self._read(), self._pulse())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None and not self.why:
                    self.why = f"{type(error).__name__}: {error}" if str(error) else _GIVEN_UP
        finally:
            self.closed = True
            for task in tasks:
                task.cancel()
            self._comm.abort()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._woken = False
            while self._items:
                batch: list[Item] = []
                size = 0
                while self._items and self._items[0][0] and size < _ENOUGH:
                    item, more = self._items.popleft()
                    batch.append(item)
                    size += more
                if not batch:
                    return  # it is to be closed
                await self._comm.write(batch)

    async def _read(self) -> None:
        while True:
            batch = await self._comm.read()
            self._heard = True
            for item in batch:
                self._receive(item)

    async def _pulse(self) -> None:
        silent = 0.0
        while silent < SILENT_SECONDS:
            self.send(self._beat())
            await asyncio.sleep(PULSE_SECONDS)
            # In steps, each of which lets the loop read: while this process was stopped, what has
            # come meanwhile was not read.
            silent = 0.0 if self._heard else silent + PULSE_SECONDS
            self._heard = False
        self.why = f"nothing was heard for {SILENT_SECONDS:.0f} s"

    def close(self) -> None:
        """Close the connection when what was sent has left."""
        self.send([])
