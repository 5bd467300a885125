"""``ClusterExecutor``: ``HybridExecutor`` with workers on the nodes of a Dask cluster.

Thread: callers' threads.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from .. import checks, native
from ..executor import HybridExecutor
from ..parent.assembly import Assembly, Plan
from . import dask
from .nodes import Nodes

if TYPE_CHECKING:
    from ..parent.client.submission import Submission
    from ..parent.engine.engine import Engine
    from ..parent.engine.link import Launcher
    from ..parent.launch.fork_server import ForkServer
    from ..parent.pool.pool import Pool
    from ..settings import Resolver
    from .local import LocalCluster

_PATCHED = (
    "a ClusterExecutor needs a process that gevent has not patched, because Dask's client runs an "
    "event loop on a thread. Use it in a process of its own, or do without monkey.patch_all() in "
    "this one: the workers on the nodes are patched in any case"
)
#: What Dask's event loop and its connections are made of.
_UNPATCHED = ("threading", "queue", "time", "select", "selectors", "socket", "ssl", "subprocess")
#: What a HybridExecutor has besides.
_REFUSED = {
    "max_workers": "it has as many workers as its nodes have places for; see workers_per_node",
    "mp_context": "each node starts its workers itself, by a fork server",
    "affinity": "CPUs are the nodes' own; bind their Dask workers to some instead, by taskset, say",
}


class ClusterExecutor(HybridExecutor):
    """Runs calls in worker processes on the machines of a Dask cluster, and many at once in each.

    It is a ``HybridExecutor`` whose workers are elsewhere: calls are made, watched, cancelled,
    retried and limited in the same ways, and each executor has workers of its own on each node.
    Whoever reaches the ports of a Dask cluster without TLS can run code on all of its machines.
    """

    def __init__(
        self,
        cluster: Any = None,
        *,
        scheduler_file: str | os.PathLike[str] | None = None,
        security: Any = None,
        workers_per_node: int | None = None,
        cluster_timeout: float = 60.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        concurrency: int = 100,
        threads: int = 20,
        loop_factory: Callable[[], object] | None = None,
        max_memory_per_child: int | None = None,
        on_worker_loss: Literal["fail", "retry"] = "fail",
        timeout_grace: float = 2.0,
        max_pending: int | None = None,
        hub_lag_warning: float | None = 5.0,
        monkey_patch: bool | Mapping[str, bool] = True,
        preload: Iterable[str] = (),
        worker_logs: bool = True,
        monitor: bool | None = None,
        idle_timeout: float | None = None,
        resolver: Resolver | None = None,
        dns_threads: int | None = None,
        nice: int | None = None,
        threadpool_limits: int | Mapping[str, int] | None = None,
        worker_state: Callable[[], object] | None = None,
        **refused: Any,
    ) -> None:
        """
        What is not named here is as for :class:`HybridExecutor`. What is called must be importable
        on the nodes, or be defined in the script or notebook itself, which travels. A worker is
        also lost when the connection to its node is. ``timeout_grace`` is longer, because what runs
        on a node is known here up to a quarter of a second late.

        Args:
            cluster: the address of a scheduler ("tcp://host:8786", or "tls://..."), a
                ``distributed.Client``, or a cluster object of Dask's, such as ``SLURMCluster``.
                None if there is a ``scheduler_file``, or if Dask's configuration names the
                scheduler (``DASK_SCHEDULER_ADDRESS``).
            scheduler_file: the path of the file that the scheduler has written.
            security: a ``distributed.Security``, with certificates for TLS; by default the client's
                or the cluster object's, or what Dask's configuration says.
            workers_per_node: how many workers of each lane a node has; by default as many as its
                Dask worker was given threads (``--nthreads``), which is one per CPU unless that was
                changed.
            cluster_timeout: seconds to wait for the scheduler, and for which the executor can do
                without any node. Then it is broken.
            refused: none: there is no max_workers, mp_context or affinity.

        Raises:
            ImportError: distributed is not installed.
            OSError: there is no scheduler, or it does not let this process in.
            RuntimeError: gevent has patched this process; or the nodes cannot be used, because they
                lack hybridexec, or have another version of it, of Python or of gevent.
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        _refuse_patched()
        for name in refused:
            why = f"cannot have {name}: {_REFUSED[name]}" if name in _REFUSED else f"has no {name}"
            raise TypeError(f"a ClusterExecutor {why}")
        if workers_per_node is not None:
            checks.integer(workers_per_node, "workers_per_node")
        checks.seconds(cluster_timeout, "cluster_timeout")
        self._nodes = _connected(
            cluster, scheduler_file, security, workers_per_node, cluster_timeout
        )
        try:
            super().__init__(
                max(1, self._nodes.places),
                multiprocessing.get_context("spawn"),  # none of ours can be inherited
                initializer,
                initargs,
                max_tasks_per_child=max_tasks_per_child,
                concurrency=concurrency,
                threads=threads,
                loop_factory=loop_factory,
                max_memory_per_child=max_memory_per_child,
                on_worker_loss=on_worker_loss,
                timeout_grace=timeout_grace,
                max_pending=max_pending,
                hub_lag_warning=hub_lag_warning,
                monkey_patch=monkey_patch,
                preload=preload,
                worker_logs=worker_logs,
                monitor=monitor,
                idle_timeout=idle_timeout,
                resolver=resolver,
                dns_threads=dns_threads,
                nice=nice,
                threadpool_limits=threadpool_limits,
                worker_state=worker_state,
            )
        except BaseException:
            self._nodes.close()
            raise
        self._local: LocalCluster | None = None

    @classmethod
    def local(cls, nodes: int = 2, **arguments: Any) -> Self:
        """An executor with a cluster of its own on this machine: a scheduler and ``nodes`` nodes,
        started by Dask's own commands, and ended with it.

        Args:
            nodes: how many.
            arguments: as for the class.
        """
        from .local import LocalCluster

        _refuse_patched()
        checks.integer(nodes, "nodes")
        cluster = LocalCluster(nodes)
        try:
            executor = cls(cluster.address, **arguments)
        except BaseException:
            cluster.close()
            raise
        executor._local = cluster
        return executor

    def _assembled(self, plan: Plan) -> Assembly:
        # The script of this process is on no other machine.
        plan = plan._replace(main_by_value=True, main_file=None)
        return _ClusterAssembly(plan, self._nodes)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down as a ``HybridExecutor``; the cluster goes on, unless it is this executor's
        own."""
        try:
            super().shutdown(wait, cancel_futures=cancel_futures)
        finally:
            if self._local is not None and wait:
                self._local.close()


class _ClusterAssembly(Assembly):
    """The parts of an executor whose workers are on nodes."""

    def __init__(self, plan: Plan, nodes: Nodes) -> None:
        super().__init__(plan)
        self._nodes = nodes

    def _parts(self, lane: str, server: ForkServer | None) -> tuple[Engine, Submission]:
        engine, submission = super()._parts(lane, server)
        while self._nodes.happened:
            engine.happen(*self._nodes.happened.popleft())
        return engine, submission

    def _launcher(self, pool: Pool, lane: str, server: ForkServer | None) -> Launcher:
        from ..wire.contract import Boot
        from .launcher import ClusterLauncher

        plan = self.plan
        boot = Boot(*self._boot(lane))
        launcher = ClusterLauncher(self._nodes, boot, plan.slots, plan.beginning, plan.worker_logs)
        self._nodes.tell = self._follow
        return launcher

    def _follow(self, going: list[int]) -> None:
        """Nodes have come, or go, and with them these workers."""
        while self._engine is not None and self._nodes.happened:
            self._engine.happen(*self._nodes.happened.popleft())
        # Without any node, workers are wanted all the same: who starts them waits for one.
        places = self._nodes.places or self.plan.max_workers
        if going and self._engine is not None:
            self._engine.leave(going, places)
        if places != self.plan.max_workers:
            self.resize(places)

    def abandon(self) -> None:
        super().abandon()
        if self._engine is None:
            self._nodes.close()


def _refuse_patched() -> None:
    if any(map(native.is_patched, _UNPATCHED)):
        raise RuntimeError(_PATCHED)


def _connected(
    cluster: Any,
    scheduler_file: str | os.PathLike[str] | None,
    security: Any,
    places: int | None,
    seconds: float,
) -> Nodes:
    file = None if scheduler_file is None else os.fspath(scheduler_file)
    client = dask.open_client(cluster, file, security, seconds)
    try:
        dask.install(client)
        return Nodes(client, places, seconds)
    except BaseException:
        client.close()
        raise
