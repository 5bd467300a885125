"""A Dask cluster on this machine, by Dask's own command line, and who takes part on it.

    with running(nodes=2, threads=1) as cluster, open_on(cluster, DASK) as peer: ...

The scheduler and each node are processes of their own, whose CPU time can be asked for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..harness.question import OURS, require
from .peers import ExecutorPeer, HybridPeer, Peer

#: Dask as it comes, and through the executor that its client has.
DASK = "Dask"
DASK_EXECUTOR = "Dask, get_executor"
#: Seconds until everything has to be there.
_PATIENCE = 120.0


class Cluster(NamedTuple):
    """A scheduler, and where it is."""

    address: str
    scheduler: int
    #: The processes that nodes are in.
    nodes: tuple[int, ...]


@contextmanager
def running(nodes: int, threads: int = 1) -> Iterator[Cluster]:
    """A scheduler and so many nodes, each a process that Dask's command line has started."""
    command = ["worker", "--nthreads", str(threads), "--no-nanny", "--no-dashboard"]
    command += ["--memory-limit", "0"]
    with _scheduler() as (folder, file, scheduler):
        commands = [
            [*_DASK, *command, "--name", f"node-{number}", "--scheduler-file", str(file)]
            for number in range(nodes)
        ]
        with _processes(commands, folder) as pids:
            address = _await_nodes(file, nodes)
            yield Cluster(address, scheduler, pids)


@contextmanager
def simulated(nodes: int, processes: int = 2) -> Iterator[Cluster]:
    """A scheduler, and so many nodes of one CPU in a few processes: for more than a machine has."""
    with _scheduler() as (folder, file, scheduler):
        shares = [len(range(place, nodes, processes)) for place in range(processes)]
        commands = [
            [sys.executable, "-m", "benchmarks.contenders.nodes", str(file), str(share)]
            for share in shares
            if share
        ]
        with _processes(commands, folder) as pids:
            address = _await_nodes(file, nodes)
            yield Cluster(address, scheduler, pids)


_DASK = (sys.executable, "-m", "dask")


@contextmanager
def _scheduler() -> Iterator[tuple[Path, Path, int]]:
    """A scheduler: a folder to run in, the file that says where it is, its process id."""
    require("distributed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "scheduler.json"
        command = [*_DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        command += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
        with _processes([command], folder) as (scheduler,):
            yield folder, file, scheduler


@contextmanager
def _processes(commands: Sequence[Sequence[str]], folder: Path) -> Iterator[tuple[int, ...]]:
    """Run these until the block ends. What they log goes into the folder."""
    with ExitStack() as stack:
        processes = []
        for command in commands:
            log = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(_end, processes)
        yield tuple(process.pid for process in processes)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_nodes(file: Path, nodes: int) -> str:
    """Wait until all have come; where the scheduler is."""
    import distributed

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            address: str = json.loads(file.read_text("utf-8"))["address"]
            break
        except (OSError, ValueError):
            if time.monotonic() > end:
                raise TimeoutError("the scheduler did not start") from None
            time.sleep(0.02)
    with distributed.Client(address, set_as_default=False, timeout=_PATIENCE) as client:
        client.wait_for_workers(nodes, timeout=_PATIENCE)
    return address


class DaskPeer(Peer):
    """``distributed.Client``, by ``submit``, ``map`` and ``gather``."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @staticmethod
    def take(handle: Any) -> Any:
        return handle.result()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        # Without this, equal calls are one.
        return self._client.submit(function, *arguments, pure=False)

    def map_over(
        self, function: Callable[[Any], Any], items: Sequence[Any], chunksize: int | None
    ) -> list[Any]:
        results: list[Any] = self._client.gather(self._client.map(function, items, pure=False))
        return results


@contextmanager
def _ours(cluster: Cluster, concurrency: int) -> Iterator[Peer]:
    from hybridexec.cluster import ClusterExecutor

    with ClusterExecutor(cluster.address, concurrency=concurrency) as executor:
        yield HybridPeer(executor)


@contextmanager
def _dask(cluster: Cluster, concurrency: int) -> Iterator[Peer]:
    import distributed

    with distributed.Client(cluster.address, set_as_default=False) as client:
        yield DaskPeer(client)


@contextmanager
def _dask_executor(cluster: Cluster, concurrency: int) -> Iterator[Peer]:
    import distributed

    with (
        distributed.Client(cluster.address, set_as_default=False) as client,
        client.get_executor(pure=False) as executor,
    ):
        yield ExecutorPeer(executor)


_OPENERS: dict[str, Callable[[Cluster, int], AbstractContextManager[Peer]]] = {
    OURS: _ours,
    DASK: _dask,
    DASK_EXECUTOR: _dask_executor,
}


def open_on(
    cluster: Cluster, contender: str, concurrency: int = 200
) -> AbstractContextManager[Peer]:
    """The contender on that cluster; ours runs so many calls at once in each worker."""
    return _OPENERS[contender](cluster, concurrency)
