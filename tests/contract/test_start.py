"""What it takes to start: nothing before the first call, and nothing left of what did not work."""

from __future__ import annotations

import gc
import importlib
import inspect
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

import hybridexec
from hybridexec import HybridExecutor, WorkerLost
from hybridexec.parent.engine.connection import Connection
from hybridexec.parent.launch import fork_server
from hybridexec.parent.launch.launcher import Launcher, Started

from .conftest import Make, make_executor
from .helpers import is_alive, leave, run_script, square, wait_until

pytestmark = pytest.mark.slow_on("spawn")


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def server_of(executor: HybridExecutor) -> int:
    server = executor._engine._launcher._server
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
        assert children() == before
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 2)
    assert children() == before


@pytest.mark.parametrize("end", ["shutdown", "collector", "refused"])
def test_a_fork_server_without_a_call_is_ended(end: str) -> None:
    executor = HybridExecutor(2)
    # As when the first call's arguments cannot be pickled.
    executor._assembly.open()
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
    from hybridexec.parent import assembly

    executor = make()
    before = children()
    parts = assembly._parts

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(assembly, "_parts", parts)
        executor.shutdown()
        return parts(*arguments)

    monkeypatch.setattr(assembly, "_parts", interrupted)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 3)
    wait_until(lambda: children() <= before)


#: A server that was launched before the fork is the parent's alone.
FORKED_LAUNCHED = """
import os, sys
from hybridexec import HybridExecutor

if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        executor._assembly.open()
        server = executor._engine._launcher._server
        child = os.fork()
        assert executor.submit(pow, 2, 3).result() == 8
        assert (executor._engine._launcher._server is server) == (child != 0)
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
            started = launcher.start(failures)
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
    lifecycle.close(started.calls_fd, started.bell_fd, started.results_fd, started.log_fd,
                started.sentinel, *started.other_fds)
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


# -- what a worker has ----------------------------------------------------------------------------


def import_late(module: str, name: str, first: str) -> tuple[bool, bool, bool]:
    """In a worker: whether a module was there before; whether it is patched now, and known to be.

    Args:
        name: what gevent replaces in it.
        first: the module to import, or "" to ask for the original first.
    """
    from gevent import monkey

    before = module in sys.modules
    known = monkey.is_module_patched(module)
    if first:
        importlib.import_module(first)
    original = monkey.get_original(module, name)
    found = getattr(importlib.import_module(module), name)
    patched = found is getattr(importlib.import_module(f"gevent.{module}"), name)
    return before, patched, known and original is not found


LATE = [
    *(("ssl", "SSLContext", first) for first in ("", "ssl", "gevent.ssl", "http.client")),
    *(("subprocess", "Popen", first) for first in ("", "subprocess", "gevent.subprocess", "uuid")),
    ("subprocess", "Popen", "concurrent.futures.process"),
]


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
@pytest.mark.parametrize(("module", "name", "first"), LATE)
def test_what_few_need_is_patched_when_it_is_imported(
    tmp_path: Path, start: str, module: str, name: str, first: str
) -> None:
    # A script of its own: this module's imports would have been made in the worker too.
    script = f"""
import multiprocessing, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from hybridexec import HybridExecutor
import importlib

{inspect.getsource(import_late)}

if __name__ == "__main__":
    with HybridExecutor(1, multiprocessing.get_context({start!r})) as executor:
        print(*executor.submit(import_late, {module!r}, {name!r}, {first!r}).result())
"""
    out = run_script(tmp_path / "script.py", script)
    # multiprocessing's own way to spawn has imported subprocess before anything is patched.
    before = module == "subprocess" and start == "spawn"
    assert (out.stdout, out.stderr) == (f"{before} True True\n", "")


def start_methods(word: str) -> tuple[str, str, str]:
    """In a worker: multiprocessing's start method, and again once subprocess is there and used;
    what a process that is started by it says."""
    before = multiprocessing.get_start_method()
    import subprocess

    subprocess.run(["true"], check=True)
    after = multiprocessing.get_start_method()
    with multiprocessing.Pool(1) as pool:
        return before, after, pool.apply(str.upper, (word,))


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_a_call_starts_processes_by_the_method_its_worker_was_started_by(start: str) -> None:
    """As in any child process of multiprocessing; gevent would make it "fork" from 3.14 on."""
    with make_executor(start, max_workers=1) as executor:
        said = executor.submit(start_methods, "word").result(timeout=60)
    assert said == (start, start, "WORD")


def patch_again() -> tuple[list[str], bool, bool]:
    """In a worker: patch as programs of gevent's users do; what that warned of."""
    from gevent import monkey

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monkey.patch_all()
    import ssl

    import gevent.events
    import gevent.ssl

    return (
        [str(warning.message) for warning in caught],
        ssl.SSLContext is gevent.ssl.SSLContext,
        hasattr(gevent.events, "subscribers"),
    )


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_a_worker_may_be_patched_again(start: str) -> None:
    with make_executor(start) as executor:
        assert executor.submit(patch_again).result(timeout=60) == ([], True, True)


