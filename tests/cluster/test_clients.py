"""Programs that use a cluster: what is defined in them travels, they share, and leave nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from hybridexec.cluster import ClusterExecutor

from . import calls, scripts
from .calls import Marks
from .conftest import Connect, MakeDask
from .dasks import Dask
from .processes import is_alive, wait_until

MAIN = """
import sys
from dataclasses import dataclass

from hybridexec.cluster import ClusterExecutor

FACTOR = 3


@dataclass
class Point:
    x: int
    y: int


class Odd(Exception):
    pass


def scale(point):
    if point.x == 9:
        raise Odd(point.y)
    return Point(FACTOR * point.x, FACTOR * point.y)


async def later(number):
    return Point(number, number)


def items(count):
    for number in range(count):
        yield Point(number, 0)


if __name__ == "__main__":
    with ClusterExecutor(sys.argv[1]) as executor:
        results = executor.map(scale, [Point(1, 2), Point(3, 4)])
        assert list(results) == [Point(3, 6), Point(9, 12)]
        assert executor.submit(lambda: FACTOR).result() == 3
        assert isinstance(executor.submit(scale, Point(9, 1)).exception(), Odd)
        assert executor.submit(later, 5).result() == Point(5, 5)
        assert list(executor.stream(items, 3)) == [Point(0, 0), Point(1, 0), Point(2, 0)]
        print("done")
"""


def test_what_a_script_defines_travels(dask: Dask, tmp_path: Path) -> None:
    done = scripts.run(tmp_path, MAIN, dask.address)
    assert done.stdout == "done\n"
    assert done.stderr == ""


# It says where its calls run, and then waits, so that it can be killed meanwhile.
WAITING = """
import os
import sys
import time

from hybridexec.cluster import ClusterExecutor


def wait(folder, number):
    open(os.path.join(folder, f"{os.getpid()}-{number}"), "w").close()
    time.sleep(600)


def compute(folder, number):
    open(os.path.join(folder, f"{os.getpid()}-{number}"), "w").close()
    while True:
        pass


if __name__ == "__main__":
    executor = ClusterExecutor(sys.argv[1], concurrency=5)
    waiting = 5 * int(sys.argv[3]) - 1
    futures = [executor.submit(wait, sys.argv[2], number) for number in range(waiting)]
    # It keeps its worker from starting others.
    while len(os.listdir(sys.argv[2])) < waiting:
        time.sleep(0.01)
    futures.append(executor.submit(compute, sys.argv[2], waiting))
    for future in futures:
        future.result()
