"""The ways in which a call may fork, for tests of its neighbours and children."""

from __future__ import annotations

import multiprocessing
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gevent

from .helpers import Gate

NEIGHBOURS = 5


def wait_and_write(gate: Gate, path: Path, name: int) -> None:
    """What the neighbours do: whoever goes on with it in a child would write once more."""
    gate.wait(name)
    for pause in range(3):
        time.sleep(0.01 * pause)
    with path.open("a") as file:
        file.write(f"{name}\n")


def long_enough() -> None:
    """Wait in the child, for longer than the neighbours need."""
    time.sleep(0.3)


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_and_square(value: int) -> int:
    long_enough()
    return value * value


def by_pool() -> object:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(wait_and_square, range(4)) == [0, 1, 4, 9]


def by_process() -> object:
    process = multiprocessing.get_context("fork").Process(target=long_enough)
    process.start()
    process.join()
    return process.exitcode == 0 and not process.is_alive()


def by_manager() -> object:
    with multiprocessing.get_context("fork").Manager() as manager:
        shared = manager.dict(one=1)
        long_enough()
        return dict(shared) == {"one": 1}


def by_fork() -> object:
    child = os.fork()
    if not child:
        long_enough()
        return None  # the process ends with the call
    return status_of(child) == 0


def by_forkpty() -> object:
    child, terminal = pty.fork()
    if not child:
        long_enough()
        os._exit(5)
    status = status_of(child)
    os.close(terminal)
    return status == 5


def by_nested_forks() -> object:
    child = os.fork()
    if not child:
        grandchild = os.fork()
        if not grandchild:
            long_enough()
            os._exit(5)
        long_enough()
        os._exit(status_of(grandchild) + 1)
    return status_of(child) == 6


def by_preexec() -> object:
    done = subprocess.run(
        ["echo", "hi"], preexec_fn=long_enough, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout == "hi\n"


def by_hooks() -> object:
    os.register_at_fork(before=long_enough, after_in_child=long_enough, after_in_parent=long_enough)
    done = subprocess.run(["echo", "hi"], capture_output=True, text=True, check=True)
    return done.stdout == "hi\n"


def by_greenlet() -> object:
    return gevent.spawn(by_fork).get()


def by_greenlet_that_fails() -> object:
    def fork_and_fail() -> int:
        child = os.fork()
        if not child:
            long_enough()
            sys.exit(4)
        return status_of(child)

    return gevent.spawn(fork_and_fail).get() == 4


def by_thread() -> object:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(by_fork_and_exit).result()


def by_native_thread() -> object:
    return gevent.get_hub().threadpool.apply(by_fork_and_exit)


def by_fork_and_exit() -> object:
    child = os.fork()
    if not child:
        long_enough()
        os._exit(subprocess.run(["sh", "-c", "exit 3"], check=False).returncode)
    return status_of(child) == 3


def with_a_lock() -> object:
    """A lock that another greenlet waits for is let go in the child, too."""
    reader, writer = os.pipe()
    lock = threading.Lock()
    lock.acquire()

    def wait_and_write() -> None:
        with lock:
            os.write(writer, b"x")

    waiter = gevent.spawn(wait_and_write)
    gevent.sleep(0)
    child = os.fork()
    lock.release()
    if not child:
        long_enough()
        os._exit(0)
    status = status_of(child)
    waiter.join()
    written = os.read(reader, 10)
    os.close(reader)
    os.close(writer)
    return status == 0 and written == b"x"


WAYS: list[Callable[[], object]] = [
    by_pool,
    by_process,
    by_manager,
    by_fork,
    by_forkpty,
    by_nested_forks,
    by_preexec,
    by_hooks,
    by_greenlet,
    by_greenlet_that_fails,
    by_thread,
    by_native_thread,
    with_a_lock,
]
