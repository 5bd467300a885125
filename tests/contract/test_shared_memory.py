"""Large arguments and results travel in shared memory, arrive whole, and leave nothing behind."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridexec import HybridExecutor, WorkerLost
from hybridexec.wire import shared

from .conftest import Make
from .helpers import Gate, identity, pid_of, run_script, wait_until

MB = 1 << 20
#: What is copied out of a file, and what is mapped.
COPIED, MAPPED = 3 * MB, shared.MAPPED_FROM + 1000

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd"),
    pytest.mark.timeout(180),
    pytest.mark.slow_on("spawn", "fork"),
]

each_size = pytest.mark.parametrize("size", [COPIED, MAPPED], ids=["copied", "mapped"])


def files(_: object = None) -> int:
    """How many descriptors of payloads this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "hybridexec-payload" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
    return count


def mappings(_: object = None) -> int:
    """How many payloads this process has mapped."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        return sum("hybridexec-payload" in line for line in maps)


def filled(value: int, size: int) -> np.ndarray:
    return np.full(size, value, np.uint8)


def checksum(array: np.ndarray) -> int:
    return int(array.sum(dtype=np.int64))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """At the end, this process has none but spare files, and nothing is mapped."""

    def clean() -> bool:
        gc.collect()
        shared._spares.clear()
        return files() == 0 and mappings() == 0

    wait_until(clean, "what other tests have left to be let go")
    yield
    wait_until(clean, "the payloads' memory to be let go")


# -- contents -------------------------------------------------------------------------------------


@each_size
def test_arrays_arrive_whole_both_ways(executor: HybridExecutor, size: int) -> None:
    array = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    for _ in range(3):
        result = executor.submit(identity, array).result(timeout=60)
        assert np.array_equal(result, array)
        result[0] ^= 255  # it can be written to, and is nobody else's
    assert executor.submit(checksum, array).result(timeout=60) == checksum(array)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_value", [bytes, bytearray, "é".__mul__], ids=["bytes", "bytearray", "str"]
)
def test_large_pickles_arrive_whole(
    executor: HybridExecutor, make_value: Callable[[int], Any]
) -> None:
    for size in (COPIED, MAPPED):
        value = make_value(size)
        assert executor.submit(identity, value).result(timeout=60) == value


def test_many_at_once_keep_apart(executor: HybridExecutor) -> None:
    values = [filled(n % 256, 300_000 + n) for n in range(150)]
    results = list(executor.map(identity, values))
    assert all(np.array_equal(a, b) for a, b in zip(results, values, strict=True))


def test_changing_an_array_after_submit_changes_nothing(executor: HybridExecutor) -> None:
    for size in (COPIED, MAPPED):
        array = filled(1, size)
        future = executor.submit(checksum, array)
        array[:] = 2
        assert future.result(timeout=60) == size


_kept: dict[str, Any] = {}


def keep(name: str, array: np.ndarray) -> None:
    _kept[name] = array


def kept(name: str) -> int:
    return checksum(_kept[name])


def forget() -> None:
    _kept.clear()


def test_what_a_call_keeps_stays_as_it_is(make_each: Make) -> None:
    executor = make_each(max_workers=1)
    sizes = {"copied": COPIED, "mapped": MAPPED}
    for number, (name, size) in enumerate(sizes.items(), 1):
        executor.submit(keep, name, filled(number, size)).result(timeout=60)
    for _ in range(20):
        executor.submit(identity, filled(9, COPIED)).result(timeout=60)
    for number, (name, size) in enumerate(sizes.items(), 1):
        assert executor.submit(kept, name).result(timeout=60) == number * size
    executor.submit(forget).result(timeout=60)
    assert executor.submit(mappings).result(timeout=60) == 0


# -- calls that are sent again --------------------------------------------------------------------


def spoil_and_fail(array: np.ndarray, path: Path) -> int:
    total = checksum(array)
    array[:] = 0
    with open(path, "ab") as file:
        file.write(b"x")
        if file.tell() < 3:
            raise ValueError(total)
    return total


@each_size
def test_a_call_that_is_tried_again_gets_what_was_passed(
    make_each: Make, size: int, tmp_path: Path
) -> None:
    executor = make_each(max_workers=1)
    again = executor.options(retries=5, backoff=0)
    future = again.submit(spoil_and_fail, filled(3, size), tmp_path / "runs")
    assert future.result(timeout=60) == 3 * size


def spoil_and_die(array: np.ndarray, path: Path) -> int:
    total = checksum(array)
    array[:] = 0
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return total


@pytest.mark.slow
@each_size
def test_a_call_that_outlives_its_worker_gets_what_was_passed(
    make: Make, size: int, tmp_path: Path
) -> None:
    again = make(max_workers=1).options(on_worker_loss="retry")
    future = again.submit(spoil_and_die, filled(3, size), tmp_path / "died")
    assert future.result(timeout=60) == 3 * size


def test_calls_that_are_taken_back_run_elsewhere(make_each: Make, gate: Gate) -> None:
    """From a worker that is stuck, and from one that is killed, before they have started."""
    executor = make_each(max_workers=2, concurrency=1)
    stuck = executor.submit(gate.hog, "stuck")
    gate.wait_for(1)
    sums = [executor.submit(checksum, filled(n, COPIED)) for n in range(10)]
    assert [future.result(timeout=60) for future in sums] == [n * COPIED for n in range(10)]
    gate.open()
    stuck.result(timeout=60)


# -- what is left ---------------------------------------------------------------------------------


@pytest.mark.slow
@each_size
def test_neither_side_keeps_more_than_spare_files(make_each: Make, size: int) -> None:
    executor = make_each(max_workers=1)
    for n in range(8):
        executor.submit(identity, filled(n, size)).result(timeout=60)
        list(executor.map(identity, [filled(n, size)] * 2))
    assert executor.submit(mappings).result(timeout=60) == 0
    assert mappings() == 0
    most = 0 if size == MAPPED else shared._MAX_SPARES
    assert executor.submit(files).result(timeout=60) <= most
    wait_until(lambda: files() <= most, "files to be let go")


@pytest.mark.slow
def test_a_killed_workers_calls_leave_nothing(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    pid = executor.submit(pid_of).result(timeout=60)
    stuck = executor.submit(gate.hog, filled(1, MAPPED))
    more = [executor.submit(identity, filled(n, COPIED)) for n in range(4)]
    wait_until(stuck.running, "the call to run")
    os.kill(pid, signal.SIGSTOP)  # from here on it reads nothing
    more += [executor.submit(identity, filled(n, MAPPED)) for n in range(4, 6)]
    os.kill(pid, signal.SIGKILL)
    assert isinstance(stuck.exception(timeout=60), WorkerLost)
    assert [future.result(timeout=60)[0] for future in more] == list(range(6))


def die_after(array: np.ndarray) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return array


@pytest.mark.slow
def test_results_of_dying_workers_leave_nothing(make: Make) -> None:
    """Some are on their way when the worker dies."""
    executor = make(max_workers=1)
    for _ in range(4):
        results = [executor.submit(filled, 7, MAPPED) for _ in range(3)]
        killer = executor.submit(die_after, filled(1, COPIED))
        assert isinstance(killer.exception(timeout=60), WorkerLost)
        for future in results:
            error = future.exception(timeout=60)
            assert isinstance(error, WorkerLost) if error else future.result()[-1] == 7


def test_cancelled_calls_leave_nothing(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    stuck = executor.submit(gate.wait, 1)
    gate.wait_for(1)
    waiting = [executor.submit(identity, filled(n, COPIED)) for n in range(8)]
    assert files() == 8
    assert all(future.cancel() for future in waiting)
    gate.open()
    stuck.result(timeout=60)
    assert executor.submit(checksum, filled(1, COPIED)).result(timeout=60) == COPIED
    del waiting
    wait_until(lambda: files() <= shared._MAX_SPARES, "files to be let go")


@pytest.mark.slow
def test_calls_that_nobody_looks_at_leave_nothing(make: Make) -> None:
    executor = make(max_workers=1)
    for n in range(5):
        executor.submit(identity, filled(n, MAPPED))
    results = executor.map(identity, [filled(n, MAPPED) for n in range(5)])
    next(results)
    results.close()
    del results
    executor.shutdown()


def test_shutdown_with_calls_left_leaves_nothing(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    stuck = executor.submit(gate.hog, filled(1, MAPPED))
    gate.wait_for(1)
    more = [executor.submit(identity, filled(n, COPIED)) for n in range(5)]
    executor.kill_workers()
    assert stuck.exception(timeout=60) is not None
    executor.shutdown()
    assert all(future.done() for future in more)


# -- limits ---------------------------------------------------------------------------------------


def test_pending_calls_hold_a_bounded_number_of_files(
    make_each: Make, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    stuck = executor.submit(gate.wait, 1)
    gate.wait_for(1)
    monkeypatch.setattr(shared, "_MOST", 5)
    pending = [executor.submit(checksum, filled(n, 400_000)) for n in range(100)]
    assert 1 <= files() <= 5
    gate.open()
    stuck.result(timeout=60)
    assert [future.result(timeout=60) for future in pending] == [n * 400_000 for n in range(100)]


@pytest.mark.parametrize("function", ["memfd_create", "pwritev"])
def test_without_files_everything_travels_through_the_pipes(
    make: Make, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def refuse(*arguments: object) -> Any:
        raise OSError("not today")

    executor = make(max_workers=1)
    executor.submit(pid_of).result(timeout=60)
    monkeypatch.setattr(os, function, refuse)
    executor.submit(setattr_of_os, function).result(timeout=60)
    for size in (COPIED, MAPPED):
        result = executor.submit(identity, filled(5, size)).result(timeout=60)
        assert checksum(result) == 5 * size
    assert executor.submit(files).result(timeout=60) == files() == 0


def setattr_of_os(function: str) -> None:
    """Take a function away in the worker, too."""

    def refuse(*arguments: object) -> Any:
        raise OSError("not today")

    setattr(os, function, refuse)


FEW_DESCRIPTORS = """
import resource
import numpy as np
from hybridexec import HybridExecutor

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with HybridExecutor(max_workers=2, concurrency=1) as executor:
        futures = [executor.submit(np.sum, np.full(40_000, n)) for n in range(300)]
        assert [future.result() for future in futures] == [n * 40_000 for n in range(300)]
        results = executor.map(np.full, [40_000] * 300, range(300))
        assert [int(array[-1]) for array in results] == list(range(300))
        print("done")
"""


@pytest.mark.slow
def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    assert run_script(tmp_path / "few.py", FEW_DESCRIPTORS).stdout == "done\n"
