"""How executors and their workers begin and end, and that nothing is left of them."""

from __future__ import annotations

import gc
import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import util
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybridexec import ExecutorBroken, ExecutorStats, WorkerLost

from .conftest import Make, make_executor
from .helpers import (
    Gate,
    identity,
    is_alive,
    leave,
    nap,
    pid_of,
    run_script,
    square,
    start_script,
    wait_until,
)

pytestmark = pytest.mark.slow_on("spawn", "fork")

# -- initializer ----------------------------------------------------------------------------------

_initialized: list[Any] = []


def initialize(*values: Any) -> None:
    _initialized.append(values)


def initialized() -> list[Any]:
    return _initialized


def fail_initializing(queue: Any = None) -> None:
    if queue is not None:
        logger = logging.getLogger("concurrent.futures")
        logger.addHandler(logging.handlers.QueueHandler(queue))
        logger.propagate = False
    raise ValueError("no luck")


def test_the_initializer_runs_once_in_each_worker(make_each: Make, gate: Gate) -> None:
    executor = make_each(initializer=initialize, initargs=("a", 2))
    calls = [executor.submit(wait_initialized, gate, n) for n in range(2)]
    gate.wait_for(2)
    gate.open()
    results = [call.result(timeout=30) for call in calls]
    assert len({pid for pid, _ in results}) == 2
    assert [values for _, values in results] == [[("a", 2)]] * 2


def wait_initialized(gate: Gate, n: int) -> tuple[int, list[Any]]:
    gate.wait(n)
    return os.getpid(), initialized()


def test_an_initializer_may_wait_and_use_gevent(make: Make) -> None:
    executor = make(initializer=time.sleep, initargs=(0.05,))
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_a_failing_initializer_breaks_the_executor_and_says_why(make_each: Make) -> None:
    executor = make_each(initializer=fail_initializing)
    calls = [executor.submit(square, n) for n in range(5)]
    for call in calls:
        error = call.exception(timeout=30)
        assert isinstance(error, ExecutorBroken)
        assert isinstance(error, BrokenProcessPool)
        assert "no luck" in str(error)
        assert "in fail_initializing" in str(error.__cause__)
    with pytest.raises(BrokenProcessPool, match="no luck"):
        executor.submit(square, 1)
    with pytest.raises(BrokenProcessPool):
        executor.map(square, [1])


def fail_at_length() -> None:
    raise ValueError("no luck" + "!" * 1_000_000)


def test_what_an_initializer_fails_with_may_be_more_than_fits_into_a_pipe(make: Make) -> None:
    executor = make(max_workers=1, initializer=fail_at_length)
    error = executor.submit(square, 1).exception(timeout=30)
    assert isinstance(error, ExecutorBroken)
    assert "no luck!" in str(error)


def test_a_failing_initializer_is_logged_as_the_standard_librarys_is(
    make_each: Make, method: str | None
) -> None:
    queue = multiprocessing.get_context(method).Queue()
    executor = make_each(max_workers=1, initializer=fail_initializing, initargs=(queue,))
    assert executor.submit(square, 1).exception(timeout=30) is not None
    record = queue.get(timeout=30)
    assert (record.name, record.levelno) == ("concurrent.futures", logging.CRITICAL)
    assert "Exception in initializer" in record.getMessage()
    assert "no luck" in record.getMessage()
    queue.close()
    queue.join_thread()


@pytest.mark.parametrize("initargs", [(), (0,), ("a message",)])
def test_an_initializer_that_exits_breaks_the_executor(make: Make, initargs: Any) -> None:
    executor = make(max_workers=1, initializer=sys.exit, initargs=initargs)
    assert isinstance(executor.submit(square, 1).exception(timeout=30), ExecutorBroken)


def test_initargs_that_cannot_be_pickled_break_the_executor(make: Make) -> None:
    executor = make(initializer=initialize, initargs=((n for n in ()),))
    error = executor.submit(square, 1).exception(timeout=30)
    assert isinstance(error, ExecutorBroken)
    assert "generator" in str(error)


def test_a_broken_executor_leaves_no_worker(make: Make) -> None:
    executor = make(initializer=fail_initializing)
    before = set(psutil.Process().children())
    assert executor.submit(square, 1).exception(timeout=30) is not None
    executor.shutdown()
    assert executor.stats().workers == ()
    wait_until(lambda: not set(workers_of()) - before)


# -- staff and recycling --------------------------------------------------------------------------


