"""Nodes of different size come and go while an executor is at work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import psutil
import pytest
from distributed import Client

from hybridexec import ExecutorBroken
from hybridexec.cluster import ClusterExecutor, nodes

from . import calls
from .calls import Marks
from .conftest import Connect, MakeDask
from .dasks import Dask, Node
from .processes import wait_until

# Each has a cluster of its own, which it harms.
pytestmark = pytest.mark.slow


def retire(dask: Dask, node: Node) -> None:
    """Have Dask retire a node, as ``scale`` or a batch system does."""
    with Client(dask.address, security=dask.security, set_as_default=False) as client:
        client.retire_workers(names=[node.name], close_workers=True)


def test_a_late_node_gets_calls(make_dask: MakeDask, connect: Connect, marks: Marks) -> None:
    dask = make_dask(1)
    executor = connect(dask, concurrency=2)
    futures = [executor.submit(marks.wait, number) for number in range(10)]
    marks.wait_for(2)
    late = dask.start_node()
    wait_until(lambda: marks.nodes[late.name] == 2, "the late node runs calls that waited")
    marks.open()
    assert [future.result(30) for future in futures] == [*range(10)]


def test_calls_wait_for_the_first_node(make_dask: MakeDask, connect: Connect) -> None:
    dask = make_dask()
    dask.start_node()  # it needs a second, for which this waits
    executor = connect(dask, cluster_timeout=30)
    assert list(executor.map(calls.double, range(10))) == [*range(0, 20, 2)]


def test_nodes_are_loaded_by_their_size(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask()
    small, large = dask.start_node(threads=1), dask.start_node(threads=3)
    dask.wait()
    executor = connect(dask, concurrency=5)
    futures = [executor.submit(marks.wait, number) for number in range(50)]
    marks.wait_for(20)
    assert marks.nodes == {small.name: 5, large.name: 15}
    assert Counter(marks.pids.values()) == {small.name: 1, large.name: 3}
    marks.open()
    assert [future.result(30) for future in futures] == [*range(50)]


def test_workers_per_node(make_dask: MakeDask, connect: Connect, marks: Marks) -> None:
    dask = make_dask(1)
    executor = connect(dask, workers_per_node=2, concurrency=1)
    futures = [executor.submit(marks.wait, number) for number in range(2)]
    marks.wait_for(2)
    assert len(marks.pids) == 2
    marks.open()
    assert [future.result(30) for future in futures] == [0, 1]


def test_a_node_that_retires_finishes_what_it_runs(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5)
    futures = [executor.submit(marks.wait, number) for number in range(10)]
    marks.wait_for(10)
    going, staying = dask.nodes
    assert marks.nodes == {going.name: 5, staying.name: 5}
    more = [executor.submit(marks.nap, f"more {number}", 0.0) for number in range(20)]
    retire(dask, going)
    # What it had not started runs elsewhere; what it runs, it finishes.
    assert executor.submit(calls.double, 1).cancel() or True
    marks.open()
    assert [future.result(30) for future in futures] == [*range(10)]
    assert [future.result(30) for future in more] == [f"more {number}" for number in range(20)]
    assert set(marks.starts.values()) == {1}
    wait_until(going.gone, "the node has ended")
    assert {node for node, _ in executor.map(calls.where, range(20))} == {staying.name}


def test_an_executor_that_is_made_while_a_node_retires_does_not_wait_for_that(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5)
    futures = [executor.submit(marks.wait, number) for number in range(10)]
    marks.wait_for(10)
    going, staying = dask.nodes
    retire(dask, going)
    other = connect(dask)
    assert {node for node, _ in other.map(calls.nap_where, [0.0] * 20)} == {staying.name}
    assert not any(future.done() for future in futures)
    marks.open()
    assert [future.result(30) for future in futures] == [*range(10)]


def test_a_run_goes_on_while_nodes_come_and_go(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=20)
    results = executor.map_unordered(marks.nap, range(600), buffersize=100)
    done = [next(results) for _ in range(50)]
    retire(dask, dask.nodes[0])
    late = dask.start_node()
    done += results
    assert sorted(done) == [*range(600)]
    assert set(marks.starts.values()) == {1}
    wait_until(late.joined)


def none_is_ready(executor: ClusterExecutor) -> bool:
    return not any(worker.state == "ready" for worker in executor.stats().workers)


def test_without_nodes_the_executor_breaks_in_time(make_dask: MakeDask, connect: Connect) -> None:
    dask = make_dask(1)
    executor = connect(dask, cluster_timeout=2)
    assert executor.submit(calls.double, 1).result(30) == 2
    dask.nodes[0].end()
    wait_until(lambda: none_is_ready(executor), "it is noticed")
    began = time.monotonic()
    with pytest.raises(ExecutorBroken, match="cluster_timeout"):
        executor.submit(calls.double, 1).result(30)
    assert time.monotonic() - began < 15


def test_a_node_that_comes_in_time_is_taken(make_dask: MakeDask, connect: Connect) -> None:
    dask = make_dask(1)
    executor = connect(dask, cluster_timeout=30)
    assert executor.submit(calls.double, 1).result(30) == 2
    dask.nodes[0].end()
    wait_until(lambda: none_is_ready(executor), "it is noticed")
    future = executor.submit(calls.where)
    late = dask.start_node()
    assert future.result(30)[0] == late.name


def test_a_node_that_may_open_too_few_files_says_so(make_dask: MakeDask, connect: Connect) -> None:
    dask = make_dask()
    dask.start_node(prefix=("prlimit", "--nofile=30"))
    dask.wait()
    error = connect(dask).submit(calls.double, 1).exception(60)
    assert isinstance(error, ExecutorBroken)
    assert dask.nodes[0].name in str(error)
    assert "files" in str(error)


def test_a_client_s_memory_does_not_grow_with_what_it_maps(
    make_dask: MakeDask, connect: Connect
) -> None:
    dask = make_dask(2)
    executor = connect(dask)
    process = psutil.Process()
    results = executor.map_unordered(calls.size, (b"x" * 2000 for _ in range(60_000)))
    for _ in range(10_000):
        next(results)
    before = process.memory_info().rss
    assert sum(1 for _ in results) == 50_000
    # They are 100 MB.
    assert process.memory_info().rss - before < 20_000_000


def test_nodes_are_looked_for_again_when_that_has_failed(
    dask: Dask, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = connect(dask)
    assert executor.submit(calls.double, 1).result(30) == 2
    client = executor._nodes._client
    failures: list[Exception] = []
    addresses = nodes.dask.addresses

    async def look(client: Any) -> dict[str, int]:
        try:
            return await addresses(client)
        except Exception as error:
            failures.append(error)
            raise

    monkeypatch.setattr(nodes.dask, "addresses", look)
    closing = client.rpc.close()  # as when the client is being closed
    asyncio.run_coroutine_threadsafe(closing, nodes.dask.loop_of(client)).result(30)
    wait_until(lambda: len(failures) >= 2, "it is tried again")
    assert type(failures[0]) is RuntimeError
    assert executor.submit(calls.double, 2).result(30) == 4
