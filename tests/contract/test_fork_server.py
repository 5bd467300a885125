"""A fork server that ends, fails or hangs costs its executor as little as it can."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, WorkerLost, native
from hybridexec.parent.engine import connection

from .conftest import Make
from .helpers import Gate, is_alive, leave, pid_of, square, start_script, wait_until

Preload = Callable[[str], str]


def server_of(executor: HybridExecutor) -> int:
    server = executor._engine._launcher._lanes["greenlet"].server
    assert server is not None
    return server._pid


@pytest.fixture
def preload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preload:
    """Makes modules for the fork server to import: ``FOLDER`` is a folder for them to write to."""
    made: list[str] = []

    def make_module(text: str) -> str:
        made.append(f"preloaded_{tmp_path.name}_{len(made)}".replace("-", "_"))
        folder = tmp_path / "notes"
        folder.mkdir(exist_ok=True)
        text = f"import os, signal, threading, time\nFOLDER = {str(folder)!r}\n{text}\n"
        (tmp_path / f"{made[-1]}.py").write_text(text)
        return made[-1]

    monkeypatch.syspath_prepend(tmp_path)
    return make_module


def end(server: int, how: int) -> None:
    os.kill(server, how)
    wait_until(lambda: not is_alive(server), "the fork server ends")


# -- it ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_outlive_their_fork_server_and_more_can_be_had(
    make: Make, gate: Gate, how: int
) -> None:
    executor = make(max_workers=2, concurrency=2)
    running = [executor.submit(gate.wait, n) for n in range(2)]
    gate.wait_for(2)
    servers = {server_of(executor)}
    pids = set(executor._processes)
    for _ in range(5):
        end(server_of(executor), how)
        # Its place is taken when a worker is needed.
        victim = min(executor._processes.keys() - pids, default=None)
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
        more = [executor.submit(square, n) for n in range(20)]
        assert [call.result(timeout=60) for call in more] == [n * n for n in range(20)]
        servers.add(server_of(executor))
    assert not any(call.done() for call in running)
    gate.open()
    assert [call.result(timeout=60) for call in running] == [0, 1]


def test_a_worker_whose_fork_server_has_ended_is_still_missed(make: Make) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=60)
    end(server_of(executor), signal.SIGKILL)
    error = executor.submit(leave, 3).exception(timeout=60)
    assert isinstance(error, WorkerLost)
    assert (error.pid, error.exitcode) == (pid, None)
    assert "the fork server ended before it" in str(error)
    assert executor.submit(pid_of).result(timeout=60) != pid
    error = executor.submit(leave, 3).exception(timeout=60)
    assert isinstance(error, WorkerLost)
    assert error.exitcode == 3


def go_on(folder: Path) -> None:
    """Note again and again that this call runs."""
    for n in range(3000):
        (folder / f"{n}").touch()
        time.sleep(0.01)


@pytest.mark.slow
def test_where_ends_cannot_be_told_apart_workers_end_with_their_fork_server(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    executor = make(max_workers=1)
    call = executor.submit(go_on, tmp_path)
    wait_until(lambda: len(list(tmp_path.iterdir())) > 3)
    end(server_of(executor), signal.SIGKILL)
    error = call.exception(timeout=60)
    assert isinstance(error, WorkerLost)
    assert error.pid is not None
    assert not is_alive(error.pid), "what it was doing is over when its caller hears of it"
    assert "the fork server ended before it" in str(error)
    assert executor.submit(square, 3).result(timeout=60) == 9


def test_a_fork_server_that_ends_at_once_is_launched_a_few_times(
    make: Make, preload: Preload, tmp_path: Path
) -> None:
    module = preload("open(f'{FOLDER}/{os.getpid()}', 'w').close(); os._exit(3)")
    error = make(preload=[module]).submit(square, 3).exception(timeout=60)
    assert isinstance(error, ExecutorBroken)
    assert "the fork server ended (exit code 3) before it had started a worker" in str(error)
    assert 1 < len(list((tmp_path / "notes").iterdir())) <= 5


@pytest.mark.slow
def test_a_fork_server_that_a_thread_of_its_own_ends_serves_as_long_as_it_lives(
    make: Make, preload: Preload
) -> None:
    module = preload("threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()")
    executor = make(preload=[module], max_workers=1, max_tasks_per_child=1)
    deadline = time.monotonic() + 2
    pids = set()
    while time.monotonic() < deadline or len(pids) <= 2:
        pids.add(executor.submit(pid_of).result(timeout=60))


# -- it cannot fork -------------------------------------------------------------------------------

#: Forks fail while a file says how.
FAILING_FORKS = """
from hybridexec.worker import forkserver

