"""The nodes that a client knows: which there are, the connection to each, and who gets a worker
next.

Thread: Dask's loop; what else says so on any.
Guarantees: a node that comes is used within a second or so; one that is being retired gets no more
workers, and those that it has finish what they run; what comes back after its connection was lost
is another node.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from .. import native
from ..errors import ExecutorBroken
from . import dask
from .link import RemoteLink
from .plan import boot_id, differences
from .post import OP, PROTOCOL, Item, Post

#: How often, in seconds, it is looked which workers Dask has, whatever it has told.
_LOOK_SECONDS = 1.0
#: How soon, in seconds, after a node could not be used it is tried again.
_AGAIN_SECONDS = 5.0
#: Bytes that arrive between two acknowledgements.
_ACK_BYTES = 4 * 1024 * 1024
#: Seconds until a start that is not answered has failed.
_START_SECONDS = 60.0
_INSTALL = "Each node needs the same hybridexec as here: pip install 'hybridexec[cluster]'"
#: How a link is told what a node says of its worker.
_TOLD: dict[str, Callable[..., None]] = {
    "started": RemoteLink.begin,
    "refused": RemoteLink.refuse,
    "data": RemoteLink.arrive,
    "page": RemoteLink.update,
    "logs": RemoteLink.log,
    "ended": RemoteLink.end,
}


class Node:
    """A node, as long as there is a connection to it."""

    def __init__(self, address: str, hello: dict[str, Any], places: int | None) -> None:
        """
        Args:
            places: how many workers of each lane it may have; None for as many as it has CPUs.
        """
        self.address = address
        self.name: str = hello["name"]
        self.places: int = places or max(1, hello["cpus"])
        #: What to add to its clock for ours: exact on this machine, else off by a round trip.
        self.offset = 0.0
        self._same_clock = bool(hello["machine"]) and hello["machine"] == boot_id()
        self._quickest = float("inf")
        #: Seconds that a ping took last.
        self.round_trip: float | None = None
        if not self._same_clock:
            self.offset = native.monotonic() - hello["clock"]
        self.leaving: bool = hello["leaving"]
        self.post: Post
        #: By number; guarded by the nodes' lock, as is how many there are of each lane.
        self.links: dict[int, RemoteLink] = {}
        self.counts: Counter[str] = Counter()
        self.planned = False
        self._received = self._acknowledged = 0
        self._lock = threading.Lock()

    def send(self, item: Item, size: int = 0) -> None:
        """Send this; on any thread."""
        self.post.send(item, size)

    def beat(self) -> Item:
        """A ping."""
        return ["ping", native.monotonic()]

    def add(self, link: RemoteLink, number: int) -> None:
        """A worker is to be started there; on any thread."""
        with self._lock:
            self.links[number] = link
            self.counts[link.lane] += 1

    def forget(self, number: int) -> None:
        """The engine has let go of a worker; on any thread."""
        with self._lock:
            link = self.links.pop(number, None)
            if link is not None:
                self.counts[link.lane] -= 1

    def load(self, lane: str) -> float:
        """Which share of its places is taken."""
        return self.counts[lane] / self.places

    def receive(self, item: Item) -> None:
        """This has come from there."""
        word, *fields = item
        if word == "pong":
            self._compare(*fields)
        elif word == "leaving":
            self.leaving = True
        elif word != "pulse":
            number, *rest = fields
            if word == "data":
                self._count(len(rest[1]))
            link = self.links.get(number)
            if link is not None:
                _TOLD[word](link, *rest)
            elif word == "started":  # too late: it was given up
                self.send(["kill", number, int(signal.SIGKILL)])

    def _count(self, size: int) -> None:
        self._received += size
        if self._received - self._acknowledged >= _ACK_BYTES:
            self._acknowledged = self._received
            self.send(["ack", self._received])

    def _compare(self, sent: float, there: float) -> None:
        """Compare the clocks: the quicker the answer, the better that can be done."""
        now = native.monotonic()
        self.round_trip = now - sent
        if not self._same_clock and now - sent < self._quickest:
            self._quickest = now - sent
            self.offset = (sent + now) / 2 - there

    def cut(self, why: str) -> None:
        """The connection has ended."""
        with self._lock:
            links = list(self.links.values())
        for link in links:
            link.cut(why)


class Nodes:
    """The nodes of one executor."""

    def __init__(self, client: Any, places: int | None, cluster_timeout: float) -> None:
        """Connect to those that there are; not on the loop.

        Args:
            client: Dask's, which is ours from now on.
            places: how many workers of each lane a node may have; None for as many as it has CPUs.
            cluster_timeout: seconds without any node after which no worker can be had.

        Raises:
            RuntimeError: there are nodes, and none of them can be used.
        """
        self._client = client
        self._places = places
        self._timeout = cluster_timeout
        self._loop = dask.loop_of(client)
        self._changed = threading.Condition()
        self._nodes: dict[str, Node] = {}
        self._refused: dict[str, str] = {}  # why an address cannot be used, for a while
        self._reported: set[str] = set()
        self._trying: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._given_up: set[str] = set()
        self._closed = False
        #: Told when :attr:`places` may have changed, with the workers that go; on the loop.
        self.tell: Callable[[list[int]], None] = lambda going: None
        #: What has happened to nodes, and was not told: as for :meth:`.Engine.happen`.
        self.happened: deque[tuple[Any, ...]] = deque()
        self._stirred: asyncio.Event
        self._installing: asyncio.Lock
        self._renewed: bool  # whether the agent was installed again where it could not be
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result()
        if self._refused and not self._nodes:
            self.close()
            raise RuntimeError("; ".join(sorted(set(self._refused.values()))))

    async def _begin(self) -> None:
        self._stirred = asyncio.Event()
        self._installing = asyncio.Lock()
        self._renewed = False
        await self._look()
        while self._trying:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        dask.when_changed(self._client, self._stirred.set)
        self._keep(self._watch())

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- which there are --------------------------------------------------------------------------

    async def _watch(self) -> None:
        while not self._closed:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), _LOOK_SECONDS)
            self._stirred.clear()
            # Those that there are go on without a scheduler. (A client that is being closed fails
            # in ways of its own.)
            with contextlib.suppress(Exception):
                await self._look()
            self.tell(self._going())

    def _going(self) -> list[int]:
        """The workers on nodes that are about to go."""
        leaving = [node for node in self._nodes.values() if node.leaving]
        return [number for node in leaving for number in list(node.links)]

    async def _look(self) -> None:
        for address in await dask.addresses(self._client):
            if address not in self._nodes and address not in self._trying | set(self._refused):
                self._trying.add(address)
                self._keep(self._join(address))

    async def _join(self, address: str) -> None:
        try:
            comm, hello = await self._greet(address)
            if _lacks_agent(hello):
                async with self._installing:
                    comm, hello = await self._greet(address)
                    # Its scheduler was started anew, and knows nothing of us; or what it could not
                    # import was installed meanwhile.
                    if hello is None or (_lacks_agent(hello) and not self._renewed):
                        self._renewed = True
                        await dask.install_again(self._client)
                        comm, hello = await self._greet(address)
            reason = _reason(hello)
            if reason:
                comm.abort()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if reason:
            text = f"node {address} cannot be used: {reason}"
            if text not in self._reported:
                self._reported.add(text)
                self.happened.append(("NodeRefused", address, address, reason))
            self._refused[address] = text
            self._trying.discard(address)
            self._loop.call_later(_AGAIN_SECONDS, self._refused.pop, address, None)
            self.tell([])
            return
        node = Node(address, hello, self._places)
        node.post = Post(comm, node.receive, node.beat)
        with self._changed:
            self._nodes[address] = node
            self._changed.notify_all()
        self._trying.discard(address)
        self.happened.append(("NodeJoined", node.name, address, node.places))
        self._keep(self._serve(node))

    async def _greet(self, address: str) -> tuple[dask.Comm, Any]:
        """A connection to a Dask worker, and what its agent says; None if it has none."""
        comm = await dask.reach(self._client, address, OP, protocol=PROTOCOL)
        try:
            hello = await asyncio.wait_for(comm.read(), dask.CONNECT_SECONDS)
        except BaseException as error:  # the executor may be closed meanwhile
            comm.abort()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer within {dask.CONNECT_SECONDS:g} s") from None
            raise
        if _lacks_agent(hello):
            comm.abort()
        return comm, hello

    async def _serve(self, node: Node) -> None:
        self.tell([])
        try:
            await node.post.run()
        finally:
            with self._changed:
                self._nodes.pop(node.address, None)
                lost, node.leaving = not (node.leaving or self._closed), True
                self._changed.notify_all()
            why = node.post.why or "it was closed"
            told = why if lost else "it was retired"
            self.happened.append(("NodeLeft", node.name, node.address, lost, told))
            self.tell(list(node.links))  # first: so no others are started in their place here
            node.cut(why)

    # -- on any thread ----------------------------------------------------------------------------

    @property
    def all(self) -> list[Node]:
        """Those that there are."""
        return list(self._nodes.values())

    @property
    def places(self) -> int:
        """How many workers of each lane there may be, on all nodes that stay."""
        with self._changed:
            return sum(node.places for node in self._nodes.values() if not node.leaving)

    def start(self, number: int, lane: str, slots: int, plan: bytes, logging: bytes) -> RemoteLink:
        """Have a worker started on the node that has most room.

        Args:
            plan: a :class:`.plan.Plan`, pickled.
            logging: what the logging is like here (``log_tree.Tree``), or None, pickled.

        Raises:
            ExecutorBroken: there has been no node for too long.
            OSError: there is no room for it.
            RuntimeError: the node cannot start it.
        """
        while True:
            # At once: another start is to see that a place is taken.
            with self._changed:
                node = self._choose(lane)
                link = RemoteLink(node, number, lane, slots)
                node.add(link, number)
                if not node.planned:
                    node.planned = True
                    node.send(["plan", plan], len(plan))
                node.send(["start", number, lane, logging])
            if not native.wait(link.begun.wait, _START_SECONDS):
                link.refuse(True, f"node {node.name} does not answer")
            if link.pid is not None:
                return link
            link.close()
            if link.refusal is not None:
                later, text = link.refusal
                raise (OSError if later else RuntimeError)(f"on node {node.name}: {text}")

    def _choose(self, lane: str) -> Node:
        end = native.monotonic() + self._timeout
        with self._changed:
            while True:
                staying = [node for node in self._nodes.values() if not node.leaving]
                if staying:
                    return min(staying, key=lambda node: node.load(lane))
                left = end - native.monotonic()
                if lane in self._given_up or self._closed:
                    raise ExecutorBroken("no worker of this lane is wanted any more")
                if left <= 0:
                    raise ExecutorBroken(
                        f"the cluster has had no node for {self._timeout:g} s (cluster_timeout)"
                        + "".join(f"; {text}" for text in sorted(set(self._refused.values())))
                    )
                self._changed.wait(min(left, 1.0))

    def give_up(self, lane: str) -> None:
        """No start in this lane is wanted any more."""
        with self._changed:
            self._given_up.add(lane)
            nodes = list(self._nodes.values())
            self._changed.notify_all()
        for node in nodes:
            node.send(["give up", lane])

    def close(self) -> None:
        """Close all connections, and the client, without waiting for that."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            nodes = list(self._nodes.values())
        for node in nodes:
            node.post.close()
        try:
            native.start_thread(lambda: dask.leave(self._client), "hybridexec-cluster-end")
        except RuntimeError:  # the interpreter ends, and starts none: then nobody is kept waiting
            dask.leave(self._client)


def _lacks_agent(hello: Any) -> bool:
    return hello is None or "cannot" in hello


def _reason(hello: Any) -> str:
    """Why a node that says this cannot be used; empty if it can."""
    if hello is None:
        return "it has no agent of hybridexec's"
    if "cannot" in hello:
        return f"{hello['cannot']}. {_INSTALL}"
    if "versions" not in hello:
        return f"its agent has failed: {hello}"
    if hello["protocol"] != PROTOCOL:
        return "its hybridexec is another version, which speaks differently"
    return differences(hello["versions"])
