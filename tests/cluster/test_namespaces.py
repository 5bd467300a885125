"""Nodes with network namespaces of their own, and cables that are cut: `make cluster-netns`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from hybridexec import WorkerLost
from hybridexec.cluster import ClusterExecutor

from . import calls, namespaces
from .calls import Marks
from .dasks import Dask
from .namespaces import Machine, Network
from .processes import is_alive, wait_until

pytestmark = pytest.mark.slow

#: Seconds in which a cable that is cut must be noticed: ten, and some for a machine that is busy.
NOTICED = 15.0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if why := namespaces.why_not():
        pytest.skip(why)
    made = Network()
    try:
        with made.entered():
            yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def machines(network: Network) -> list[Machine]:
    return [network.machine() for _ in range(2)]


@pytest.fixture
def dask(machines: list[Machine], tmp_path: Path) -> Iterator[Dask]:
    """A cluster with TLS: the scheduler at the switch, and a node on each machine."""
    hosts = [namespaces.SWITCH, *(machine.host for machine in machines)]
    made = Dask(tmp_path / "dask", tls=True, hosts=hosts)
    try:
        for machine in machines:
            made.start_node(host=machine.host, prefix=machine.prefix)
        made.wait()
        yield made
    finally:
        for machine in machines:
            machine.mend()
        made.close()


def connected(dask: Dask, **arguments: Any) -> ClusterExecutor:
    return ClusterExecutor(dask.address, security=dask.security, concurrency=5, **arguments)


def done(futures: list[Future[Any]]) -> list[Future[Any]]:
    return [future for future in futures if future.done()]


def test_calls_on_machines_of_their_own_with_tls(dask: Dask) -> None:
    assert dask.address.startswith(f"tls://{namespaces.SWITCH}:")
    with connected(dask) as executor:
        assert list(executor.map(calls.double, range(1000))) == [*range(0, 2000, 2)]
        assert {node for node, _ in executor.map(calls.nap_where, [0.2] * 20)} == {
            node.name for node in dask.nodes
        }
        assert executor.submit(calls.bytes_of, 5_000_000).result(60) == b"x" * 5_000_000


def test_a_cut_cable_is_noticed_and_its_node_is_fenced(
    dask: Dask, machines: list[Machine], marks: Marks
) -> None:
    cut, staying = dask.nodes
    with connected(dask) as executor:
        futures = [executor.submit(marks.wait, number) for number in range(10)]
        marks.wait_for(10)
        workers = {pid for pid, node in marks.pids.items() if node == cut.name}
        machines[0].cut()
        wait_until(lambda: len(done(futures)) == 5, "it is noticed", NOTICED)
        for future in done(futures):
            error = future.exception()
            assert isinstance(error, WorkerLost)
            assert cut.name in str(error)
        # The node itself finds that nobody listens, and ends what nobody waits for.
        wait_until(lambda: not any(map(is_alive, workers)), "its workers end", NOTICED)
        marks.open()
        assert sum(future.exception(30) is None for future in futures) == 5
        assert {node for node, _ in executor.map(calls.where, range(20))} == {staying.name}
        machines[0].mend()
        wait_until(
            lambda: cut.name in {node for node, _ in executor.map(calls.nap_where, [0.02] * 20)},
            "the node gets calls again",
        )
    assert set(marks.starts.values()) == {1}


def test_what_a_cut_cable_took_runs_elsewhere_if_asked(
    dask: Dask, machines: list[Machine], marks: Marks
) -> None:
    with connected(dask, on_worker_loss="retry") as executor:
        futures = [executor.submit(marks.wait, number) for number in range(10)]
        marks.wait_for(10)
        more = [executor.submit(marks.nap, number) for number in range(10, 60)]
        machines[0].cut()
        marks.open()
        assert [future.result(60) for future in futures + more] == [*range(60)]
        machines[0].mend()
    assert set(marks.starts) == {str(number) for number in range(60)}
    assert max(marks.starts.values()) <= 2


def test_a_cable_that_is_loose_for_a_moment_costs_nothing(
    dask: Dask, machines: list[Machine], marks: Marks
) -> None:
    with connected(dask) as executor:
        futures = [executor.submit(marks.nap, number) for number in range(200)]
        marks.wait_for(50)
        machines[0].cut()
        time.sleep(2)  # there is nothing to wait for: nothing may happen
        machines[0].mend()
        assert [future.result(60) for future in futures] == [*range(200)]
    assert set(marks.starts.values()) == {1}
