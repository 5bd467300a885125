"""Executors whose own calls run in a lane, as if each were made by ``options(lane=...)``; or on a
cluster."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybridexec import HybridExecutor

#: Stands for a lane in the names of tests that run on a cluster.
CLUSTER = "cluster"

_address = ""


def start_in(lane: str, executor: HybridExecutor) -> HybridExecutor:
    """Have this executor's calls run in that lane."""
    executor._options = executor._options.updated({"lane": lane})
    return executor


@contextmanager
def cluster() -> Iterator[None]:
    """Have a cluster of one node for :func:`on_cluster`."""
    global _address
    dasks: Any = importlib.import_module("cluster.dasks")  # mypy has it by another name
    with tempfile.TemporaryDirectory(prefix="dask-") as folder:
        dask = dasks.Dask(Path(folder), 1)
        try:
            _address = dask.address
            yield
        finally:
            dask.close()


def on_cluster(arguments: dict[str, Any]) -> HybridExecutor:
    """An executor on the cluster that there is, with as many workers on its node as it asks for."""
    from hybridexec.cluster import ClusterExecutor

    workers = arguments.pop("max_workers")
    return ClusterExecutor(_address, workers_per_node=workers, **arguments)
