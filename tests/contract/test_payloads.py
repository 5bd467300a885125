"""What can travel: what ProcessPoolExecutor carries, and values of all kinds and sizes."""

from __future__ import annotations

import multiprocessing
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridexec import HybridExecutor

from .conftest import METHODS, Make, make_executor
from .helpers import identity, start_script

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]

MB = 1024 * 1024


@pytest.fixture
def sharer() -> Iterator[None]:
    """Ends the thread from which multiprocessing hands out descriptors."""
    yield
    resource_sharer.stop(timeout=10)


# -- what ProcessPoolExecutor carries -------------------------------------------------------------


def answer_on(connection: Any) -> None:
    connection.send(connection.recv() + 1)


def echo_on(peer: socket.socket) -> None:
    with peer:
        peer.sendall(peer.recv(100).upper())


def move(source: Any, target: Any) -> None:
    target.put(source.get())


def add_all(numbers: Any, total: Any, lock: Any) -> None:
    with lock:
        total["sum"] = sum(numbers)


def make_connection() -> Any:
    ours, theirs = multiprocessing.Pipe()
    theirs.send("from a worker")
    theirs.close()
    return ours


@pytest.mark.every_lane(but=("cluster",))  # whose workers have another authkey
@pytest.mark.usefixtures("sharer")
def test_a_connection_travels(executor: HybridExecutor) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        future = executor.submit(answer_on, theirs)
        ours.send(41)
        assert future.result(timeout=30) is None
        assert ours.poll(10)
        assert ours.recv() == 42


@pytest.mark.every_lane(but=("cluster",))  # whose workers have another authkey
@pytest.mark.usefixtures("sharer")
def test_a_connection_comes_back(executor: HybridExecutor) -> None:
    with executor.submit(make_connection).result(timeout=30) as connection:
        assert connection.recv() == "from a worker"


@pytest.mark.every_lane(but=("cluster",))  # which no descriptor reaches
@pytest.mark.usefixtures("sharer")
def test_a_socket_travels(executor: HybridExecutor) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        future = executor.submit(echo_on, theirs)
        ours.sendall(b"hello")
        assert ours.recv(100) == b"HELLO"
        future.result(timeout=30)


@pytest.mark.every_lane(but=("cluster",))  # whose workers have another authkey
def test_a_managers_proxies_travel(executor: HybridExecutor) -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        source, target = manager.Queue(), manager.Queue()
        source.put("parcel")
        executor.submit(move, source, target).result(timeout=30)
        assert target.get(timeout=10) == "parcel"
        numbers, total, lock = manager.list([1, 2, 3]), manager.dict(), manager.Lock()
        executor.submit(add_all, numbers, total, lock).result(timeout=30)
        assert total["sum"] == 6


@pytest.mark.every_lane(but=("cluster",))  # whose workers have another authkey
@pytest.mark.parametrize("how", ["submit", "map"])
def test_a_temporary_argument_lives_until_its_call_has_it(
    executor: HybridExecutor, how: str
) -> None:
    # A manager forgets a list as soon as its last proxy is gone.
    with multiprocessing.get_context("spawn").Manager() as manager:
        if how == "submit":
            result = executor.submit(sum, manager.list([1, 2, 3])).result(timeout=30)
        else:
            (result,) = executor.map(sum, (manager.list([n, 2, 3]) for n in (1,)))
        assert result == 6


def test_a_queue_outside_initargs_is_refused_as_multiprocessing_does(
    executor: HybridExecutor,
) -> None:
    queue = multiprocessing.get_context("spawn").Queue()
    error = executor.submit(identity, queue).exception(timeout=30)
    assert isinstance(error, RuntimeError)
    assert "inheritance" in str(error)
    queue.close()


# -- values and sizes -----------------------------------------------------------------------------

