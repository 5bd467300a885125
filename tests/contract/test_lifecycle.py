"""How executors end: shutdown, and the end of the process."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hybridexec import ExecutorBroken, WorkerLost

from .conftest import Make, make_executor
from .helpers import (
    Gate,
    identity,
    is_alive,
    nap,
    pid_of,
    pids,
    run_script,
    square,
    start_script,
    wait_until,
)

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


def test_shutdown_waits_for_calls_and_workers(make_each: Make) -> None:
    executor = make_each()
    calls = [executor.submit(nap, 0.05) for _ in range(10)]
    pids = list(executor._processes)
    executor.shutdown()
    assert all(call.done() for call in calls)
    assert not any(is_alive(pid) for pid in pids)
    assert executor._processes == {}


def test_shutdown_without_waiting_returns_and_calls_still_end(make_each: Make, gate: Gate) -> None:
    executor = make_each()
    calls = [executor.submit(gate.wait, n) for n in range(150)]
    executor.shutdown(wait=False)
    assert not calls[0].done()
    gate.open()
    assert [call.result(timeout=30) for call in calls] == list(range(150))
    wait_until(lambda: executor.stats().workers == ())


def test_the_with_block_waits(make: Make) -> None:
    with make() as executor:
        call = executor.submit(nap, 0.1)
    assert call.done()


def test_shutdown_of_an_executor_that_was_never_used(make_each: Make) -> None:
    executor = make_each()
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    executor.terminate_workers()


def test_shutdown_twice_and_from_many_threads_at_once(make: Make) -> None:
    executor = make()
    call = executor.submit(nap, 0.1)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert call.done()
    executor.shutdown()


def test_shutdown_from_a_callback(make: Make, gate: Gate) -> None:
    executor = make()
    call = executor.submit(gate.wait, "a")
    other = executor.submit(gate.wait, "b")
    returned = threading.Event()

    def finish(_: Future[Any]) -> None:
        executor.shutdown()
        returned.set()

    call.add_done_callback(finish)
    gate.open()
    assert returned.wait(30)
    assert other.result(timeout=30) == "b"
    executor.shutdown()
    assert executor.stats().workers == ()


@pytest.mark.parametrize("round_", range(3))
def test_calls_submitted_just_before_the_shutdown_run_in_all_workers(
    make_each: Make, gate: Gate, round_: int
) -> None:
    def open_when_all_are_there() -> None:
        try:
            gate.wait_for(5)
        finally:
            gate.open()

    with ThreadPoolExecutor(1) as threads:
        opened = threads.submit(open_when_all_are_there)
        with make_each(max_workers=5, concurrency=1) as executor:
            futures = [executor.submit(gate.wait, n) for n in range(25)]
        opened.result()
    assert [future.result() for future in futures] == list(range(25))


class Resource:
    """An argument of the initializer's."""


def refuse_to_start(_: object) -> None:
    raise ValueError


@pytest.mark.parametrize("initializer", [refuse_to_start, identity])
def test_an_executor_that_has_ended_keeps_no_initargs(make_each: Make, initializer: Any) -> None:
    resource = Resource()
    alive = weakref.ref(resource)
    executor = make_each(initializer=initializer, initargs=(resource,))
    del resource
    gc.disable()
    try:
        future = executor.submit(abs, -1)
        assert isinstance(future.exception(timeout=30), ExecutorBroken | None)
        executor.shutdown()
        wait_until(lambda: alive() is None)
    finally:
        gc.enable()


def test_cancel_futures_cancels_what_has_not_started_only(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=2)
    calls = [executor.submit(gate.wait, n) for n in range(30)]
    gate.wait_for(2)
    executor.shutdown(wait=False, cancel_futures=True)
    wait_until(lambda: sum(call.cancelled() for call in calls) == 28)
    assert not any(call.done() for call in calls[:2])
    gate.open()
    assert [call.result(timeout=30) for call in calls[:2]] == [0, 1]
    executor.shutdown()
    assert sorted(gate.arrived) == ["0", "1"]


