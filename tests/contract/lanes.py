"""Executors whose own calls run in a lane, as if each were made by ``options(lane=...)``; or on a
cluster."""

from __future__ import annotations

import atexit
import importlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor

#: Stands for a lane in the names of tests that run on a cluster.
CLUSTER = "cluster"


def start_in(lane: str, executor: HybridExecutor) -> HybridExecutor:
    """Have this executor's calls run in that lane."""
    executor._options = executor._options.updated({"lane": lane})
    return executor


def on_cluster(arguments: dict[str, Any]) -> HybridExecutor:
    """An executor on a cluster of one node, which has as many workers as it asks for."""
    pytest.importorskip("distributed")
    from hybridexec.cluster import ClusterExecutor

    workers = arguments.pop("max_workers")
    return ClusterExecutor(_address(), workers_per_node=workers, **arguments)


@cache
def _address() -> str:
    """The scheduler's; started by the first test that needs it, for all."""
    dasks: Any = importlib.import_module("cluster.dasks")  # mypy has it by another name
    folder = tempfile.TemporaryDirectory(prefix="dask-")
    dask = dasks.Dask(Path(folder.name), 1)
    atexit.register(folder.cleanup)
    atexit.register(dask.close)
    address: str = dask.address
    return address
