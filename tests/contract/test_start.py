"""What it takes to start: nothing before the first call, and nothing left of what did not work."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from hybridexec import HybridExecutor, WorkerLost
from hybridexec.parent.engine.connection import Connection
from hybridexec.parent.launch.launcher import Launcher, Started

from .conftest import Make, make_executor
from .helpers import is_alive, leave, run_script, square, wait_until

pytestmark = pytest.mark.slow_on("spawn")


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def server_of(executor: HybridExecutor) -> int:
    server = executor._engine._launcher._lanes["greenlet"].server
    assert server is not None
    return server._pid


# -- before the first call ------------------------------------------------------------------------


def test_nothing_is_started_before_the_first_call() -> None:
    before = children()
    executor = HybridExecutor(2)
    assert executor.stats().workers == ()
    assert executor._processes == {}
    assert executor._broken is False
    with executor:
        assert children() <= before
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 2)
    assert children() <= before


@pytest.mark.parametrize("end", ["shutdown", "collector", "refused"])
def test_a_fork_server_without_a_call_is_ended(end: str) -> None:
    executor = HybridExecutor(2)
    # As when the first call's arguments cannot be pickled.
    executor._assembly.open("greenlet")
    pid = server_of(executor)
    assert is_alive(pid)
    if end == "shutdown":
        executor.shutdown()
    elif end == "collector":
        del executor
        gc.collect()
    else:
        executor.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(square, 2)
    wait_until(lambda: not psutil.pid_exists(pid))


def test_threads_that_make_the_first_call_together_make_one_engine(make: Make) -> None:
    executor = make()
    before = children()
    barrier = threading.Barrier(8)
    results = []

    def first() -> None:
        barrier.wait(30)
        results.append(executor.submit(square, 3).result(timeout=30))

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [9] * 8
    server = server_of(executor)
    # The other one may be the resource tracker.
    assert server in children()
    assert len(children() - before) <= 2


def test_a_shutdown_in_the_midst_of_the_first_call(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A signal handler may run between any two steps of it.
    from hybridexec.parent.assembly import Assembly

    executor = make()
    before = children()
    parts = Assembly._parts

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(Assembly, "_parts", parts)
        executor.shutdown()
        return parts(*arguments)

    monkeypatch.setattr(Assembly, "_parts", interrupted)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 3)
    wait_until(lambda: children() <= before)


#: A server that was launched before the fork is the parent's alone.
FORKED_LAUNCHED = """
import os, sys
from hybridexec import HybridExecutor

if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        executor._assembly.open("greenlet")
        server = executor._engine._launcher._lanes["greenlet"].server
        child = os.fork()
        assert executor.submit(pow, 2, 3).result() == 8
        assert (executor._engine._launcher._lanes["greenlet"].server is server) == (child != 0)
        if child == 0:
            executor.shutdown()
            sys.exit(6)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        assert executor.submit(pow, 2, 4).result() == 16
"""


def test_a_fork_between_the_launch_and_the_first_call(tmp_path: Path) -> None:
    assert run_script(tmp_path / "script.py", FORKED_LAUNCHED).stderr == ""


# -- what does not start --------------------------------------------------------------------------

#: Tries to start a worker with ever more descriptors to be had, until it works.
FEW_DESCRIPTORS = """
import gc, multiprocessing, os, resource, sys
from hybridexec import HybridExecutor
from hybridexec.parent import lifecycle
from multiprocessing import resource_tracker

def descriptors():
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in map(int, os.listdir("/proc/self/fd"))
            if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")}

if __name__ == "__main__":
    executor = HybridExecutor(1, multiprocessing.get_context(sys.argv[1]))
    launcher = executor._engine._launcher
    resource_tracker.ensure_running()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    before = descriptors()
    failures = 0
    while True:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + failures, hard))
        try:
            started = launcher.start(failures, "greenlet")
        except OSError:
            failures += 1
            started = None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if started is not None:
            break
        launcher.close()
        gc.collect()
        assert descriptors() == before, (failures, set(descriptors().items()) - set(before.items()))
        assert not lifecycle._descriptors
    assert failures > 5
    started.process.kill()
    started.process.join()
    started.process.close()
    started.page.close()
    lifecycle.close(started.calls_fd, started.bell_fd, started.results_fd,
                *started.other_fds)
    started.channel.close()
    launcher.close()
    gc.collect()
    assert descriptors() == before
    print("clean")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_a_worker_that_cannot_be_started_leaves_no_descriptors(tmp_path: Path, start: str) -> None:
    # Not fork: there the standard library itself leaves a pipe.
    out = run_script(tmp_path / "script.py", FEW_DESCRIPTORS, start)
    assert (out.stdout, out.stderr) == ("clean\n", "")


def test_an_interrupted_first_fork_does_not_keep_the_executor_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = Launcher.start
    pids = []

    def interrupted(self: Launcher, number: int, *rest: Any) -> Started:
        if pids:
            raise KeyboardInterrupt
        started = start(self, number, *rest)
        pids.append(started.process.pid)
        return started

    monkeypatch.setattr(Launcher, "start", interrupted)
    executor = make_executor("fork", max_workers=4)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(square, 3)
    ending = threading.Thread(target=executor.shutdown, daemon=True)
    ending.start()
    ending.join(30)
    assert not ending.is_alive()
    assert not is_alive(pids[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd_open")
@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_nobody_waits_for_the_exit_status_of_a_worker_that_has_ended(
    start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []
    finish = Connection.finish

    def noted(self: Connection) -> None:
        waits.append(self.process.exitcode)
        finish(self)

    monkeypatch.setattr(Connection, "finish", noted)
    with make_executor(start, max_workers=1) as executor:
        for code in range(1, 6):
            with pytest.raises(WorkerLost, match=f"exit code {code}"):
                executor.submit(leave, code).result(timeout=60)
            assert waits == [code]
            waits.clear()


# -- what the fork server has ---------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_fork_server_keeps_nothing_inheritable_open(make: Make) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        executor = make()
        executor.submit(square, 2).result(timeout=60)
    finally:
        os.close(write)
    try:
        # All writers are gone, though the server lives.
        assert os.read(read, 1) == b""
        assert is_alive(server_of(executor))
    finally:
        os.close(read)
