"""Cancelling at any moment: racing with start, end, timeout, retry, loss and shutdown."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import Gate, square, wait_until

pytestmark = pytest.mark.every_lane

CONCURRENCY = 5


class Failed(Exception):
    """What calls here raise."""


def quick(n: int) -> int:
    return n


def waits(n: int) -> int:
    time.sleep(n % 7 * 0.005)
    return n


def computes(n: int) -> int:
    deadline = time.monotonic() + n % 5 * 0.005
    while time.monotonic() < deadline:
        pass
    return n


def fails(n: int) -> int:
    raise Failed(n)


def is_late(n: int) -> int:
    time.sleep(60)
    return n


def burns(n: int) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pass
    return n


def cleans_up(n: int) -> int:
    try:
        time.sleep(0.01)
    finally:
        time.sleep(0.005)
    return n


def kills(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


ORDINARY = [quick, waits, computes, fails, is_late, burns, cleans_up]


class Race:
    """Calls of an executor, and threads that cancel them."""

    def __init__(self, executor: HybridExecutor, seed: int, losses: bool) -> None:
        self.executor = executor
        self.random = random.Random(seed)
        self.losses = losses
        self.calls: list[tuple[int, Future[Any]]] = []
        self.cancelled: set[Future[Any]] = set()  # cancel() has returned True
        self.refused: set[Future[Any]] = set()  # cancel() has returned False
        self.ended: dict[Future[Any], int] = {}  # how often the callback was called
        self.done = threading.Event()

    def submit(self, n: int) -> None:
        function = self.random.choice(ORDINARY)
        if self.losses and self.random.random() < 0.02:
            function = kills
        options: dict[str, Any] = {"on_worker_loss": self.random.choice(["retry", "fail"])}
        if function in (is_late, burns) or self.random.random() < 0.3:
            options["timeout"] = self.random.uniform(0.001, 0.03)
        if self.random.random() < 0.5:
            options |= {"retries": self.random.randint(1, 3), "backoff": 0.01}
        future = self.executor.options(**options).submit(function, n)
        future.add_done_callback(self.count)
        self.calls.append((n, future))

    def count(self, future: Future[Any]) -> None:
        self.ended[future] = self.ended.get(future, 0) + 1

    def cancel_now_and_then(self, seed: int) -> None:
        seeded = random.Random(seed)
        while not self.done.is_set():
            if self.calls:
                # The latest are those to which something is just happening.
                back = min(len(self.calls), seeded.choice([1, 5, 30]))
                _, future = self.calls[-seeded.randint(1, back)]
                (self.cancelled if future.cancel() else self.refused).add(future)
            time.sleep(seeded.uniform(0, 0.01))

    def run(self, count: int, cancellers: int = 2, shut_down: bool = False) -> None:
        threads = [
            threading.Thread(target=self.cancel_now_and_then, args=(self.random.random(),))
            for _ in range(cancellers)
        ]
        for thread in threads:
            thread.start()
        try:
            for n in range(count):
                self.submit(n)
                if n % 10 == 0:
                    time.sleep(self.random.uniform(0, 0.03))
            if shut_down:
                self.executor.shutdown(cancel_futures=self.random.random() < 0.5)
            wait([future for _, future in self.calls], timeout=60)
        finally:
            self.done.set()
            for thread in threads:
                thread.join()
        wait_until(lambda: len(self.ended) == len(self.calls))  # callbacks come after the ends
        self.judge()

    def judge(self) -> None:
        assert not self.cancelled & self.refused, "what it says holds for good"
        for n, future in self.calls:
            assert future.done()
            assert self.ended[future] == 1
            if future in self.cancelled:
                with pytest.raises(CancelledError):
                    future.result(timeout=0)
            elif future in self.refused:
                assert not future.cancelled()
            if not future.cancelled():
                error = future.exception(timeout=0)
                assert isinstance(error, Failed | CallTimeout | WorkerLost | None)
                assert error is not None or future.result() == n


def has_all_slots(executor: HybridExecutor, gate: Gate, workers: int) -> None:
    """As many calls as ever run at once."""
    count = workers * CONCURRENCY
    futures = [executor.submit(gate.wait, n) for n in range(count)]
    gate.wait_for(count)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == [*range(count)]
    assert executor.submit(square, 3).result(timeout=30) == 9


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
@pytest.mark.parametrize("seed", [1])
def test_cancelling_at_any_moment(make: Make, gate: Gate, seed: int) -> None:
    executor = make(max_workers=2, concurrency=CONCURRENCY)
    Race(executor, seed, losses=False).run(100)
    has_all_slots(executor, gate, 2)


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
@pytest.mark.parametrize("seed", [3])
def test_cancelling_while_workers_die(make: Make, gate: Gate, seed: int) -> None:
    executor = make(max_workers=2, concurrency=CONCURRENCY)
    Race(executor, seed, losses=True).run(100)
    has_all_slots(executor, gate, 2)


@pytest.mark.parametrize("seed", [4])
def test_cancelling_while_the_executor_shuts_down(make: Make, seed: int) -> None:
    executor = make(max_workers=2, concurrency=CONCURRENCY)
    Race(executor, seed, losses=False).run(60, shut_down=True)
    assert executor.stats().workers == ()


@pytest.mark.slow
@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_cancelling_at_many_moments(make_each: Make, tmp_path: Path) -> None:
    for seed in range(6):
        losses = seed % 2 == 1
        executor = make_each(max_workers=2, concurrency=CONCURRENCY)
        shut_down = seed % 3 == 2
        Race(executor, 100 + seed, losses).run(80, shut_down=shut_down)
        if not shut_down:
            has_all_slots(executor, Gate(tmp_path / str(seed)), 2)
        executor.shutdown()
