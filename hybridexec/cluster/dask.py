"""All that is used of Dask distributed, some of which it does not promise to keep.

Thread: as each says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import distributed
from dask import config
from distributed import WorkerPlugin
from distributed.comm.core import CommClosedError
from distributed.core import Status

from .. import native

if TYPE_CHECKING:
    from ..cluster.agent import Agent

#: Dask's client, and its certificates, most of whose methods have no types.
Client: Any = distributed.Client
Security: Any = distributed.Security

#: What the plugin is called on the workers: one for all clients of a version.
_PLUGIN = "hybridexec-agent"
#: Seconds until a connection is given up.
CONNECT_SECONDS = 10.0
_NO_CERTIFICATE = (
    "{address} is reached by TLS, which needs certificates, and there are none here: pass "
    "security=distributed.Security(tls_ca_file=..., tls_client_cert=..., tls_client_key=...), or "
    "set distributed.comm.tls in Dask's configuration"
)
_CLOSED = (
    "{address} was reached, but the connection was closed there: {error!r}. The address of a "
    "scheduler that speaks TLS begins with tls://, that of any other with tcp://"
)
_NO_CLUSTER = (
    "which cluster? Pass the address of its scheduler, a distributed.Client, a cluster object of "
    "Dask's or a scheduler_file. ClusterExecutor.local() has one of its own on this machine"
)
_NO_SCHEDULER = "cluster must be an address, a distributed.Client or a cluster object, not {kind}"
#: What a Dask worker unpickles. It must not fail: the worker would end, and so would all that come
#: later, though their users may not know of us.
_MAKE_PLUGIN = """
try:
    from hybridexec.cluster import agent, dask
    plugin = dask.AgentPlugin()
except Exception as error:
    from distributed import WorkerPlugin
    reason = f"{type(error).__name__}: {error}"

    async def refuse(comm, **greeting):
        return {"cannot": reason}

    class Refusing(WorkerPlugin):
        def setup(self, worker):
            worker.handlers["hybridexec"] = refuse

    plugin = Refusing()
"""


class Comm(Protocol):
    """A connection of Dask's, as far as it is used here. Its messages are what msgpack carries."""

    async def write(self, message: Any) -> Any:
        """Send a message; returns when it is on its way, or when there is room for it."""

    async def read(self) -> Any:
        """The next message.

        Raises:
            OSError: the connection has ended.
        """

    def abort(self) -> None:
        """End the connection, at once."""


# -- in the client --------------------------------------------------------------------------------


class _OwnClient(distributed.Client):
    """A client that leaves nothing when it cannot start.

    Dask's leaves the thread of its loop, until it is collected: should that be in the thread of
    another client that starts, this one would wait for itself.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        try:
            super().__init__(*arguments, **named)  # type: ignore[no-untyped-call]
        except BaseException:
            runner: Any = getattr(self, "_loop_runner", None)
            if runner is not None:
                runner.stop()
            self.status = "closed"  # or its finalizer would want the loop
            raise


def open_client(cluster: Any, scheduler_file: str | None, security: Any, seconds: float) -> Any:
    """A client of our own, for the scheduler that ``cluster`` is, or belongs to.

    Args:
        seconds: how long to wait for the scheduler, and for its file.

    Raises:
        OSError: there is no scheduler, or it does not let us in.
        TypeError: ``cluster`` is nothing that has a scheduler.
        ValueError: none is named, or two are; it speaks TLS, and we have no certificate.
    """
    if cluster is not None and scheduler_file is not None:
        raise ValueError("name a cluster or a scheduler_file, not both")
    if scheduler_file is not None:
        address = _address_in(scheduler_file, seconds)
    else:
        # Not a client itself: it may be an asynchronous one, and somebody else closes it.
        address = _address_of(cluster)
        if security is None and not isinstance(cluster, str):
            security = getattr(cluster, "security", None)
    if address.startswith("tls://") and _lacks_certificate(security):
        raise ValueError(_NO_CERTIFICATE.format(address=address))
    try:
        return _OwnClient(
            address, security=security, timeout=seconds, set_as_default=False, name="hybridexec"
        )
    except (CommClosedError, ValueError) as error:
        # (Tornado's, if what a scheduler says in the clear has come before TLS begins.)
        if isinstance(error, ValueError) and "IOStream" not in str(error):
            raise
        raise ConnectionError(_CLOSED.format(address=address, error=error)) from error


def _address_of(cluster: Any) -> str:
    """That of the scheduler; Dask's configuration may name it, if nothing else does."""
    if cluster is None:
        cluster = config.get("scheduler-address", None)
        if not cluster:
            raise ValueError(_NO_CLUSTER)
    elif isinstance(cluster, Client):
        if cluster.scheduler is None:
            raise ValueError("this distributed.Client is closed")
        cluster = cluster.scheduler.address
    address = cluster if isinstance(cluster, str) else getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str):
        raise TypeError(_NO_SCHEDULER.format(kind=type(cluster).__name__))
    return address


