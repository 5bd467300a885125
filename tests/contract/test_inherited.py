"""What a parent blocks, ignores, closes or limits, and its workers would inherit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hybridexec import HybridExecutor

from .helpers import run_script

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="counts on Linux's signals"),
    pytest.mark.slow_on("spawn", "fork"),
]

#: The parent does something to its signals and then works as ever.
SIGNALS = """
import multiprocessing, os, signal, subprocess, sys, threading, time
from hybridexec import CallTimeout, HybridExecutor, WorkerLost

def spin():
    while True:
        pass

def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

def run():
    return subprocess.run(["echo", "done"], capture_output=True, timeout=30).stdout

def mask():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())

def leave(code):
    os._exit(code)

if __name__ == "__main__":
    what = sys.argv[2]
    if what == "blocked":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGALRM})
    elif what == "ignored":
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGURG):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    else:
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGURG):
            signal.signal(number, lambda number, frame: None)
    # However busy the machine is: a worker that was not interrupted in time would be killed.
    context = multiprocessing.get_context(sys.argv[1])
    executor = HybridExecutor(1, context, concurrency=4, timeout_grace=50)
    print(executor.submit(run).result(60), executor.submit(mask).result(60))
    # One that keeps the CPU is interrupted, and its worker stays.
    pid = executor.submit(os.getpid).result(60)
    beside = executor.submit(nap, 2)
    error = executor.options(timeout=0.3).submit(spin).exception(60)
    print(type(error).__name__, beside.result(60) == pid)
    # A worker's end is noticed.
    print(type(executor.submit(leave, 3).exception(60)).__name__)
    call = executor.submit(nap, 600)
    while not call.running():
        time.sleep(0.01)
    executor.terminate_workers()
    executor.shutdown()
    print(type(call.exception(60)).__name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["blocked", "ignored", "handled"])
def test_workers_have_signals_of_their_own(tmp_path: Path, method: str, what: str) -> None:
    out = run_script(tmp_path / "script.py", SIGNALS, method, what, patience=120)
    assert out.stdout.split("\n") == [
        "b'done\\n' set()",
        "CallTimeout True",
        "WorkerLost",
        "WorkerLost",
        "",
    ]


#: The parent dies of a SIGPIPE. It writes to a worker that has died just now: in a callback, on the
#: thread that does not look at anything else before it sends the calls that are submitted there.
PIPES = """
import logging, multiprocessing, os, select, signal, sys, threading, time
from hybridexec import HybridExecutor

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    logging.getLogger("hybridexec").setLevel(logging.ERROR)  # the callback below may take long
    executor = HybridExecutor(1, multiprocessing.get_context(sys.argv[1]), concurrency=8)
    pid = executor.submit(os.getpid).result(60)
    end = os.pidfd_open(pid)
    running = executor.submit(time.sleep, 600)
    while not running.running():
        time.sleep(0.01)
    later, done = [], threading.Event()

    def write(call):
        os.kill(pid, signal.SIGKILL)
        select.select([end], [], [])
        later.extend([executor.submit(abs, -3), executor.submit(len, bytes(1_000_000))])
        running.cancel()
        done.set()

    call = executor.submit(time.sleep, 0.3)
    call.add_done_callback(write)
    assert done.wait(60)
    print([call.result(60) for call in later])
    executor.shutdown()
"""


def test_a_parent_that_sigpipe_ends_writes_to_dead_workers(tmp_path: Path, method: str) -> None:
    out = run_script(tmp_path / "script.py", PIPES, method)
    assert (out.stdout, out.stderr) == ("[3, 1000000]\n", "")


