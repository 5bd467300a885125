"""Executors that end in unusual places: forked processes, finalizers, signal handlers, workers."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import weakref
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import Gate, is_alive, pid_of, run_script, square, start_script, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]

# -- forks ----------------------------------------------------------------------------------------

#: What a forked child finds; START is a start method.
FORKED = """
import gc, multiprocessing, os, sys, time, warnings
from pathlib import Path
from hybridexec import HybridExecutor

def wait(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return path

def refused(use):
    try:
        use()
    except RuntimeError as error:
        return "make one in this process" in str(error)

def in_child():
    assert finished.result() == 8
    assert refused(pending.result), "result"
    assert refused(pending.exception), "exception"
    assert refused(lambda: next(results)), "map"
    assert refused(lambda: list(lazy)), "map_unordered"
    assert refused(lambda: executor.submit(pow, 2, 3)), "submit"
    assert refused(lambda: executor.map(pow, [2], [3])), "new map"
    assert refused(lambda: executor.options(timeout=1).submit(pow, 2, 3)), "view"
    assert not pending.running()
    assert not pending.done()
    stats = executor.stats()
    assert (stats.workers, stats.pending, executor._processes) == ((), 0, {})
    assert pending.cancel()  # this copy only
    executor.kill_workers()
    executor.terminate_workers()
    executor.shutdown(cancel_futures=True)
    with executor:
        pass
    try:
        with executor:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass

if __name__ == "__main__":
    start, gate = sys.argv[1:]
    executor = HybridExecutor(1, multiprocessing.get_context(start))
    finished = executor.submit(pow, 2, 3)
    finished.result()
    pending = executor.submit(wait, gate)
    results = executor.map(wait, [gate])
    lazy = executor.map_unordered(wait, [gate, gate])
    while not pending.running():
        time.sleep(0.01)
    # Python 3.12 warns of threads, ours among them.
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    if child == 0:
        in_child()
        print("inert", flush=True)
        # What the collector finds must not close descriptors that have got new owners.
        files = [open(os.devnull) for _ in range(50)]
        del executor, pending, results, lazy, finished
        gc.collect()
        for file in files:
            os.fstat(file.fileno())
        sys.exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    Path(gate).touch()
    assert pending.result() == next(results) == next(lazy) == gate
    executor.shutdown()
"""


#: An executor that was made, but not used, before the fork is nobody's yet.
FORKED_UNUSED = """
import multiprocessing, os, sys
from hybridexec import HybridExecutor

if __name__ == "__main__":
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1])) as executor:
        child = os.fork()
        assert executor.submit(pow, 2, 3).result() == 8
        (worker,) = executor._processes
        if child == 0:
            executor.shutdown()
            sys.exit(6)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        assert executor.submit(os.getpid).result() == worker
"""


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_a_forked_copy_refuses_to_work_and_waits_for_nothing(tmp_path: Path, start: str) -> None:
    out = run_script(tmp_path / "script.py", FORKED, start, tmp_path / "gate")
    assert (out.stdout, out.stderr) == ("inert\n", "")


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_an_unused_executor_works_on_both_sides_of_a_fork(tmp_path: Path, start: str) -> None:
    assert run_script(tmp_path / "script.py", FORKED_UNUSED, start).stderr == ""


ORPHANED = """
import os, sys, time
from hybridexec import HybridExecutor

if __name__ == "__main__":
    executor = HybridExecutor(1)
    worker = executor.submit(os.getpid).result()
    if os.fork() == 0:
        time.sleep(60)
    print(worker, flush=True)
    time.sleep(60)
"""


def test_a_forked_child_does_not_keep_a_dead_parents_workers(tmp_path: Path) -> None:
    with start_script(tmp_path / "script.py", ORPHANED) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        (child,) = _children_but(process.pid, worker)
        try:
            process.kill()
            wait_until(lambda: not is_alive(worker))
            assert is_alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


def _children_but(parent: int, worker: int) -> list[int]:
    """The forked child, which alone runs the very program that its parent runs."""
    process = psutil.Process(parent)
    return [
        child.pid
        for child in process.children()
        if child.pid != worker and child.cmdline() == process.cmdline()
    ]


#: ProcessPoolExecutor refuses here, too.
TOO_LATE = """
import os, sys, threading
from hybridexec import HybridExecutor

def submit_late():
    threading.main_thread().join()
    try:
        executor.submit(os.getpid)
    except RuntimeError as error:
        print(error)

if __name__ == "__main__":
    executor = HybridExecutor(1, mp_context=__import__("multiprocessing").get_context(sys.argv[1]))
    if sys.argv[2] == "used":
        executor.submit(os.getpid).result()
    threading.Thread(target=submit_late).start()
