"""What the I/O thread must stand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, native
from hybridexec.parent import lifecycle
from hybridexec.parent.launch.launcher import Launcher
from hybridexec.parent.pool.pool import Pool

from .helpers import is_alive, wait_until


def test_a_full_wake_up_pipe_holds_nobody_up() -> None:
    with HybridExecutor(1) as executor:
        executor.submit(abs, -1).result(timeout=30)
        engine = executor._engine
        with engine._lock:  # nobody starts or ends the engine meanwhile
            try:
                while True:
                    os.write(engine._queue._wake_fd, bytes(4096))
            except BlockingIOError:
                pass
            # As it is when the thread has been asked to wake and has not come round to it.
            engine._queue.asleep = True
        futures = [executor.submit(abs, -n) for n in range(100)]
        assert [future.result(timeout=30) for future in futures] == list(range(100))


def test_an_exit_out_of_a_callback_stops_no_delivery() -> None:
    def leave(_: object) -> None:
        raise SystemExit

    with HybridExecutor(1) as executor:
        first = executor.submit(abs, -1)
        first.add_done_callback(leave)
        assert first.result(timeout=30) == 1
        assert executor.submit(abs, -2).result(timeout=30) == 2


def test_workers_start_where_threads_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    start_thread = native.start_thread

    def only_the_io_thread(target: Callable[[], None], name: str) -> None:
        if name == "hybridexec-start":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start_thread(target, name)

    monkeypatch.setattr(native, "start_thread", only_the_io_thread)
    with HybridExecutor(2, concurrency=1) as executor:
        assert list(executor.map(abs, range(-8, 0), timeout=30)) == list(range(8, 0, -1))


def test_workers_that_cannot_be_started_break_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(Launcher, "start", refuse)
    with HybridExecutor(2) as executor:
        future = executor.submit(abs, -1)
        error = future.exception(timeout=30)
        assert isinstance(error, ExecutorBroken)
        assert "Resource temporarily unavailable" in str(error)
        with pytest.raises(ExecutorBroken):
            executor.submit(abs, -1)


def test_an_executor_whose_io_thread_cannot_be_started_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(target: Callable[[], None], name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(native, "start_thread", refuse)
    with HybridExecutor(1) as executor:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            executor.submit(abs, -1)
        with pytest.raises(ExecutorBroken, match="can't start new thread"):
            executor.submit(abs, -1)


def test_a_fault_that_comes_again_on_the_way_out_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    descriptors = set(lifecycle._descriptors)
    executor = HybridExecutor(1)
    executor.submit(abs, -1).result(timeout=30)
    engine = executor._engine
    pids = list(executor._processes)
    died = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: died.set())

    def fail(self: Pool, now: float) -> None:
        engine._queue.post(lambda: None)  # there is something to see to before the thread may end
        raise ZeroDivisionError

    monkeypatch.setattr(Pool, "dispatch", fail)
    call = executor.submit(time.sleep, 60)
    engine._queue.post(lambda: None)  # its caller may have sent it
    assert isinstance(call.exception(timeout=30), ExecutorBroken)
    assert died.wait(30)
    assert engine.ended.is_set()
    assert lifecycle._descriptors <= descriptors
    wait_until(lambda: not any(map(is_alive, pids)))