original = forkserver._fork

def fork():
    try:
        error = open(f"{FOLDER}/error").read()
    except FileNotFoundError:
        return original()
    open(f"{FOLDER}/failed", "a").write(".")
    exec("raise " + error)

forkserver._fork = fork
"""


def test_a_failed_fork_costs_nobody_anything(
    make: Make, preload: Preload, tmp_path: Path, gate: Gate
) -> None:
    executor = make(preload=[preload(FAILING_FORKS)], max_workers=2, concurrency=2)
    running = executor.submit(gate.wait, 0)
    gate.wait_for(1)
    server = server_of(executor)
    (tmp_path / "notes/error").write_text("BlockingIOError(11, 'no processes left')")
    calls = [executor.submit(gate.wait, n) for n in range(1, 4)]
    wait_until((tmp_path / "notes/failed").exists)
    wait_until(lambda: len((tmp_path / "notes/failed").read_text()) > 1, "it is tried again")
    (tmp_path / "notes/error").unlink()
    gate.wait_for(4)
    assert len({w.pid for w in executor.stats().workers}) == 2
    gate.open()
    assert [call.result(timeout=60) for call in [running, *calls]] == [0, 1, 2, 3]
    assert server_of(executor) == server


def test_forks_that_always_fail_say_why(make: Make, preload: Preload, tmp_path: Path) -> None:
    executor = make(preload=[preload(FAILING_FORKS)], max_workers=2)
    (tmp_path / "notes/error").write_text("BlockingIOError(11, 'no processes left')")
    error = executor.submit(square, 3).exception(timeout=60)
    assert isinstance(error, ExecutorBroken)
    assert "the fork server cannot fork a worker: Resource temporarily unavailable" in str(error)
    assert len((tmp_path / "notes/failed").read_text()) == 3


def test_a_fault_in_the_fork_server_shows_its_traceback_and_ends_no_worker(
    make: Make,
    preload: Preload,
    tmp_path: Path,
    gate: Gate,
    capfd: pytest.CaptureFixture[str],
) -> None:
    executor = make(preload=[preload(FAILING_FORKS)], max_workers=2, concurrency=2)
    running = executor.submit(gate.wait, 0)
    gate.wait_for(1)
    server = server_of(executor)
    (tmp_path / "notes/error").write_text("ZeroDivisionError('a fault')")
    calls = [executor.submit(square, n) for n in range(20)]
    wait_until(lambda: not is_alive(server), "it ends")
    (tmp_path / "notes/error").unlink()
    assert [call.result(timeout=60) for call in calls] == [n * n for n in range(20)]
    gate.open()
    assert running.result(timeout=60) == 0
    assert "ZeroDivisionError: a fault" in capfd.readouterr().err


# -- it does not answer ---------------------------------------------------------------------------

STUCK = "open(f'{FOLDER}/stuck', 'w').close(); time.sleep(600)"


@pytest.mark.parametrize("threads", ["start workers", "are refused"])
@pytest.mark.parametrize("how", ["kill", "terminate", "cancel", "cancel the call", "large"])
def test_a_fork_server_that_does_not_answer_can_be_ended(
    make: Make,
    preload: Preload,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    threads: str,
) -> None:
    if threads == "are refused":
        refuse_to_start_threads(monkeypatch)
    large = {"initializer": len, "initargs": (b"x" * 500_000,)} if how == "large" else {}
    executor = make(preload=[preload(STUCK)], max_workers=2, **large)
    calls = [executor.submit(square, n) for n in range(5)]
    wait_until((tmp_path / "notes/stuck").exists)
    server = server_of(executor)
    if how in ("kill", "large"):
        executor.kill_workers()
    elif how == "terminate":
        executor.terminate_workers()
    elif how == "cancel":
        executor.shutdown(wait=False, cancel_futures=True)
    else:
        for call in calls:
            assert call.cancel()
    ending = threading.Thread(target=executor.shutdown, daemon=True)
    ending.start()
    ending.join(60)
    assert not ending.is_alive()
    assert all(call.cancelled() for call in calls)
    assert not is_alive(server)
    assert executor._broken is False


def refuse_to_start_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none start but the I/O thread, as when there are too many, or, before Python 3.12.2,
    when the script's last line has run."""
    start_thread = native.start_thread

    def only_the_io_thread(target: Callable[[], None], name: str, deaf: bool = False) -> None:
        if name == "hybridexec-start":
            raise RuntimeError("can't start new thread")
        start_thread(target, name, deaf)

    monkeypatch.setattr(native, "start_thread", only_the_io_thread)