"""


def start_waiting(dask: Dask, folder: Path) -> tuple[subprocess.Popen[str], set[int]]:
    """A client all of whose calls run, and its workers."""
    told = folder / "told"
    told.mkdir()
    client = scripts.start(folder, WAITING, dask.address, told, len(dask.nodes))
    count = 5 * len(dask.nodes)
    wait_until(lambda: len(list(told.iterdir())) == count or client.poll() is not None, "calls run")
    assert client.poll() is None, client.communicate()
    return client, {int(path.name.partition("-")[0]) for path in told.iterdir()}


def end(client: subprocess.Popen[str]) -> None:
    client.kill()
    client.communicate()


@pytest.mark.slow
def test_a_client_that_is_killed_frees_what_it_held(
    make_dask: MakeDask, connect: Connect, tmp_path: Path
) -> None:
    dask = make_dask(2)
    client, workers = start_waiting(dask, tmp_path)
    try:
        other = connect(dask)
        assert len(workers) == 2
        client.kill()
        wait_until(lambda: not any(map(is_alive, workers)), "they end")
        assert list(other.map(calls.double, range(100))) == [*range(0, 200, 2)]
    finally:
        end(client)
    other.shutdown()
    for node in dask.nodes:
        node.wait_until_free()


@pytest.mark.slow
def test_a_client_that_freezes_frees_what_it_held(make_dask: MakeDask, tmp_path: Path) -> None:
    dask = make_dask(1)
    client, _ = start_waiting(dask, tmp_path)
    try:
        client.send_signal(signal.SIGSTOP)
        dask.nodes[0].wait_until_free()
    finally:
        end(client)


@pytest.mark.slow
def test_ctrl_c_ends_a_client_and_its_workers(make_dask: MakeDask, tmp_path: Path) -> None:
    dask = make_dask(1)
    client, _ = start_waiting(dask, tmp_path)
    try:
        client.send_signal(signal.SIGINT)
        assert client.wait(30) != 0
        dask.nodes[0].wait_until_free()
    finally:
        end(client)


@pytest.mark.slow
def test_a_node_that_is_killed_leaves_nothing_even_of_calls_that_compute(
    make_dask: MakeDask, tmp_path: Path
) -> None:
    dask = make_dask(2)
    client, workers = start_waiting(dask, tmp_path)
    try:
        assert workers
        for node in dask.nodes:
            node.kill()
        for node in dask.nodes:
            wait_until(node.gone, f"nothing is left of {node.name}")
    finally:
        end(client)


@pytest.mark.slow
def test_two_clients_share_fairly(make_dask: MakeDask, connect: Connect, tmp_path: Path) -> None:
    dask = make_dask(2)
    first, second = connect(dask, concurrency=10), connect(dask, concurrency=10)
    marks = Marks(tmp_path / "first"), Marks(tmp_path / "second")
    greedy = first.map_unordered(marks[0].nap, range(10_000), buffersize=5000)
    next(greedy)

    def is_ready() -> bool:
        list(second.map(calls.where, range(20)))
        return [worker.state for worker in second.stats().workers] == ["ready"] * 2

    wait_until(is_ready, "the other has both workers")  # how long that takes is not what is asked
    before = len(marks[0].starts)
    # The other has thousands of calls waiting, and this one's do not wait for them.
    results = list(second.map(marks[1].nap, range(400)))
    assert results == [*range(400)]
    assert set(marks[1].nodes) == {node.name for node in dask.nodes}
    done = len(marks[0].starts) - before
    assert 100 < done < 2000, done
    greedy.close()  # type: ignore[attr-defined]  # a generator's


def test_initializers_of_two_clients_are_apart(dask: Dask) -> None:
    def executor(value: str) -> ClusterExecutor:
        return ClusterExecutor(dask.address, initializer=calls.set_up, initargs=(value,))

    with executor("first") as first, executor("second") as second:
        assert set(first.map(calls.setting, range(10))) == {"first"}
        assert set(second.map(calls.setting, range(10))) == {"second"}


# It ends as programs do that say nothing of the end.
LEAVING = """
import sys

from hybridexec.cluster import ClusterExecutor


def square(number):
    return number * number


if __name__ == "__main__":
    executor = ClusterExecutor(sys.argv[1])
    print(sum(executor.map(square, range(10))))
"""


@pytest.mark.slow
def test_a_script_that_just_ends_leaves_nothing(make_dask: MakeDask, tmp_path: Path) -> None:
    dask = make_dask(1)
    done = scripts.run(tmp_path, LEAVING, dask.address)
    assert (done.stdout, done.stderr) == ("285\n", "")
    dask.nodes[0].wait_until_free()


@pytest.mark.slow
def test_an_executor_that_nobody_knows_any_more_ends_its_workers(make_dask: MakeDask) -> None:
    dask = make_dask(1)
    executor = ClusterExecutor(dask.address)
    assert executor.submit(calls.double, 1).result(30) == 2
    assert dask.nodes[0].workers()
    del executor
    gc.collect()
    dask.nodes[0].wait_until_free()


def test_an_executor_leaves_nothing_in_its_process(dask: Dask) -> None:
    def use() -> None:
        with ClusterExecutor(dask.address) as executor:
            assert executor.submit(calls.double, 1).result(30) == 2

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    others = set(threading.enumerate())  # those of other tests

    def ended() -> bool:
        gc.collect()
        names = [thread.name for thread in threading.enumerate() if thread not in others]
        return not any(name.startswith(("hybridexec", "IO loop")) for name in names)

    use()  # Dask keeps some threads, once it has them
    wait_until(ended, "its threads end")
    before = descriptors()
    for _ in range(3):
        use()
    wait_until(ended, "their threads end")
    # Clients of other tests may open a connection now and then, but not one for each of these.
    wait_until(lambda: descriptors() < before + 3, "their descriptors are closed")
