"""The agent of a node: it runs inside a Dask worker, and has a session for each client.

Thread: the Dask worker's event loop; starts, which may take a while, on threads of their own.
Guarantees: a client's workers end when its connection does, or with the agent's process. What a
worker does is told as it was written: results, then its end with its last status page.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import native
from ..options import LANES
from ..parent.launch import exit_errors
from ..parent.launch.launcher import Launcher, Started
from ..wire.contract import NODE
from . import plan
from .dask import Comm
from .page import COPY_SECONDS
from .post import PROTOCOL, Item, Post
from .relay import Relay

#: Bytes on their way to a client that has not said that it got them: its workers wait beyond.
_UNHEARD_BYTES = 32 * 1024 * 1024


class Agent:
    """What a Dask worker does for hybridexec."""

    def __init__(self, name: str, threads: int) -> None:
        """
        Args:
            threads: how many CPUs the Dask worker was given.
        """
        self.name = name
        self._threads = threads
        self._sessions: set[Session] = set()
        self._leaving = self._closing = False
        os.environ[NODE] = name  # for its workers

    async def serve(self, comm: Comm, greeting: dict[str, Any]) -> None:
        """Serve a client until it goes."""
        hello = {
            "protocol": PROTOCOL,
            "name": self.name,
            "cpus": self._threads,
            "versions": plan.versions(),
            "machine": plan.boot_id(),
            "clock": native.monotonic(),
            "leaving": self._leaving,
        }
        await comm.write(hello)
        if greeting.get("protocol") != PROTOCOL:
            return
        session = Session(comm)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    def leave(self) -> None:
        """The node is about to go: have clients take their calls elsewhere."""
        self._leaving = True
        for session in self._sessions:
            session.post.send(["leaving"])

    async def close(self) -> None:
        """The Dask worker closes. If it is being retired, clients finish what runs here first."""
        if self._closing:
            return
        self._closing = True
        if self._leaving:
            await asyncio.gather(*(session.idle.wait() for session in self._sessions))
        for session in self._sessions:
            session.post.close()
        await asyncio.gather(*(session.ended.wait() for session in self._sessions))


class Session:
    """What a node does for one client."""

    def __init__(self, comm: Comm) -> None:
        self.post = Post(comm, self._receive, lambda: ["pulse"])
        self.ended = asyncio.Event()
        self._launcher: Launcher[Any] | None = None
        self._logging: Any = None  # the client's, see log_tree.Tree
        self._relays: dict[int, Relay] = {}
        self._starts: set[asyncio.Task[None]] = set()
        # Bytes of results that were sent, and that have arrived.
        self._sent = self._heard = 0
        #: Set while the client has no workers here, and none is being started.
        self.idle = asyncio.Event()
        self.idle.set()
        self._handlers: dict[str, Callable[..., None]] = {
            "plan": self._plan,
            "start": self._start,
            "data": self._data,
            "ack": self._ack,
            "kill": self._kill,
            "dump": self._dump,
            "give up": self._give_up,
            "ping": self._ping,
        }

    async def run(self) -> None:
        """Serve until the connection ends, then end the workers."""
        copying = asyncio.create_task(self._copy_pages())
        try:
            await self.post.run()
        finally:
            copying.cancel()
            await self._end()
            self.ended.set()

    def _receive(self, item: Item) -> None:
        word, *fields = item
        self._handlers[word](*fields)

    # -- what the client wants --------------------------------------------------------------------

    def _plan(self, pickled: bytes) -> None:
        told: plan.Plan = pickle.loads(pickled)
        self._launcher = Launcher(
            "forkserver",
            told.boot,
            told.slots,
            told.setups,
            None,
            lambda started, poller: None,
            logging=(lambda: self._logging) if told.worker_logs else None,
        )

    def _start(self, number: int, lane: str, logging: bytes) -> None:
        self.idle.clear()
        self._logging = pickle.loads(logging)
        task = asyncio.create_task(self._begin(number, lane))
        self._starts.add(task)
        task.add_done_callback(self._begun)

    async def _begin(self, number: int, lane: str) -> None:
        assert self._launcher is not None
        try:
            started: Started = await _aside(partial(self._launcher.start, number, lane))
        except Exception as error:
            later = isinstance(error, OSError)
            self.post.send(["refused", number, later, exit_errors.refusal(error)])
            return
        self.post.send(["started", number, started.process.pid])
        self._relays[number] = Relay(number, started, self)

    def _begun(self, task: asyncio.Task[None]) -> None:
        self._starts.discard(task)
        self._settle()

    def _data(self, number: int, urgent: bool, data: bytes) -> None:
        relay = self._relays.get(number)
        if relay is not None:  # it may have ended
            relay.connection.pass_on(data, urgent)

    def _kill(self, number: int, signal_number: int) -> None:
        relay = self._relays.get(number)
        if relay is not None:
            relay.connection.kill(signal_number)

    def _dump(self, number: int) -> None:
        relay = self._relays.get(number)
        if relay is not None:
            relay.request_dump()

    def _give_up(self, lane: str) -> None:
        if self._launcher is not None:
            self._launcher.give_up(lane)

    def _ping(self, clock: float) -> None:
        self.post.send(["pong", clock, native.monotonic()])

    # -- how much is on its way -------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether workers have to wait until the client has heard more."""
        return self._sent - self._heard > _UNHEARD_BYTES

    def sent(self, count: int) -> None:
        """So many bytes of results are on their way."""
        self._sent += count

    def _ack(self, heard: int) -> None:
        was_full, self._heard = self.full, heard
        if was_full and not self.full:
            for relay in self._relays.values():
                relay.read_on()

    # -- ends -------------------------------------------------------------------------------------

    def gone(self, number: int) -> None:
        """A worker has ended, and that was told."""
        del self._relays[number]
        self._settle()

    def _settle(self) -> None:
        if not self._relays and not self._starts:
            self.idle.set()

    async def _copy_pages(self) -> None:
        while True:
            await asyncio.sleep(COPY_SECONDS)
            for relay in self._relays.values():
                relay.copy_page()

    async def _end(self) -> None:
        """The client is gone, or done: end its workers."""
        if self._launcher is None:
            return
        for lane in LANES:
            self._launcher.give_up(lane)
        while self._starts:
            await asyncio.wait(self._starts)
        for relay in self._relays.values():
            relay.connection.kill(signal.SIGKILL)
        await self.idle.wait()
        try:
            await _aside(self._launcher.close)
        except OSError:  # without a thread, the loop waits meanwhile
            self._launcher.close()


async def _aside(work: Callable[[], Any]) -> Any:
    """Do on a thread what may take a while.

    Raises:
        OSError: no thread can be started; then it is not done.
    """
    wanted = [True]
    try:
        working = asyncio.get_running_loop().run_in_executor(None, lambda: wanted and work())
    except RuntimeError as error:
        wanted.clear()  # the pool has kept it for the next thread
        raise OSError(errno.EAGAIN, str(error)) from None
    return await working