@pytest.mark.parametrize("size", [0, 500_000])
def test_where_no_thread_can_be_started_a_slow_fork_server_holds_up_no_cancellation(
    make: Make, preload: Preload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    refuse_to_start_threads(monkeypatch)
    module = preload(
        "open(f'{FOLDER}/slow', 'w').close()\n"
        "while not os.path.exists(f'{FOLDER}/go'): time.sleep(0.01)"
    )
    executor = make(
        preload=[module], max_workers=2, concurrency=1, initializer=len, initargs=(b"x" * size,)
    )
    calls = [executor.submit(square, n) for n in range(5)]
    wait_until((tmp_path / "notes/slow").exists)
    told = threading.Event()
    calls[0].add_done_callback(lambda _: told.set())
    assert calls[0].cancel()
    executor.options().cancel_all()
    assert told.wait(60)
    later = [executor.submit(square, n) for n in range(5)]
    (tmp_path / "notes/go").touch()
    assert [call.result(timeout=60) for call in later] == [n * n for n in range(5)]
    assert all(call.cancelled() for call in calls)


STUCK_SCRIPT = """
import os, sys, time
from hybridexec import HybridExecutor

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    executor = HybridExecutor(2, preload=[sys.argv[2]])
    calls = [executor.submit(pow, 2, n) for n in range(5)]
    while not os.path.exists(os.path.join(sys.argv[1], "notes", "stuck")):
        time.sleep(0.01)
    print("started", flush=True)
    if sys.argv[3] == "exit":
        executor.shutdown(wait=False, cancel_futures=True)
    elif sys.argv[3] == "with":
        with executor:
            calls[0].result()
    elif sys.argv[3] == "result":
        calls[0].result()
"""


@pytest.mark.parametrize("how", ["exit", "with", "result", "at exit"])
def test_a_fork_server_that_does_not_answer_keeps_no_program_from_ending(
    preload: Preload, tmp_path: Path, how: str
) -> None:
    module = preload(STUCK)
    script = tmp_path / "script.py"
    with start_script(script, STUCK_SCRIPT, tmp_path, module, how) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "started\n"
            if how != "exit":
                time.sleep(0.1)
                process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            process.kill()


@pytest.mark.slow
def test_a_stopped_fork_server_hides_no_death(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_STATUS_PATIENCE", 2.0)
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=60)
    server = server_of(executor)
    os.kill(server, signal.SIGSTOP)
    try:
        error = executor.submit(leave, 3).exception(timeout=60)
        assert isinstance(error, WorkerLost)
        assert (error.pid, error.exitcode) == (pid, None)
        executor.kill_workers()
        executor.shutdown()
    finally:
        if is_alive(server):
            os.kill(server, signal.SIGCONT)


def test_a_fork_server_that_is_slow_holds_up_no_other_executor(
    make: Make, make_each: Make, preload: Preload, tmp_path: Path
) -> None:
    slow = make(preload=[preload(STUCK)])
    slow.submit(square, 2)
    wait_until((tmp_path / "notes/stuck").exists)
    other = make_each()
    assert other.submit(square, 3).result(timeout=60) == 9
    slow.kill_workers()