def test_cancel_futures_ends_the_items_of_a_map(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    results = executor.map(gate.wait, range(10))
    gate.wait_for(1)
    executor.shutdown(wait=False, cancel_futures=True)
    wait_until(lambda: executor.stats().queued == 0)
    gate.open()
    assert next(results) == 0
    with pytest.raises(CancelledError):
        next(results)


@pytest.mark.parametrize(
    "use",
    [
        lambda executor: executor.submit(square, 1),
        lambda executor: executor.map(square, [1]),
        lambda executor: list(executor.map_unordered(square, [1])),
        lambda executor: list(executor.outcomes(square, [1])),
        lambda executor: executor.options(timeout=1).submit(square, 1),
        lambda executor: executor.submit(identity, threading.Lock()),
    ],
    ids=["submit", "map", "map_unordered", "outcomes", "view", "unpicklable"],
)
@pytest.mark.parametrize("used", [False, True])
def test_a_closed_executor_refuses_calls_with_the_usual_text(
    make: Make, use: Any, used: bool
) -> None:
    executor = make()
    if used:
        executor.submit(square, 1).result()
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        use(executor)


def test_shutdown_right_after_a_call_that_cannot_be_pickled(make: Make) -> None:
    executor = make()
    call = executor.submit(identity, threading.Lock())
    executor.shutdown(wait=False)
    assert call.exception(timeout=30) is not None


@pytest.mark.parametrize("ending", ["terminate_workers", "kill_workers"])
def test_ending_workers_at_once(make_each: Make, gate: Gate, ending: str) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    running = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    waiting = [executor.submit(square, n) for n in range(20)]
    (pid,) = pids(executor)
    getattr(executor, ending)()
    assert isinstance(running.exception(timeout=30), WorkerLost)
    for call in waiting:
        with pytest.raises(CancelledError):
            call.result(timeout=30)
    wait_until(lambda: not is_alive(pid))
    with pytest.raises(RuntimeError):
        executor.submit(square, 1)
    executor.shutdown()


def test_kill_workers_ends_a_cpu_hog(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    hog = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    executor.kill_workers()
    executor.shutdown()
    assert isinstance(hog.exception(timeout=0), WorkerLost)


def test_a_forgotten_executor_finishes_its_calls_and_ends(method: str | None) -> None:
    executor = make_executor(method)
    calls = [executor.submit(nap, 0.2) for _ in range(5)]
    pids = list(wait_until(partial(getattr, executor, "_processes")))
    del executor
    gc.collect()
    assert [len(call.result(timeout=30)) for call in calls] == [2] * 5
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_forgotten_idle_executor_ends(method: str | None) -> None:
    executor = make_executor(method)
    pid = executor.submit(pid_of).result()
    del executor
    gc.collect()
    wait_until(lambda: not is_alive(pid))


def test_a_view_keeps_its_executor() -> None:
    view = make_executor(None).options(timeout=60)
    gc.collect()
    assert view.submit(square, 3).result(timeout=30) == 9
    view.shutdown()


AT_EXIT = """
import multiprocessing, sys, time
from pathlib import Path
from hybridexec import HybridExecutor

def work(path):
    time.sleep(0.3)
    Path(path).touch()

if __name__ == "__main__":
    method, path = sys.argv[1:]
    executor = HybridExecutor(2, multiprocessing.get_context(method))
    for n in range(5):
        executor.submit(work, f"{path}-{n}")
    # The last use: not even a name is left when the interpreter exits.
    if method == "spawn":
        del executor
"""


BURN = """
import multiprocessing, sys, psutil
from hybridexec import HybridExecutor

def burn():
    while True:
        pass

if __name__ == "__main__":
    executor = HybridExecutor(2, multiprocessing.get_context(sys.argv[1]))
    executor.submit(pow, 2, 3).result()
    burning = [executor.submit(burn) for _ in range(2)]
    while not all(call.running() for call in burning):
        pass
    family = psutil.Process().children(recursive=True)
    print(*(process.pid for process in family), flush=True)
    burning[0].result()
"""


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_the_interpreter_waits_for_pending_calls(tmp_path: Path, start: str) -> None:
    out = run_script(tmp_path / "script.py", AT_EXIT, start, tmp_path / "done")
    assert len(list(tmp_path.glob("done-*"))) == 5
    assert out.stderr == ""


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_nothing_outlives_a_killed_parent(tmp_path: Path, start: str) -> None:
    with start_script(tmp_path / "script.py", BURN, start) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    assert len(pids) >= 2
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "all processes are gone")


FORK = """
import os, sys, time
from hybridexec import HybridExecutor

if __name__ == "__main__":
    executor = HybridExecutor(1)
    worker = executor.submit(os.getpid).result()
    child = os.fork()
    if child == 0:
        try:
            executor.submit(pow, 2, 3)
        except RuntimeError as error:
            print(error, flush=True)
        executor.shutdown()
        with HybridExecutor(1) as own:
            assert own.submit(os.getpid).result() != worker
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert executor.submit(os.getpid).result() == worker
    executor.shutdown()
"""


def test_a_forked_copy_is_inert_and_says_so(tmp_path: Path) -> None:
    out = run_script(tmp_path / "script.py", FORK)
    assert "os.fork()" in out.stdout
    assert "make one in this process" in out.stdout