def test_workers_come_with_calls(make: Make) -> None:
    executor = make(max_workers=3)
    assert executor.stats().workers == ()
    for n in range(3):
        assert executor.submit(square, n).result() == n * n
    assert len(executor._processes) == 1


def test_no_more_workers_than_asked_for(make_each: Make) -> None:
    executor = make_each(max_workers=2)
    assert 1 <= len(set(executor.map(pid_of, range(100)))) <= 2
    assert len(executor._processes) <= 2


@pytest.mark.parametrize("method", [None, "forkserver", "spawn"])
def test_a_worker_runs_as_many_calls_as_it_may(method: str | None) -> None:
    with make_executor(method, max_workers=2, max_tasks_per_child=5) as executor:
        pids = Counter(executor.map(pid_of, range(40), timeout=60))
    assert sum(pids.values()) == 40
    assert max(pids.values()) <= 5


def test_one_call_for_each_worker(make: Make) -> None:
    executor = make(max_workers=1, max_tasks_per_child=1)
    assert len({executor.submit(pid_of).result(timeout=30) for _ in range(4)}) == 4


def test_a_replacement_works_while_its_predecessor_finishes(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=2, max_tasks_per_child=2)
    slow = executor.submit(gate.wait, "slow")
    gate.wait_for(1)
    old = executor.submit(pid_of).result(timeout=30)
    new = executor.submit(pid_of).result(timeout=30)
    assert new != old
    assert not slow.done()
    gate.open()
    assert slow.result(timeout=30) == "slow"
    wait_until(lambda: not is_alive(old))


# -- workers that die -----------------------------------------------------------------------------


def die(how: str) -> None:
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_workers_call_is_lost_and_the_others_run_elsewhere(
    make_each: Make, gate: Gate
) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    running = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    waiting = [executor.submit(square, n) for n in range(50)]
    (pid,) = executor._processes
    os.kill(pid, signal.SIGKILL)
    error = running.exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert isinstance(error, BrokenProcessPool)
    assert (error.pid, error.exitcode, error.in_flight) == (pid, -signal.SIGKILL, 1)
    assert str(pid) in str(error)
    assert "SIGKILL" in str(error)
    assert [call.result(timeout=30) for call in waiting] == [n * n for n in range(50)]
    assert pid not in executor._processes


def test_all_calls_that_were_running_are_lost_and_counted(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    running = [executor.submit(gate.wait, n) for n in range(5)]
    gate.wait_for(5)
    (pid,) = executor._processes
    os.kill(pid, signal.SIGTERM)
    errors = [call.exception(timeout=30) for call in running]
    assert [type(error) for error in errors] == [WorkerLost] * 5
    assert {error.in_flight for error in errors} == {5}
    assert len({id(error) for error in errors}) == 5


@pytest.mark.parametrize(
    ("how", "code", "text"), [("exit", 7, "exit code 7"), ("kill", -9, "SIGKILL")]
)
def test_a_call_that_ends_its_worker_hears_how(make: Make, how: str, code: int, text: str) -> None:
    executor = make(max_workers=1)
    error = executor.submit(die, how).exception(timeout=30)
    assert isinstance(error, WorkerLost)
    assert error.exitcode == code
    assert text in str(error)
    assert executor.submit(square, 4).result(timeout=30) == 16


def test_only_the_dead_workers_calls_are_lost(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2)
    calls = [executor.submit(wait_and_tell_pid, gate, n) for n in range(10)]
    gate.wait_for(10)
    dead, alive = executor._processes
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: any(call.done() for call in calls))
    gate.open()
    wait_until(lambda: all(call.done() for call in calls))
    lost = [call for call in calls if call.exception() is not None]
    assert lost
    assert {call.result() for call in calls if call not in lost} == {alive}


def wait_and_tell_pid(gate: Gate, n: int) -> int:
    gate.wait(n)
    return os.getpid()