VALUES = [
    None, True, False, 0, -1, 2**63, 2**200, 1.5, float("inf"), 1j, "", "é\udc80", "x" * 100_000,
    b"", b"\0\xff", bytes(200_000), bytearray(b"ab"), [], {}, (), {1, 2}, frozenset({3}), range(5),
    [1, [2, [3]]], {"a": (1, 2)}, Ellipsis, NotImplemented, int, re.compile("a+"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_equal_and_of_its_type(executor: HybridExecutor, value: Any) -> None:
    result = executor.submit(identity, value).result(timeout=30)
    assert result == value
    assert type(result) is type(value)


class Colour(int):
    """Looks like a plain value and is not."""


def test_a_subclass_of_a_plain_type_keeps_its_class(executor: HybridExecutor) -> None:
    assert type(executor.submit(identity, Colour(3)).result()) is Colour
    assert type(next(executor.map(identity, [Colour(3)]))) is Colour


def test_nan_stays_nan(executor: HybridExecutor) -> None:
    result = executor.submit(identity, float("nan")).result()
    assert result != result


def test_mutable_results_are_the_receivers_own(executor: HybridExecutor) -> None:
    first, second = executor.map(identity, [bytearray(b"abc")] * 2)
    first[0] = 0
    assert second == bytearray(b"abc")


@pytest.mark.parametrize("dtype", ["u1", "f8", "M8[s]", "O"])
def test_arrays_travel_and_can_be_written(executor: HybridExecutor, dtype: str) -> None:
    array = np.arange(60_000).astype(dtype).reshape(200, 300)
    result = executor.submit(identity, array).result(timeout=30)
    assert result.dtype == array.dtype
    assert (result == array).all()
    result[0, 0] = array[1, 1]
    assert result[0, 0] == array[1, 1]


def test_arrays_in_other_orders_travel(executor: HybridExecutor) -> None:
    array = np.arange(60_000).reshape(200, 300)
    for view in (np.asfortranarray(array), array[::3, ::-2], array.T):
        assert (executor.submit(identity, view).result(timeout=30) == view).all()


def test_changing_an_array_after_submit_changes_nothing(executor: HybridExecutor) -> None:
    array = np.zeros(1_000_000)
    future = executor.submit(np.sum, array)
    array[:] = 1
    assert future.result(timeout=30) == 0


@pytest.mark.parametrize("make_value", [bytes, bytearray, np.zeros], ids=lambda f: f.__name__)
def test_64_mb_both_ways(executor: HybridExecutor, make_value: Callable[[int], Any]) -> None:
    count = 64 * MB if make_value is not np.zeros else 8 * MB
    value = make_value(count)
    result = executor.submit(identity, value).result(timeout=60)
    assert type(result) is type(value)
    assert memoryview(result) == memoryview(value)


def test_large_and_small_payloads_mix(executor: HybridExecutor) -> None:
    values = [bytes([n]) * (n % 5 * 300_000 + 1) for n in range(40)]
    assert list(executor.map(identity, values)) == values


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_both_ways(make: Make) -> None:
    executor = make(max_workers=1)
    value = bytes(1024 * MB)
    assert executor.submit(len, value).result(timeout=120) == 1024 * MB
    assert len(executor.submit(bytes, 1024 * MB).result(timeout=120)) == 1024 * MB


# -- what workers are set up with -----------------------------------------------------------------

_given: list[Any] = []


def keep(value: Any) -> None:
    _given.append(value)


def use_locks() -> tuple[bool, bool, int]:
    lock, again, (word,) = _given[0]
    with lock:
        held = lock.locked()
    with again, again:
        return held, lock.locked(), word


@pytest.mark.parametrize("method", METHODS)
def test_threads_locks_in_initargs_are_each_workers_own(method: str) -> None:
    """As forked workers have copies of their own: tqdm's lock has one of them in it."""
    locks = (threading.Lock(), threading.RLock(), [1])
    with make_executor(method, initializer=keep, initargs=(locks,)) as executor:
        assert executor.submit(use_locks).result(timeout=60) == (True, False, 1)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_initargs_that_cannot_be_pickled_still_say_so(method: str) -> None:
    arguments = (threading.Lock(), (each for each in "abc"))
    with (
        make_executor(method, initializer=keep, initargs=(arguments,)) as executor,
        pytest.raises(Exception, match="cannot pickle"),
    ):
        executor.submit(int).result(timeout=60)


FAULTS = """
import resource, sys
from hybridexec import HybridExecutor

def same(value):
    return value

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        for size in (100_000, 1_000_000, 10_000_000):
            payload = bytes(size)
            for count in (10, 50):
                before = faults(), executor.submit(faults).result()
                for _ in range(count):
                    executor.submit(same, payload).result()
                after = faults(), executor.submit(faults).result()
            print(size // resource.getpagesize(), (after[0] - before[0]) // count,
                  (after[1] - before[1]) // count)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have habits of their own")
def test_memory_is_not_faulted_in_again_for_each_payload(tmp_path: Path) -> None:
    with start_script(tmp_path / "script.py", FAULTS) as process:
        output, _ = process.communicate(timeout=100)
    figures = [tuple(map(int, line.split())) for line in output.splitlines()]
    assert len(figures) == 3
    for pages, ours, theirs in figures:
        assert max(ours, theirs) < pages / 2, figures
