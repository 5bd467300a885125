"""What dies, freezes or is cut off takes what it ran with it, at most, and nothing is left of it.

Calls run at most once; at least once where that was asked for.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future
from typing import Any

import psutil
import pytest

from hybridexec import ExecutorBroken, WorkerLost
from hybridexec.cluster import ClusterExecutor

from . import calls
from .calls import Marks
from .conftest import Connect, MakeDask
from .dasks import Node
from .processes import wait_until

# Each has a cluster of its own, which it harms.
pytestmark = pytest.mark.slow

#: Seconds in which a lost node must be noticed: ten, and some for a machine that is busy.
NOTICED = 15.0

Futures = list[Future[Any]]


def ended(futures: Futures, patience: float) -> float:
    """Wait until all have ended; returns how long that took, in seconds."""
    began = time.monotonic()
    wait_until(lambda: all(future.done() for future in futures), "calls end", patience)
    return time.monotonic() - began


def lost(futures: Futures) -> set[str]:
    """The names of the calls that were lost; all others must have returned their name."""
    names = set()
    for number, future in enumerate(futures):
        error = future.exception(30)
        if error is None:
            assert future.result() == number
        else:
            assert isinstance(error, WorkerLost), error
            names.add(str(number))
    return names


def test_a_worker_that_dies_takes_its_running_calls_only(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5)
    futures = [executor.submit(marks.wait, number) for number in range(30)]
    marks.wait_for(10)
    victim, name = next(iter(marks.pids.items()))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: sum(future.done() for future in futures) == 5, "its calls end", NOTICED)
    error = next(future.exception() for future in futures if future.done())
    assert isinstance(error, WorkerLost)
    assert (error.pid, error.exitcode, error.in_flight) == (victim, -signal.SIGKILL, 5)
    assert name in str(error)
    assert "wait" in str(error)
    marks.open()
    assert len(lost(futures)) == 5
    assert set(marks.starts.values()) == {1}


def test_calls_that_kill_their_worker_run_again_if_asked(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5, on_worker_loss="retry")
    futures = [executor.submit(marks.wait, number) for number in range(10)]
    marks.wait_for(10)
    os.kill(next(iter(marks.pids)), signal.SIGKILL)
    bad = executor.submit(calls.leave, 3)
    marks.open()
    assert not lost(futures)
    assert isinstance(bad.exception(30), WorkerLost)
    assert sum(marks.starts.values()) >= 15


def test_a_node_that_is_killed(make_dask: MakeDask, connect: Connect, marks: Marks) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5)
    futures = [executor.submit(marks.wait, number) for number in range(30)]
    marks.wait_for(10)
    victim, other = dask.nodes
    before = victim.workers()
    victim.kill()
    wait_until(lambda: sum(future.done() for future in futures) >= 5, "its calls end", NOTICED)
    # The agent's record went with it: all that it had been sent counts as started.
    error = next(future.exception() for future in futures if future.done())
    assert isinstance(error, WorkerLost)
    assert victim.name in str(error)
    marks.open()
    names = lost(futures)
    assert names >= {name for name in marks.starts if marks_node(marks, name) == victim.name}
    assert set(marks.starts.values()) == {1}
    assert before
    wait_until(victim.gone, "nothing is left of the node")
    assert executor.submit(calls.where).result(30)[0] == other.name


def marks_node(marks: Marks, call: str) -> str:
    """The node on which that call has started."""
    (node,) = {node for name, node, _ in marks._found() if name == call}
    return node


def test_a_node_that_is_killed_with_retries(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=20, on_worker_loss="retry")
    results = executor.map_unordered(marks.nap, range(500), buffersize=200)
    done = [next(results) for _ in range(50)]
    dask.nodes[0].kill()
    done += results
    assert sorted(done) == [*range(500)]
    assert set(marks.starts) == {str(number) for number in range(500)}


def test_a_scheduler_that_is_killed(make_dask: MakeDask, connect: Connect, marks: Marks) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5, cluster_timeout=3)
    futures = [executor.submit(marks.wait, number) for number in range(20)]
    marks.wait_for(10)
    dask.scheduler.kill()
    # Dask's workers end without their scheduler.
    for node in dask.nodes:
        wait_until(node.gone, f"nothing is left on {node.name}")
    ended(futures, NOTICED + 3)
    assert all(isinstance(each.exception(), WorkerLost | ExecutorBroken) for each in futures)
    with pytest.raises(ExecutorBroken):
        executor.submit(calls.double, 1).result(30)
    assert set(marks.starts.values()) == {1}


@pytest.mark.slow
def test_a_scheduler_that_is_killed_and_started_again(
    make_dask: MakeDask, connect: Connect
) -> None:
    dask = make_dask(1)
    executor = connect(dask)
    assert executor.submit(calls.double, 1).result(30) == 2
    dask.scheduler.kill()
    wait_until(dask.nodes[0].gone, "its node ends with it")
    dask.restart_scheduler()
    node = dask.start_node()
    dask.wait()
    assert {where for where, _ in executor.map(calls.nap_where, [0.0] * 10)} == {node.name}


def freeze(node: Node) -> None:
    """Stop a node, and see that it has stopped."""
    node.freeze()
    wait_until(
        lambda: all(each.status() == psutil.STATUS_STOPPED for each in node.processes()),
        f"{node.name} has stopped",
    )


def test_a_node_that_freezes_is_noticed_and_fenced(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5)
    futures = [executor.submit(marks.wait, number) for number in range(10)]
    marks.wait_for(10)
    frozen, other = dask.nodes
    freeze(frozen)
    began = time.monotonic()
    wait_until(lambda: sum(each.done() for each in futures) == 5, "it is noticed", NOTICED)
    assert time.monotonic() - began > 5, "a node that is silent for a moment is not lost"
    error = next(each.exception() for each in futures if each.done())
    assert isinstance(error, WorkerLost)
    assert frozen.name in str(error)
    marks.open()
    assert len(lost(futures)) == 5
    assert {node for node, _ in executor.map(calls.where, range(20))} == {other.name}
    before = {each.pid for each in frozen.workers()}
    frozen.thaw()
    # The agent finds that its client has let it go, and ends what ran for it.
    wait_until(lambda: not {each.pid for each in frozen.workers()} & before, "they end")
    # It comes back as another node.
    wait_until(
        lambda: frozen.name in {node for node, _ in executor.map(calls.nap_where, [0.02] * 20)},
        "it gets calls again",
    )
    assert set(marks.starts.values()) == {1}


def test_a_node_that_freezes_with_retries(
    make_dask: MakeDask, connect: Connect, marks: Marks
) -> None:
    dask = make_dask(2)
    executor = connect(dask, concurrency=5, on_worker_loss="retry")
    futures = [executor.submit(marks.wait, number) for number in range(10)]
    marks.wait_for(10)
    assert set(marks.nodes.values()) == {5}
    freeze(dask.nodes[0])
    marks.open()
    assert [future.result(NOTICED + 20) for future in futures] == [*range(10)]
    assert sorted(marks.starts.values()) == [1] * 5 + [2] * 5
    # What the first runs say when they can is not heard: each call has had its outcome.
    dask.nodes[0].thaw()
    assert executor.submit(calls.double, 1).result(30) == 2
    assert executor.stats().finished == 11


def test_a_node_that_freezes_for_a_moment_is_kept(make_dask: MakeDask, connect: Connect) -> None:
    dask = make_dask(1)
    executor = connect(dask)
    future = executor.submit(calls.nap, 1.0)
    wait_until(future.running)
    freeze(dask.nodes[0])
    time.sleep(2)  # there is nothing to wait for: nothing may happen
    dask.nodes[0].thaw()
    assert future.result(30) == 1.0


def test_kill_workers(make_dask: MakeDask, connect: Connect, marks: Marks) -> None:
    dask = make_dask(1)
    executor: ClusterExecutor = connect(dask)
    future = executor.submit(marks.wait, 0)
    marks.wait_for(1)
    executor.kill_workers()
    assert isinstance(future.exception(NOTICED), WorkerLost)
    dask.nodes[0].wait_until_free()