def test_a_map_loses_no_item_that_had_not_started_to_a_dying_worker(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    outcomes = list(executor.outcomes(die_at_five, range(20)))
    lost = {outcome.item: outcome.error for outcome in outcomes if not outcome.ok}
    assert all(isinstance(error, WorkerLost) for error in lost.values())
    # Results of the items before it may have been about to leave.
    assert max(lost) == 5
    assert len(outcomes) == 20


def die_at_five(n: int) -> int:
    if n == 5:
        die("kill")
    return n


def test_workers_that_die_at_birth_break_the_executor(make_each: Make) -> None:
    executor = make_each(initializer=leave, initargs=(3,))
    error = executor.submit(square, 1).exception(timeout=60)
    assert isinstance(error, ExecutorBroken)
    assert "exit code 3" in str(error)
    with pytest.raises(BrokenProcessPool):
        executor.submit(square, 1)


# -- shutdown -------------------------------------------------------------------------------------


def workers_of(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes below this one, but multiprocessing's tracker, which is one for all, and the
    servers that other tests have started."""
    found = []
    for child in (process or psutil.Process()).children(recursive=True):
        try:
            command = " ".join(child.cmdline())
            if "resource_tracker" not in command and "loopback_server.py" not in command:
                found.append(child)
        except psutil.Error:
            continue
    return found


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
    (pid,) = executor._processes
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


# -- the end of the process -----------------------------------------------------------------------

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


# -- what is left behind --------------------------------------------------------------------------


def belongings() -> tuple[set[Any], ...]:
    """Processes, threads, descriptors, shared memory and finalizers of this process now."""
    descriptors = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:  # the listing's own
            continue
    processes = {process.pid for process in workers_of()}
    with open("/proc/self/maps") as maps:
        shared = {line.split()[0] for line in maps if "/memfd:" in line or "/dev/shm" in line}
    finalizers = set(util._finalizer_registry)  # type: ignore[attr-defined]
    return processes, set(os.listdir("/proc/self/task")), descriptors, shared, finalizers


def assert_nothing_more_than(before: tuple[set[Any], ...]) -> None:
    wait_until(
        lambda: all(now <= then for now, then in zip(belongings(), before, strict=True)),
        f"left behind: {[now - then for now, then in zip(belongings(), before, strict=True)]}",
        patience=10,
    )


@pytest.fixture
def before(method: str | None) -> Any:
    with make_executor(method) as warm_up:  # modules and the resource tracker stay
        warm_up.submit(square, 1).result()
    gc.collect()
    try:
        wait_until(lambda: not workers_of())
    except AssertionError:
        left = [(child.pid, child.status(), child.cmdline()) for child in workers_of()]
        pytest.fail(f"an earlier test has left {left}")
    return belongings()


def test_nothing_is_left_after_shutdown(before: Any, method: str | None) -> None:
    executor = make_executor(method)
    list(executor.map(square, range(1_000)))
    executor.shutdown()
    assert_nothing_more_than(before)


def test_nothing_is_left_after_many_executors(before: Any, method: str | None) -> None:
    for n in range(6):
        with make_executor(method, max_workers=1) as executor:
            assert executor.submit(square, n).result() == n * n
    assert_nothing_more_than(before)


def test_nothing_is_left_of_killed_workers(before: Any, method: str | None) -> None:
    with make_executor(method) as executor:
        for _ in range(3):
            assert isinstance(executor.submit(die, "kill").exception(timeout=30), WorkerLost)
    assert_nothing_more_than(before)


def test_nothing_is_left_of_a_broken_executor(before: Any, method: str | None) -> None:
    executor = make_executor(method, initializer=fail_initializing)
    assert executor.submit(square, 1).exception(timeout=30) is not None
    executor.shutdown()
    assert_nothing_more_than(before)


def test_nothing_is_left_of_a_forgotten_executor(before: Any, method: str | None) -> None:
    executor = make_executor(method)
    assert executor.submit(square, 2).result() == 4
    del executor
    gc.collect()
    assert_nothing_more_than(before)


# -- stats ----------------------------------------------------------------------------------------


def test_stats_counts_what_runs_waits_and_is_done(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=3)
    assert executor.stats() == ExecutorStats((), 0)
    executor.submit(square, "x").exception()
    executor.submit(square, 2).result()
    calls = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(3)
    stats = wait_until(lambda: (s := executor.stats()).queued == 7 and s)
    assert (stats.running, stats.queued) == (3, 7)
    (worker,) = stats.workers
    assert worker.pid in executor._processes
    assert (worker.state, worker.running, worker.done, worker.failed) == ("ready", 3, 2, 1)
    gate.open()
    assert [call.result(timeout=30) for call in calls] == list(range(10))
    wait_until(lambda: executor.stats().workers[0].done == 12)


def test_stats_shows_a_hub_that_does_not_tick(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    hog = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    wait_until(lambda: executor.stats().workers[0].hub_lag > 0.3)
    gate.open()
    hog.result(timeout=30)
    wait_until(lambda: executor.stats().workers[0].hub_lag < 0.2)


def test_stats_cannot_be_changed(make: Make) -> None:
    stats = make().stats()
    with pytest.raises(AttributeError):
        stats.pending = 3
