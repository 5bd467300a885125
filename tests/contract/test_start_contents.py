"""What workers, the fork server and the resource tracker have when they have started."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import hybridexec
from hybridexec.parent.launch import fork_server

from .conftest import make_executor
from .helpers import run_script

pytestmark = pytest.mark.slow_on("spawn")


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


IMPORTS_SOCKET = "coverage has imported socket"
LATE = [
    *(("ssl", "SSLContext", first) for first in ("", "ssl", "gevent.ssl", "http.client")),
    *(("subprocess", "Popen", first) for first in ("", "subprocess", "gevent.subprocess", "uuid")),
    ("subprocess", "Popen", "concurrent.futures.process"),
    *(
        pytest.param("socket", "socket", first, marks=pytest.mark.unmeasured(IMPORTS_SOCKET))
        for first in (
            "",
            "socket",
            "gevent.socket",
            "http.client",
            "ssl",
            "gevent.ssl",
            "multiprocessing.connection",
        )
    ),
    *(("queue", "SimpleQueue", first) for first in ("", "queue", "gevent.queue", "gevent.pool")),
    ("queue", "SimpleQueue", "concurrent.futures.thread"),
]


@pytest.mark.slow
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
    before, *patched = out.stdout.split()
    assert (patched, out.stderr) == (["True", "True"], "")
    # Multiprocessing's own way to spawn has imported most of them before anything is patched.
    if start == "forkserver" or module == "ssl":
        assert before == "False"


def declared(first: str) -> tuple[bool, bool, bool]:
    """In a worker: whether ``zope.interface`` was there before; whether gevent's loop and callbacks
    say what they implement, once ``first`` is imported.
    """
    before = "zope.interface" in sys.modules
    importlib.import_module(first)
    import gevent
    from zope.interface import implementedBy

    loop = type(gevent.get_hub().loop)
    callback = type(gevent.get_hub().loop.run_callback(int))
    names = [[kind.__name__ for kind in implementedBy(made)] for made in (loop, callback)]
    return before, "ILoop" in names[0], "ICallback" in names[1]


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
@pytest.mark.parametrize("first", ["zope.interface", "gevent._interfaces", "gevent.events"])
def test_gevent_declares_its_interfaces_when_somebody_may_ask(start: str, first: str) -> None:
    with make_executor(start, max_workers=1) as executor:
        assert executor.submit(declared, first).result(timeout=60) == (False, True, True)


def pickling_of_sockets() -> tuple[bool, bool, bool]:
    """In a worker: whether ``socket`` was there before; whether multiprocessing has it, and knows
    how to pickle the sockets that were there when it was imported."""
    before = "socket" in sys.modules
    import socket
    from multiprocessing import reduction

    from gevent import monkey

    reducers = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    known = monkey.get_original("socket", "socket") in reducers
    return before, reduction.socket is socket, known  # type: ignore[attr-defined]


@pytest.mark.unmeasured(IMPORTS_SOCKET)
def test_multiprocessing_learns_of_sockets_when_they_are_imported(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from hybridexec import HybridExecutor

{inspect.getsource(pickling_of_sockets)}

if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        print(*executor.submit(pickling_of_sockets).result())
"""
    out = run_script(tmp_path / "script.py", script)
    assert (out.stdout, out.stderr) == ("False True True\n", "")


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


#: What scripts import at their top, and workers with them.
LIGHT = """
import sys
from hybridexec import HybridExecutor

def look():
    before = [n for n in ("concurrent.futures", "logging", "textwrap") if n in sys.modules]
    from gevent import config, monkey
    monkey._errors.logger.debug("its own loggers work")
    import concurrent.futures, textwrap, threading
    executor = isinstance(HybridExecutor(1), concurrent.futures.Executor)
    import concurrent.futures.process
    pool = isinstance(HybridExecutor(1), concurrent.futures.ProcessPoolExecutor)
    import logging
    logging.getLogger("late").warning("from a worker")
    return before, executor, pool, type(logging._lock) is type(threading.RLock())

if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        print(executor.submit(look).result())
"""


@pytest.mark.unmeasured("coverage imports textwrap")
def test_a_worker_has_logging_and_futures_when_something_imports_them(tmp_path: Path) -> None:
    out = run_script(tmp_path / "script.py", LIGHT)
    assert (out.stdout, out.stderr) == ("([], True, True, True)\n", "from a worker\n")
