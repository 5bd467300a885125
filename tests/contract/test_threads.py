"""Threads in calls end, wherever their class comes from: with "fork", from before patching."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from threading import Thread, Timer

import gevent
import pytest

from hybridexec import native

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


def hold(lock: threading.Lock, held: list[None]) -> None:
    """Keep a lock, in a thread that the hub knows nothing of, until a greenlet waits for it."""
    with lock:
        held.append(None)
        native.sleep(0.1)


def wait_for(lock: threading.Lock) -> str:
    held: list[None] = []
    thread = gevent.get_hub().threadpool.spawn(hold, lock, held)
    wait_until(lambda: held)
    with lock:
        pass
    thread.get()
    return "got it"


def wait_for_a_condition() -> str:
    """The native thread releases the lock while it waits to be told."""
    condition = threading.Condition()

    def be_told() -> bool:
        with condition:
            held.append(None)
            native.sleep(0.1)
            return condition.wait(30)

    held: list[None] = []
    thread = gevent.get_hub().threadpool.spawn(be_told)
    wait_until(lambda: held)
    with condition:
        condition.notify()
    return "got it" if thread.get() else "was not told"


def wait_for_a_module(folder: Path) -> str:
    """Both import it, the native thread first."""
    name = f"slow_{uuid.uuid4().hex}"
    (folder / f"{name}.py").write_text(
        "from hybridexec import native\nnative.sleep(0.1)\ntext = 'got it'\n", "utf-8"
    )
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        thread = gevent.get_hub().threadpool.spawn(importlib.import_module, name)
        wait_until(lambda: name in sys.modules)
        text: str = importlib.import_module(name).text
        thread.get()
        return text
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: wait_for(threading.Lock()),
        lambda folder: wait_for(threading.RLock()),  # type: ignore[arg-type]  # it acts as one
        lambda folder: wait_for_a_condition(),
        wait_for_a_module,
    ],
    ids=["lock", "rlock", "condition", "module"],
)
def test_what_a_native_thread_releases_is_had(
    make_each: Make, tmp_path: Path, call: Callable[[Path], str]
) -> None:
    executor = make_each(max_workers=1, concurrency=20)
    calls = [executor.submit(call, tmp_path) for _ in range(2)]
    assert [future.result(timeout=30) for future in calls] == ["got it"] * 2