"""


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_a_call_that_comes_after_the_main_thread_s_end_is_refused(
    tmp_path: Path, start: str, used: str
) -> None:
    out = run_script(tmp_path / "script.py", TOO_LATE, start, used)
    assert (out.stdout, out.stderr) == (
        "cannot schedule new futures after interpreter shutdown\n",
        "",
    )


# -- shutdown, wherever it is called --------------------------------------------------------------


class Owner:
    """Has an executor, and shuts it down when it goes."""

    def __init__(self, executor: HybridExecutor) -> None:
        self.executor = executor
        self.cycle = self  # so that the collector finds it, at a time of its own choosing

    def __del__(self) -> None:
        self.executor.shutdown()


def test_shutdown_in_del(make_each: Make) -> None:
    owner = Owner(make_each())
    (pid,) = {owner.executor.submit(pid_of).result(timeout=30)}
    last = owner.executor.submit(square, 3)
    del owner
    gc.collect()
    assert last.result(timeout=0) == 9
    assert not is_alive(pid)


def test_shutdown_in_a_finalizer(make: Make) -> None:
    executor = make()
    pid = executor.submit(pid_of).result(timeout=30)
    owner = Future[None]()
    weakref.finalize(owner, executor.shutdown)
    del owner
    gc.collect()
    assert not is_alive(pid)


def test_shutdown_in_what_interrupts_a_submit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # A finalizer or a signal handler may run between any two steps of a submit.
    executor = make()
    assert executor.submit(square, 2).result(timeout=30) == 4
    engine = executor._engine
    pool = engine._pool
    receiver = pool.receiver
    returned = []

    def interrupted(lane: str) -> Any:
        executor.shutdown()
        returned.append(True)
        return receiver(lane)

    monkeypatch.setattr(pool, "receiver", interrupted)
    # Until one is sent by the thread that submits it: the I/O thread may be awake.
    wait_until(lambda: executor.submit(square, 3).result(timeout=30) == 9 and returned)
    assert returned == [True]
    executor.shutdown()
    assert executor.stats().workers == ()


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("cancel", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_a_shutdown_in_the_midst_of_a_submit(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wait: bool,
    cancel: bool,
    running: bool,
) -> None:
    executor = make()
    gate = Gate(tmp_path / "gate")
    before = executor.submit(gate.wait, 1)
    gate.wait_for(1)
    if not running:
        gate.open()
        before.result(timeout=30)
    queue = executor._engine._queue
    submit = queue.submit

    def late(calls: Any) -> None:
        # Another thread, which comes after the check whether the executor is open.
        if wait:
            gate.open()
        executor.shutdown(wait=wait, cancel_futures=cancel)
        submit(calls)

    monkeypatch.setattr(queue, "submit", late)
    monkeypatch.setattr(executor._engine._inline, "send", lambda call: False)
    outcome = "refused"
    with contextlib.suppress(RuntimeError, CancelledError):
        call = executor.submit(square, 3)
        outcome = "cancelled"
        gate.open()
        outcome = call.result(timeout=30)
    if running and not wait:  # the I/O thread goes on
        assert outcome == ("cancelled" if cancel else 9)
    executor.shutdown()
    assert before.result(timeout=0) == 1
    assert executor.stats().workers == ()


IN_HANDLER = """
import os, signal, threading, time
from hybridexec import HybridExecutor

if __name__ == "__main__":
    executor = HybridExecutor(1)
    executor.submit(pow, 2, 3).result()

    def finish(number, frame):
        executor.shutdown(wait=True)

    def signal_soon():
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, finish)
    threading.Thread(target=signal_soon).start()
    try:
        while True:
            executor.submit(pow, 2, 3)
    except RuntimeError as error:
        print(error)
"""


def test_shutdown_in_a_signal_handler_in_the_midst_of_submits(tmp_path: Path) -> None:
    out = run_script(tmp_path / "script.py", IN_HANDLER)
    assert (out.stdout, out.stderr) == ("cannot schedule new futures after shutdown\n", "")


def shut_down_inside(method: str) -> list[int]:
    executor = HybridExecutor(1, multiprocessing.get_context(method))
    pids = [executor.submit(pid_of).result() for _ in range(2)]
    late = executor.submit(square, 2)
    late.add_done_callback(lambda _: executor.shutdown())
    executor.shutdown()
    assert late.result(timeout=0) == 4
    return pids


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_shutdown_in_a_worker_of_another_executor(make: Make, start: str) -> None:
    executor = make(max_workers=1)
    calls = [executor.submit(shut_down_inside, start) for _ in range(2)]
    pids = {pid for call in calls for pid in call.result(timeout=60)}
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.slow
def test_shutdown_while_many_threads_submit(make: Make) -> None:
    executor = make()
    calls: list[Future[int]] = []
    refused = []

    def submit() -> None:
        try:
            while True:
                calls.append(executor.submit(square, 2))
        except RuntimeError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    closers = [threading.Thread(target=executor.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(calls) > 100)
    for thread in closers:
        thread.start()
    for thread in threads + closers:
        thread.join(30)
        assert not thread.is_alive()
    assert refused == ["cannot schedule new futures after shutdown"] * 4
    assert not wait(calls, timeout=0).not_done
    assert {call.result() for call in calls} == {4}


def test_shutdown_from_the_callback_of_every_call(make: Make) -> None:
    executor = make()
    returned = []
    calls = []
    for n in range(20):
        call = executor.submit(square, n)
        calls.append(call)
    for call in calls:
        call.add_done_callback(lambda _: (executor.shutdown(), returned.append(True)))
    executor.shutdown()
    assert len(returned) == 20
    assert [call.result(timeout=0) for call in calls] == [n * n for n in range(20)]
