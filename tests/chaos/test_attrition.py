"""A long run of calls while a worker is killed every 200 ms."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path

import pytest

from hybridexec import HybridExecutor, WorkerLost
from hybridexec.options import OnWorkerLoss

from . import calls, conftest

CALLS = 20_000
PERIOD = 0.2
#: Seconds in which all calls must have ended.
BOUND = 200.0
#: Seconds after which no more workers are killed: a busy machine hardly starts them as quickly.
ATTRITION = 60.0


class Killer:
    """Kills a random worker of ``executor`` each ``PERIOD`` until told to stop, or long enough."""

    def __init__(self, executor: HybridExecutor) -> None:
        self._executor = executor
        self._rng = random.Random(conftest.SEED)
        self._over = threading.Event()
        self.killed: set[int] = set()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        end = time.monotonic() + ATTRITION
        while time.monotonic() < end and not self._over.wait(PERIOD):
            workers = self._executor.stats().workers
            ready = [worker.pid for worker in workers if worker.pid and worker.state == "ready"]
            if ready:
                pid = self._rng.choice(ready)
                self.killed.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def ended(
    method: str, mode: OnWorkerLoss, tmp_path: Path, nothing_left: Callable[[], None]
) -> tuple[list[Future[int]], set[int]]:
    """20,000 calls that have ended, and the pids of the workers that were killed meanwhile."""
    print(f"seed {conftest.SEED}, {method}, {mode}", flush=True)
    delivered: Counter[int] = Counter()
    rng = random.Random(conftest.SEED)
    context = multiprocessing.get_context(method)
    with HybridExecutor(
        2,
        context,
        calls.arm,
        (str(tmp_path),),
        on_worker_loss=mode,
    ) as executor:
        killer = Killer(executor)
        try:
            futures = []
            for call in range(CALLS):
                future = executor.submit(calls.nap, call, rng.uniform(0, 0.05))
                future.add_done_callback(lambda _, call=call: delivered.update([call]))
                futures.append(future)
            unfinished = wait(futures, BOUND).not_done
            assert not unfinished, f"{len(unfinished)} have not ended; {executor.stats()}"
        finally:
            killer.stop()
    assert delivered == Counter(range(CALLS))
    assert len(killer.killed) >= 3, "that was no attrition"
    return futures, killer.killed


@pytest.mark.slow
@pytest.mark.timeout(BOUND + 60)
def test_each_call_is_right_or_lost_with_its_worker(
    ended: tuple[list[Future[int]], set[int]], mode: OnWorkerLoss, tmp_path: Path
) -> None:
    futures, killed = ended
    runs = calls.runs_noted(tmp_path)
    lost: Counter[int | None] = Counter()
    in_flight: dict[int | None, int] = {}
    for call, future in enumerate(futures):
        error = future.exception()
        ran = runs.get(call, [])
        assert len(ran) <= 1 or mode == "retry", f"call {call} ran in {ran}"
        if error is None:
            assert future.result() == call * 7
            assert ran
            continue
        assert isinstance(error, WorkerLost), f"call {call}: {error!r}"
        assert error.pid in killed
        assert set(ran) <= {error.pid}
        lost[error.pid] += 1
        in_flight[error.pid] = error.in_flight
    if mode == "retry":
        assert not lost
    else:  # exactly those that were in flight, and each of them
        assert lost == in_flight
