"""Executors that end because of Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from hybridexec.parent import lifecycle

from .conftest import Make
from .helpers import Gate, is_alive, run_script, square, wait_until


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, what is interrupted ends by itself."""
    monkeypatch.setattr(lifecycle, "PATIENCE", 30.0)


@pytest.mark.usefixtures("patient")
def test_an_interrupted_block_cancels_its_calls(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=2)
    before = executor.submit(square, 2)
    calls = [executor.submit(gate.wait, n) for n in range(10)]
    results = executor.map(gate.wait, range(10, 20))
    gate.wait_for(2)
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert before.result(timeout=0) == 4
    assert all(call.cancelled() for call in calls)
    with pytest.raises(CancelledError):
        next(results)
    assert executor.stats().workers == ()
    assert len(gate.arrived) == 2


def test_an_interrupted_block_of_a_view_cancels_its_calls(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    view = executor.options(timeout=60)
    call = view.submit(gate.wait, 1)
    gate.wait_for(1)
    with pytest.raises(KeyboardInterrupt), view:
        raise KeyboardInterrupt
    assert call.cancelled()


def cleaning_up(gate: Gate, path: Path) -> None:
    try:
        gate.wait("a")
    finally:
        path.touch()


@pytest.mark.usefixtures("patient")
def test_interrupted_calls_clean_up(make: Make, gate: Gate, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    executor.submit(cleaning_up, gate, tmp_path / "clean")
    gate.wait_for(1)
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert (tmp_path / "clean").exists()


def test_an_interrupted_block_kills_workers_that_do_not_end(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1)
    hog = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    (pid,) = executor._processes
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert hog.cancelled()
    wait_until(lambda: not is_alive(pid))


@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
def test_a_block_that_ends_otherwise_waits_for_its_calls(
    make: Make, gate: Gate, kind: type[BaseException]
) -> None:
    executor = make(max_workers=1)
    opener = threading.Timer(0.1, gate.open)
    call = executor.submit(gate.wait, 1)
    opener.start()
    with pytest.raises(kind), executor:
        raise kind
    assert call.result(timeout=0) == 1


def test_asyncio_cancels_its_main_task_because_of_an_interrupt() -> None:
    # The name is asyncio's own; if it goes, this says so.
    seen = []

    async def main() -> None:
        try:
            seen.append(lifecycle.is_interrupt(asyncio.CancelledError))
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(30)
        finally:
            seen.append(lifecycle.is_interrupt(asyncio.CancelledError))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [False, True]


MASKED = """
import multiprocessing, signal
from multiprocessing import util
from hybridexec import HybridExecutor

start = util.spawnv_passfds

def spy(path, arguments, descriptors):
    if any("spawn_main" in str(argument) for argument in arguments):
        print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
    return start(path, arguments, descriptors)

if __name__ == "__main__":
    util.spawnv_passfds = spy
    with HybridExecutor(1, multiprocessing.get_context("spawn")) as executor:
        executor.submit(pow, 2, 3).result()
"""


def test_ctrl_c_cannot_hit_a_worker_before_it_can_ignore_it(tmp_path: Path) -> None:
    # The first start of all starts the resource tracker, too, which unblocks the signal.
    assert run_script(tmp_path / "script.py", MASKED).stdout == "True\n"
