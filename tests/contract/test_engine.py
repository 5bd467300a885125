"""What the I/O thread must stand."""

from __future__ import annotations

import os

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, native


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


def test_workers_that_cannot_be_started_break_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    start_thread = native.start_thread

    def only_the_io_thread(target: object, name: str) -> None:
        if name == "hybridexec-start":
            raise RuntimeError("can't start new thread")
        start_thread(target, name)  # type: ignore[arg-type]

    monkeypatch.setattr(native, "start_thread", only_the_io_thread)
    with HybridExecutor(2) as executor:
        future = executor.submit(abs, -1)
        error = future.exception(timeout=30)
        assert isinstance(error, ExecutorBroken)
        assert "can't start new thread" in str(error)
        with pytest.raises(ExecutorBroken):
            executor.submit(abs, -1)
