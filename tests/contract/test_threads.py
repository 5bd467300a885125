"""Threads in calls end, wherever their class comes from: with "fork", from before patching."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Thread, Timer

import pytest

from .conftest import Make
from .helpers import square, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


class Noting(Thread):
    """Derived from what was ``Thread`` when this module was imported."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self._notes = notes

    def run(self) -> None:
        time.sleep(0.01)
        self._notes.append("derived")


class Failing(Thread):
    def run(self) -> None:
        raise SystemExit


def join_each() -> tuple[list[str], list[bool]]:
    notes: list[str] = []
    threads = [
        Thread(target=notes.append, args=("plain",)),
        Thread(target=notes.append, args=("daemon",), daemon=True),
        Timer(0.01, notes.append, ("timer",)),
        Noting(notes),
        Failing(),
        threading.Thread(target=notes.append, args=("new",)),
        threading.Timer(0.01, notes.append, ("new timer",)),
    ]
    for thread in threads:
        thread.start()
        thread.join(30)
    return sorted(notes), [thread.is_alive() for thread in threads]


def end_unjoined() -> bool:
    thread = Noting([])
    thread.start()
    return bool(wait_until(lambda: not thread.is_alive()))


def stay_alive() -> list[bool]:
    """A join that times out leaves a thread alive, and several may join it."""
    go, joined = threading.Event(), []
    thread = Thread(target=go.wait, args=(30,))
    thread.start()
    thread.join(0.01)
    joiners = [Thread(target=lambda: joined.append(thread.join(30))) for _ in range(3)]
    for joiner in joiners:
        joiner.start()
    before = thread.is_alive()
    go.set()
    for joiner in joiners:
        joiner.join(30)
    return [before, thread.is_alive(), len(joined) == 3]


def fork_in_a_thread() -> int:
    """The child starts a thread of its own, joins it, and ends."""
    pids: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid:
            pids.append(pid)
            return
        notes: list[str] = []
        thread = Noting(notes)
        thread.start()
        thread.join(30)
        os._exit(3 if notes and not thread.is_alive() else 4)

    thread = Thread(target=fork)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])


def map_in_threads() -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(square, range(6)))


def map_in_processes() -> list[int]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(square, range(6)))


SQUARES = [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (join_each, (["daemon", "derived", "new", "new timer", "plain", "timer"], [False] * 7)),
        (end_unjoined, True),
        (stay_alive, [True, False, True]),
        (fork_in_a_thread, 3),
        (map_in_threads, SQUARES),
        (map_in_processes, SQUARES),
    ],
)
@pytest.mark.parametrize("concurrency", [1, 20])
def test_threads_end(
    make_each: Make, call: Callable[[], object], expected: object, concurrency: int
) -> None:
    executor = make_each(max_workers=1, concurrency=concurrency)
    calls = [executor.submit(call) for _ in range(2)]
    assert [future.result(timeout=120) for future in calls] == [expected] * 2
