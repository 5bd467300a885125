"""What forks in a call runs no other call, and may do what forked children of programs may."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gevent
import pytest

from hybridexec import HybridExecutor

from .conftest import METHODS, Make, make_executor
from .helpers import Gate, square, wait_until
from .ways_to_fork import (
    NEIGHBOURS,
    WAYS,
    by_fork,
    by_greenlet,
    by_hooks,
    by_native_thread,
    by_pool,
    by_process,
    long_enough,
    status_of,
    wait_and_write,
)

pytestmark = pytest.mark.slow_on("spawn", "fork")


def fork_beside(gate: Gate, way: Callable[[], object]) -> object:
    wait_until(lambda: len(gate.arrived) >= NEIGHBOURS, "neighbours run")
    gate.open()
    return way()


@pytest.mark.parametrize(
    ("method", "way"),
    [("forkserver", way) for way in WAYS]
    + [(method, way) for method in ("spawn", "fork") for way in (by_pool, by_fork, by_hooks)],
)
def test_neighbours_run_once(
    make_each: Make, gate: Gate, tmp_path: Path, way: Callable[[], object]
) -> None:
    executor = make_each(max_workers=1)
    path = tmp_path / "written"
    neighbours = [
        executor.submit(wait_and_write, gate, path, number) for number in range(NEIGHBOURS)
    ]
    assert executor.submit(fork_beside, gate, way).result(timeout=60) is True
    for neighbour in neighbours:
        neighbour.result(timeout=30)
    assert sorted(path.read_text().split()) == [str(number) for number in range(NEIGHBOURS)]
    assert list(executor.map(square, range(10))) == [n * n for n in range(10)]


@pytest.mark.parametrize("way", [by_pool, by_process, by_fork, by_hooks, by_native_thread])
def test_a_worker_of_one_call_forks_as_well(make: Make, way: Callable[[], object]) -> None:
    executor = make(max_workers=1, concurrency=1)
    assert executor.submit(way).result(timeout=60) is True
    assert executor.submit(square, 3).result(timeout=30) == 9


@pytest.mark.parametrize("way", [by_pool, by_fork, by_hooks, by_greenlet])
def test_an_initializer_forks_as_well(make_each: Make, way: Callable[[], object]) -> None:
    executor = make_each(max_workers=1, initializer=way)
    assert executor.submit(square, 3).result(timeout=60) == 9


# -- what a child may do ---------------------------------------------------------------------------


async def some_asyncio() -> int:
    await asyncio.sleep(0.01)
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
    return await process.wait()


def catch_a_signal() -> None:
    caught = []
    signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
    gevent.spawn(os.kill, os.getpid(), signal.SIGUSR1)
    time.sleep(0.05)
    assert caught == [signal.SIGUSR1]


def be_interrupted() -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # it may come at once
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(30)


def deadlock() -> None:
    with pytest.raises(gevent.exceptions.LoopExit):  # type: ignore[attr-defined]  # it is there
        threading.Event().wait()


def use_the_rest() -> None:
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(square, range(3))) == [0, 1, 4]
    assert gevent.get_hub().threadpool.apply(square, (3,)) == 9
    assert socket.gethostbyname("localhost")
    assert multiprocessing.get_context("fork").Pool(1).map(square, range(2)) == [0, 1]
    assert os.popen("echo hi").read() == "hi\n"
    assert os.waitstatus_to_exitcode(os.system("exit 3")) == 3


def use_asyncio() -> None:
    assert asyncio.run(some_asyncio()) == 3


@pytest.mark.parametrize(
    "work", [use_asyncio, use_the_rest, catch_a_signal, be_interrupted, deadlock]
)
def test_a_child_may_wait_in_every_way(make_each: Make, work: Callable[[], None]) -> None:
    executor = make_each(max_workers=1)
    assert executor.submit(fork_for, work).result(timeout=60) == 0


def fork_for(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return status_of(child)


def talk_over_a_socket() -> bytes:
    """With sockets that both sides have waited on before."""
    ours, theirs = socket.socketpair()
    gevent.spawn_later(0.01, ours.sendall, b"hello")
    assert theirs.recv(5) == b"hello"
    child = os.fork()
    if not child:
        ours.close()
        theirs.sendall(theirs.recv(5).upper())
        theirs.close()
        long_enough()
        os._exit(0)
    theirs.close()
    ours.sendall(b"hello")
    answer = b""
    while got := ours.recv(10):  # until the child has closed it
        answer += got
    ours.close()
    assert status_of(child) == 0
    return answer


def test_sockets_from_before_the_fork_work_in_the_child(make_each: Make) -> None:
    executor = make_each(max_workers=1)
    assert executor.submit(talk_over_a_socket).result(timeout=30) == b"HELLO"


def timed_fork() -> int:
    with gevent.Timeout(30):
        child = os.fork()
        time.sleep(0.05)
    if not child:
        os._exit(3)
    return status_of(child)


def test_a_timeout_may_be_left_in_the_child(make: Make) -> None:
    executor = make(max_workers=1).options(timeout=60)
    assert executor.submit(timed_fork).result(timeout=60) == 3


# -- how it ends -----------------------------------------------------------------------------------


def write_at_the_end(path: Path, ending: str) -> None:
    """End as ``ending`` says; all that a program does then leaves a line."""

    def line(text: str) -> None:
        with path.open("a") as file:
            file.write(text + "\n")

    def slowly() -> None:
        time.sleep(0.1)
        line("thread")

    child = os.fork()
    if child:
        line(str(status_of(child)))
        return
    atexit.register(line, "exit")
    threading.Thread(target=slowly).start()
    os.dup2(os.open(path.with_name("out"), os.O_CREAT | os.O_WRONLY), 1)
    print("output")
    if ending == "raises":
        raise SystemExit(3)


@pytest.mark.parametrize(("ending", "status"), [("returns", "0"), ("raises", "3")])
@pytest.mark.parametrize("within", ["call", "greenlet"])
def test_a_child_ends_as_a_program_does(
    make: Make, tmp_path: Path, ending: str, status: str, within: str
) -> None:
    executor = make(max_workers=1)
    path = tmp_path / "lines"
    function: Any = write_at_the_end if within == "call" else spawn_and_write
    executor.submit(function, path, ending).result(timeout=30)
    assert path.read_text().split() == ["thread", "exit", status]
    assert (tmp_path / "out").read_text() == "output\n"


def spawn_and_write(path: Path, ending: str) -> None:
    gevent.spawn(write_at_the_end, path, ending).get()


def start_and_keep() -> tuple[int, int | None]:
    """A daemonic process of one call, while another's child ends."""
    process = multiprocessing.get_context("fork").Process(
        target=time.sleep, args=(60,), daemon=True
    )
    process.start()
    assert process.pid is not None
    child = os.fork()
    if not child:
        return 0, None
    status = status_of(child)
    alive = process.is_alive()
    process.kill()
    process.join()
    return status, process.exitcode if alive else None


def test_a_child_that_ends_leaves_the_processes_of_its_worker(make: Make) -> None:
    executor = make(max_workers=1)
    assert executor.submit(start_and_keep).result(timeout=30) == (0, -signal.SIGKILL)


# -- hooks of others -------------------------------------------------------------------------------

HOOKS = """
import os, time
def wait():
    time.sleep(0.3)
os.register_at_fork(before=wait, after_in_child=wait, after_in_parent=wait)
"""


def run_echo() -> object:
    done = subprocess.run(["echo", "hi"], capture_output=True, text=True, check=True)
    return done.stdout == "hi\n"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_hooks_may_wait_that_were_there_before(
    method: str, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waiting_hooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "written"
    executor: HybridExecutor
    with make_executor(method, max_workers=1, preload=["waiting_hooks"]) as executor:
        neighbours = [
            executor.submit(wait_and_write, gate, path, number) for number in range(NEIGHBOURS)
        ]
        echoes = [executor.submit(fork_beside, gate, run_echo) for _ in range(3)]
        assert [echo.result(timeout=60) for echo in echoes] == [True] * 3
        for neighbour in neighbours:
            neighbour.result(timeout=30)
    assert sorted(path.read_text().split()) == [str(number) for number in range(NEIGHBOURS)]