def _address_in(file: str, seconds: float) -> str:
    """What a scheduler's file says, when it does. (Dask would wait for it for ever.)"""
    end = native.monotonic() + seconds
    while native.monotonic() < end:
        try:
            with open(file, encoding="utf-8") as opened:
                return str(json.load(opened)["address"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # it may be half written
            native.sleep(0.05)
    text = f"no scheduler has written its address there within {seconds:g} s (cluster_timeout)"
    raise FileNotFoundError(errno.ENOENT, text, file)


def _lacks_certificate(security: Any) -> bool:
    """Whether there is none, nor in Dask's configuration. (Dask would raise a TypeError about
    arguments of its own, and leave a client behind that complains.)"""
    if security is None:
        security = Security()
    if not isinstance(security, Security):
        return False  # what that is, Dask knows
    arguments: dict[str, Any] = security.get_connection_args("client")
    return arguments.get("ssl_context") is None


def wait_for_workers(address: str, count: int, look: Callable[[], None], seconds: float) -> None:
    """Return when a scheduler has so many workers.

    Args:
        look: called now and then meanwhile.

    Raises:
        TimeoutError: it has not, after so many seconds.
    """
    end = native.monotonic() + seconds
    with _OwnClient(address, timeout=seconds, set_as_default=False, name="hybridexec") as client:
        while True:
            try:
                client.wait_for_workers(count, timeout=1)
                return
            except TimeoutError:
                look()
                if native.monotonic() > end:
                    raise


def loop_of(client: Any) -> asyncio.AbstractEventLoop:
    """The loop that runs on the client's own thread."""
    io_loop: Any = client.loop
    loop: asyncio.AbstractEventLoop = io_loop.asyncio_loop
    return loop


def install(client: Any) -> None:
    """Have each worker run an agent, those that come later, too, as far as they can."""
    client.register_plugin(AgentPlugin(), name=_PLUGIN)


async def install_again(client: Any) -> None:
    """As :func:`install`, on the loop, and also where that was done before."""
    await client.register_plugin(AgentPlugin(again=True), name=_PLUGIN)


async def addresses(client: Any) -> dict[str, int]:
    """The workers' addresses, with the number of threads that each was given. On the loop."""
    scheduler: Any = client.scheduler
    threads: dict[str, int] = await scheduler.ncores(workers=None)
    return threads


def when_changed(client: Any, tell: Callable[[], None]) -> None:
    """Call ``tell``, on the loop, when workers come or go. It may be called without a reason."""
    client.subscribe_topic("all", lambda event: tell())


def leave(client: Any) -> None:
    """Close the client, whether there is still a scheduler or not. Not on the loop."""
    with contextlib.suppress(Exception):
        # Else the scheduler would tell it that it has gone, and complain that it cannot be told.
        client.unsubscribe_topic("all")
    with contextlib.suppress(Exception):
        client.close(timeout=2)


async def reach(client: Any, address: str, op: str, **greeting: Any) -> Comm:
    """A connection to the agent of the worker at ``address``. On the loop.

    Raises:
        OSError: it cannot be reached.
    """
    core: Any = distributed.core
    arguments = client.connection_args
    comm: Comm = await core.connect(address, timeout=CONNECT_SECONDS, **arguments)
    await comm.write({"op": op, **greeting})
    return comm


# -- in Dask's workers ----------------------------------------------------------------------------

_agents: WeakKeyDictionary[distributed.Worker, Agent] = WeakKeyDictionary()


class AgentPlugin(WorkerPlugin):
    """Makes a Dask worker a node."""

    name = _PLUGIN

    def __init__(self, again: bool = False) -> None:
        self.idempotent = not again  # Dask asks

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"(lambda names: exec({_MAKE_PLUGIN!r}, names) or names['plugin'])({{}})",)

    def setup(self, worker: distributed.Worker) -> None:
        """Begin; on the worker's loop."""
        from .agent import Agent
        from .post import OP

        if worker in _agents:
            return  # it was installed before, by a Dask that installs again
        agent = _agents[worker] = Agent(_name_of(worker), worker.state.nthreads)
        worker.handlers[OP] = _handler(agent)
        _follow(worker, agent)

    async def teardown(self, worker: distributed.Worker) -> None:
        """The worker closes, or takes another plugin of this name."""
        if worker.status == Status.closing:
            await _agents[worker].close()


def _name_of(worker: distributed.Worker) -> str:
    name = worker.name
    return str(worker.address if name in (None, "") or name == worker.address else name)


def _handler(agent: Agent) -> Callable[..., Awaitable[Any]]:
    async def handle(comm: Comm, **greeting: Any) -> Any:
        await agent.serve(comm, greeting)
        return Status.dont_reply

    return handle


def _follow(worker: distributed.Worker, agent: Agent) -> None:
    """Have the agent told when the worker is being retired."""
    handlers = worker.stream_handlers
    before = handlers["worker-status-change"]

    def changed(status: str, **rest: Any) -> Any:
        if status == Status.closing_gracefully.name:
            agent.leave()
        return before(status=status, **rest)

    if inspect.isfunction(before) or inspect.ismethod(before):
        handlers["worker-status-change"] = changed