def fork_amid_a_submit() -> int:
    """In a worker: fork while a thread pool is given something to do; how the child ended."""
    from concurrent.futures import thread

    with thread._global_shutdown_lock:  # type: ignore[attr-defined]
        pid = os.fork()
        if pid == 0:
            os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_a_call_may_fork_while_another_submits_to_a_thread_pool(start: str) -> None:
    with make_executor(start, max_workers=1) as executor:
        assert executor.submit(fork_amid_a_submit).result(timeout=30) == 7


def context_text() -> str:
    """In a worker: how its hub represents what an error's greenlet was doing."""
    import gevent

    text: str = gevent.get_hub().format_context({"b": 1, "a": [2]})
    return text


@pytest.mark.parametrize("start", ["forkserver", "spawn", "fork"])
def test_the_hub_formats_contexts_as_gevent_does(start: str) -> None:
    with make_executor(start) as executor:
        assert executor.submit(context_text).result(timeout=60) == "{'a': [2], 'b': 1}"


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


def test_the_fork_server_is_told_where_the_package_lies() -> None:
    assert Path(fork_server._ROOT) == Path(hybridexec.__file__).parents[1]


@pytest.mark.parametrize("options", ["", "-B", "-OO", "-I", "-s", "-W error", "-X dev", "-X utf8"])
def test_the_fork_server_has_the_interpreters_options(options: str) -> None:
    code = (
        f"import sys, subprocess; sys.path.insert(0, {str(Path(__file__).parents[2])!r});"
        "from hybridexec.parent.launch import fork_server; print(fork_server._options());"
        "print(subprocess._args_from_interpreter_flags())"
    )
    # Without what would have it ask subprocess in any case.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    out = subprocess.run(
        [sys.executable, *options.split(), "-c", code],
        env=bare,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ours, theirs = out.stdout.splitlines()
    assert ours == theirs


#: The priority of the resource tracker, which we start, or which was there before.
TRACKERS = """
import os, sys
from multiprocessing import get_context, resource_tracker
from hybridexec import HybridExecutor

if __name__ == "__main__":
    if sys.argv[2] == "before":
        resource_tracker.ensure_running()
    with HybridExecutor(1, get_context(sys.argv[1])) as executor:
        assert executor.submit(pow, 2, 3).result() == 8
        pid = resource_tracker._resource_tracker._pid
        print(os.getpriority(os.PRIO_PROCESS, pid))
"""


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
@pytest.mark.parametrize("when", ["with it", "before"])
def test_only_the_resource_tracker_that_we_start_comes_last(
    tmp_path: Path, start: str, when: str
) -> None:
    priority = os.getpriority(os.PRIO_PROCESS, 0) if when == "before" else 5
    out = run_script(tmp_path / "script.py", TRACKERS, start, when)
    assert (out.stdout, out.stderr) == (f"{priority}\n", "")


#: Its workers need the executor's module for nothing.
MANY_WORKERS = """
import sys

def has(module):
    return module in sys.modules

if __name__ == "__main__":
    from hybridexec import HybridExecutor

    with HybridExecutor(1, max_tasks_per_child=1) as executor:
        print(executor.submit(has, "hybridexec.executor").result())
        while not executor.submit(has, "hybridexec.executor").result():
            pass
"""


def test_all_workers_but_the_first_have_what_scripts_import(tmp_path: Path) -> None:
    out = run_script(tmp_path / "script.py", MANY_WORKERS)
    assert (out.stdout, out.stderr) == ("False\n", "")
