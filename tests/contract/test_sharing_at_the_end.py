"""multiprocessing's locks and queues when a worker ends, or is forked because of them."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.util
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import PATIENCE, is_alive, pid_of, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


_tools: Any


def keep_tools(tools: Any) -> None:
    global _tools
    _tools = tools


def take_lock() -> bool:
    with _tools:
        return True


def keep_and_tell(tools: Any, file: str) -> None:
    """An initializer: when a worker ends, the file is there before the queues' threads are joined,
    after they were told to end."""
    keep_tools(tools)
    multiprocessing.util.Finalize(None, Path(file).touch, exitpriority=1)


def put_one(item: int) -> None:
    _tools.put(item)


def test_a_worker_that_ends_waits_until_it_can_write_what_calls_put(
    method: str, tmp_path: Path
) -> None:
    """Another process may be at it: the lock is free, and everything there, when it has written."""
    context = multiprocessing.get_context(method)
    queue: Any = context.Queue()
    arguments = (queue, str(tmp_path / "ends"))
    executor = HybridExecutor(1, context, initializer=keep_and_tell, initargs=arguments)
    pid = executor.submit(pid_of).result(timeout=PATIENCE)
    with queue._wlock:
        assert list(executor.map(put_one, range(10), timeout=PATIENCE)) == [None] * 10
        executor.shutdown(wait=False)
        wait_until((tmp_path / "ends").exists)
        # Time for it to end, which it must not.
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and is_alive(pid):
            time.sleep(0.01)
        assert is_alive(pid)
    assert {queue.get(timeout=PATIENCE) for _ in range(10)} == set(range(10))
    wait_until(lambda: not is_alive(pid))
    assert queue._wlock.acquire(timeout=PATIENCE)
    queue._wlock.release()


def give_back_at_the_end(lock: Any) -> None:
    """An initializer: the last thing the process does is to give a permit back. No thread of its
    own gets the GIL after that, whatever it was waiting for in C."""
    keep_tools(lock)

    def give_back_and_die() -> None:
        sys.setswitchinterval(PATIENCE)
        with_gil = ctypes.PyDLL(None)
        with_gil.sem_post(ctypes.c_void_p(lock._semlock.handle))
        with_gil.usleep(100_000)
        with_gil._exit(0)

    multiprocessing.util.Finalize(None, give_back_and_die, exitpriority=-1000)


def take_until_stopped(started: str) -> None:
    Path(started).touch()
    with _tools:
        pass


@pytest.mark.slow
def test_a_worker_that_ends_takes_no_permit_along_that_nobody_waits_for(
    method: str, tmp_path: Path
) -> None:
    """A thread may be waiting for one in C, for a call that was stopped just now."""
    context = multiprocessing.get_context(method)
    lock = context.Lock()
    executor = HybridExecutor(1, context, initializer=give_back_at_the_end, initargs=(lock,))
    assert lock.acquire()
    call = executor.submit(take_until_stopped, str(tmp_path / "started"))
    wait_until((tmp_path / "started").exists)
    call.cancel()
    executor.shutdown()
    assert lock.acquire(timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 14), reason='"fork" is not the default any more')
def test_a_lock_that_makes_workers_fork_is_warned_of_and_others_are_not(make: Make) -> None:
    for method, text in (("fork", "get_context\\('spawn'\\)"), ("spawn", None)):
        lock = multiprocessing.get_context(method).Lock()
        with pytest.warns() if text is None else pytest.warns(RuntimeWarning, match=text) as seen:
            executor = make(max_workers=1, initializer=keep_tools, initargs=(lock,))
            warnings.warn("the last", stacklevel=1)
        assert len(seen) == (1 if text is None else 2)
        assert executor.submit(take_lock).result(timeout=PATIENCE)
