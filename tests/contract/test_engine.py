"""What the I/O thread must stand."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, native
from hybridexec.parent.launch import Launcher


def test_a_full_wake_up_pipe_holds_nobody_up() -> None:
    with HybridExecutor(1) as executor:
        executor.submit(abs, -1).result(timeout=30)
        engine = executor._engine
        with engine._lock:  # nobody starts or ends the engine meanwhile
            try:
                while True:
                    os.write(engine._wake_write, bytes(4096))
            except BlockingIOError:
                pass
            # As it is when the thread has been asked to wake and has not come round to it.
            engine._asleep = True
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