#: Those that a start has to do with have ended.
HELPERS = """
import multiprocessing, os, signal, sys, time, warnings
import psutil
from hybridexec import HybridExecutor

def leave(code):
    os._exit(code)

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the tracker's
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    executor = HybridExecutor(1, multiprocessing.get_context(sys.argv[1]))
    pid = executor.submit(os.getpid).result(60)
    # A fork server, without which its worker lives, and the tracker.
    others = [child for child in psutil.Process().children() if child.pid != pid]
    assert others
    for other in others:
        other.kill()
        while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    executor.submit(leave, 1).exception(60)
    print(executor.submit(os.getpid).result(60) != pid)
    executor.shutdown()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_parent_that_sigpipe_ends_starts_workers_anew(tmp_path: Path, method: str) -> None:
    assert run_script(tmp_path / "script.py", HELPERS, method).stdout == "True\n"


def test_a_preloaded_module_leaves_the_fork_server_its_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_pipe_ends_it.py").write_text(
        "import signal\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with HybridExecutor(1, preload=["broken_pipe_ends_it"]) as executor:
        server = executor.submit(os.getppid).result(60)
        status = Path(f"/proc/{server}/status").read_text().splitlines()
    ignored, caught = (
        int(line.split()[1], 16) for line in status if line.startswith(("SigIgn", "SigCgt"))
    )
    assert ignored >> (signal.SIGPIPE - 1) & 1
    assert caught >> (signal.SIGINT - 1) & 1


#: No file may be written any more, memory files included.
LIMIT = """
import multiprocessing, resource, sys
from hybridexec import HybridExecutor

def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

if __name__ == "__main__":
    when = sys.argv[2]
    if when == "before":
        limit()
    initializer = limit if when == "in the worker" else None
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(1, context, initializer=initializer) as executor:
        assert executor.submit(len, b"x" * 1_000_000).result(60) == 1_000_000
        if when == "later":
            limit()
        for _ in range(3):
            assert executor.submit(len, b"x" * 1_000_000).result(60) == 1_000_000
            assert len(executor.submit(bytes, 1_000_000).result(60)) == 1_000_000
        executor.submit(exit, 3).exception(60)
        print(executor.submit(len, b"x" * 1_000_000).result(60), len(executor._processes))
"""


@pytest.mark.parametrize("when", ["before", "in the worker", "later"])
@pytest.mark.unmeasured("coverage cannot write its files either")
def test_a_limit_of_the_size_of_files_costs_no_worker(
    tmp_path: Path, method: str, when: str
) -> None:
    out = run_script(tmp_path / "script.py", LIMIT, method, when)
    assert (out.stdout, out.stderr) == ("1000000 1\n", "")


#: The parent allows itself more when the fork server is there already.
FILES = """
import multiprocessing, os, resource, sys
from hybridexec import HybridExecutor

def limit(number):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))

def leave(code):
    os._exit(code)

if __name__ == "__main__":
    limit(400)
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1]), concurrency=10) as executor:
        found = [executor.submit(os.sysconf, "SC_OPEN_MAX").result(60)]
        for number in (500, 300):
            limit(number)
            executor.submit(leave, 3).exception(60)
            found.append(executor.submit(os.sysconf, "SC_OPEN_MAX").result(60))
    print(found)
"""


def test_a_worker_may_open_as_many_files_as_the_parent_may_when_it_starts(
    tmp_path: Path, method: str
) -> None:
    out = run_script(tmp_path / "script.py", FILES, method)
    # What the fork server was given when it was launched is not taken away.
    assert out.stdout == f"[400, 500, {400 if method == 'forkserver' else 300}]\n"


#: Without descriptors 0 to 2; the results go to a file.
CLOSED = """
import multiprocessing, os, subprocess, sys
from hybridexec import HybridExecutor

def run(n):
    print("lost")
    return subprocess.run(["echo", str(n)], stdout=subprocess.PIPE).stdout, len(bytes(n))

if __name__ == "__main__":
    with HybridExecutor(2, multiprocessing.get_context(sys.argv[1])) as executor:
        results = list(executor.map(run, [1, 500_000]))
    with open(sys.argv[2], "w") as file:
        file.write(repr(results))
"""


def test_a_parent_without_standard_descriptors_works(tmp_path: Path, method: str) -> None:
    import hybridexec

    script, result = tmp_path / "script.py", tmp_path / "result"
    script.write_text(CLOSED)
    home = Path(hybridexec.__file__).parent.parent
    command = f'PYTHONPATH={home} "$0" "$@" <&- >&- 2>&-'
    subprocess.run(
        ["sh", "-c", command, sys.executable, str(script), method, str(result)],
        timeout=120,
        check=True,
    )
    assert result.read_text() == "[(b'1\\n', 1), (b'500000\\n', 500000)]"
