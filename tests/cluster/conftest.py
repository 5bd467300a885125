"""Clusters and executors of the tests. What tests leave as they found it is shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .calls import Marks
from .dasks import Dask

pytest.importorskip("distributed")

from hybridexec.cluster import ClusterExecutor  # it needs distributed

MakeDask = Callable[..., Dask]
Connect = Callable[..., ClusterExecutor]


@pytest.fixture(scope="session")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A cluster of two nodes, for tests that leave it as it was."""
    made = Dask(tmp_path_factory.mktemp("dask"), 2)
    yield made
    made.close()


@pytest.fixture(scope="session")
def tls_dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """The same, with TLS, and one node."""
    made = Dask(tmp_path_factory.mktemp("tls"), 1, tls=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def executor(dask: Dask) -> Iterator[ClusterExecutor]:
    """An executor on that cluster, for tests that leave it as it was."""
    with ClusterExecutor(dask.address, concurrency=50) as made:
        yield made


@pytest.fixture
def make_dask(tmp_path: Path) -> Iterator[MakeDask]:
    """Makes clusters that the test may harm; they end after it."""
    made: list[Dask] = []

    def make(*arguments: Any, **named: Any) -> Dask:
        made.append(Dask(tmp_path / f"dask-{len(made)}", *arguments, **named))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def connect(make_dask: MakeDask) -> Iterator[Connect]:
    """Makes executors on a cluster; they end before the clusters of the test do."""
    made: list[ClusterExecutor] = []

    def make(dask: Dask, **arguments: Any) -> ClusterExecutor:
        arguments = {"security": dask.security, "cluster_timeout": 10, **arguments}
        made.append(ClusterExecutor(dask.address, **arguments))
        return made[-1]

    yield make
    for executor in made:
        executor.kill_workers()
        executor.shutdown(cancel_futures=True)


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[Marks]:
    """Marks whose gate is open at the end of the test, however that comes."""
    made = Marks(tmp_path / "marks")
    yield made
    made.open()
