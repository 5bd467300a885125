"""A call whose time is up, or that is cancelled, harms nobody else, and leaves nothing behind."""

from __future__ import annotations

import io
import logging
import random
import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import PATIENCE, Gate, pid_of, square
from .stopped_calls import (
    LONG,
    SOON,
    TIMEOUT,
    burn,
    burn_and_wait_while_cleaning_up,
    clean_up,
    swallow,
    times_out,
)

pytestmark = pytest.mark.on_cluster


def test_cancelling_a_call_that_keeps_the_cpu_frees_its_slot(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    pid = executor.submit(pid_of).result(timeout=30)
    future = executor.submit(burn, gate)
    gate.wait_for(1)
    assert future.cancel()
    assert executor.submit(pid_of).result(timeout=SOON) == pid


def test_a_cancelled_call_that_kept_the_cpu_is_left_alone_while_it_cleans_up(
    make: Make, gate: Gate, tmp_path: Path
) -> None:
    cleaned = Gate(tmp_path / "cleaned")
    executor = make(max_workers=1, concurrency=1)
    future = executor.submit(burn_and_wait_while_cleaning_up, gate, cleaned)
    gate.wait_for(1)
    assert future.cancel()
    executor.submit(pid_of).result(timeout=SOON)
    assert cleaned.arrived == ["cleaned"]


LOCK, SEMAPHORE = threading.Lock(), threading.Semaphore()


LOGGER = logging.getLogger("test_deadlines")


def take_locks(way: str) -> None:
    """Take and give back locks for ever, in one way."""
    LOGGER.propagate = False
    LOGGER.handlers = [logging.StreamHandler(io.StringIO())]
    while True:
        if way == "logging":
            LOGGER.error("x")
        elif way == "semaphore":
            with SEMAPHORE:
                pass
        else:
            LOCK.acquire()
            try:
                pass
            finally:
                LOCK.release()


def free_locks() -> list[bool]:
    """Whether each lock can be had, by another thread than this."""
    locks: list[Any] = [LOCK, SEMAPHORE, logging._lock, *(h.lock for h in LOGGER.handlers)]
    taken: list[bool] = []

    def take() -> None:
        for lock in locks:
            taken.append(lock.acquire(timeout=5))
            if taken[-1]:
                lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("way", ["logging", "semaphore", "by hand"])
def test_a_stopped_call_leaves_no_lock_taken(make: Make, way: str) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    for n in range(6):
        late = executor.options(timeout=0.003 + n / 500).submit(take_locks, way)
        assert isinstance(late.exception(timeout=30), CallTimeout)
        assert set(executor.submit(free_locks).result(timeout=30)) == {True}
    assert executor.submit(pid_of).result(timeout=30) == pid


@pytest.mark.parametrize(
    ("function", "code"), [(eval, "sum(n for n in range(10**12))"), (exec, "while True: pass")]
)
def test_what_c_functions_run_is_interrupted(make: Make, function: Any, code: str) -> None:
    executor = make(max_workers=1, timeout_grace=PATIENCE)
    pid = executor.submit(pid_of).result(timeout=30)
    times_out(executor.options(timeout=TIMEOUT).submit(function, code))
    assert executor.submit(pid_of).result(timeout=30) == pid


PER_THREAD = threading.local()


def keep_and_wait() -> None:
    PER_THREAD.kept = "half done"
    time.sleep(LONG)


def kept() -> str | None:
    return getattr(PER_THREAD, "kept", None)


def test_what_a_stopped_call_kept_per_thread_is_seen_by_no_other(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    times_out(executor.options(timeout=TIMEOUT).submit(keep_and_wait))
    assert executor.submit(kept).result(timeout=30) is None


def test_a_call_whose_time_was_up_can_still_be_cancelled(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1, timeout_grace=SOON)
    pid = executor.submit(pid_of).result(timeout=30)
    future = executor.options(timeout=TIMEOUT).submit(clean_up, gate, LONG)
    gate.wait_for(1)
    assert future.cancel()
    assert executor.submit(pid_of).result(timeout=SOON) == pid


def test_shutdown_ends_when_the_deadlines_have(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, timeout_grace=0.3)
    futures = [executor.options(timeout=TIMEOUT).submit(f, gate) for f in (burn, swallow)]
    began = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - began < SOON
    assert [type(future.exception(timeout=0)) for future in futures] == [CallTimeout] * 2


# -- nobody else is hit -----------------------------------------------------------------------


def sleep_in_steps(n: int) -> tuple[int, list[str]]:
    """What else is raised here, if anything."""
    caught = []
    for _ in range(20):
        try:
            time.sleep(0.01)
        except BaseException as error:
            caught.append(repr(error))
    return n, caught


def compute_in_steps(n: int) -> tuple[int, list[str]]:
    caught = []
    for _ in range(5):
        try:
            burn(seconds=0.002)
        except BaseException as error:
            caught.append(repr(error))
        time.sleep(0)
    return n, caught


def stress(executor: HybridExecutor, count: int) -> None:
    seeded = random.Random(count)
    siblings: list[tuple[int, Future[Any]]] = []
    burning: list[Future[Any]] = []
    for n in range(count):
        function = seeded.choice([sleep_in_steps, compute_in_steps])
        siblings.append((n, executor.submit(function, n)))
        siblings.append((n * n, executor.submit(square, n)))
        if n % 4 == 0:
            timeout = seeded.uniform(0.001, 0.02)
            burning.append(executor.options(timeout=timeout).submit(burn))
        if n % 8 == 1:
            burning.append(executor.submit(burn))
            time.sleep(seeded.uniform(0, 0.01))
            burning[-1].cancel()
    wait([future for _, future in siblings] + burning, timeout=100)
    for n, future in siblings:
        assert future.result(timeout=0) in (n, (n, []))
    for future in burning:
        assert future.cancelled() or isinstance(future.exception(timeout=0), CallTimeout | None)


def test_nothing_is_raised_in_a_sibling(make: Make) -> None:
    # On a machine that is very busy a deadline may cost its worker all the same.
    executor = make(max_workers=2, concurrency=20, timeout_grace=1.5, on_worker_loss="retry")
    stress(executor, 16)


@pytest.mark.slow
def test_nothing_is_raised_in_a_sibling_under_load(make: Make) -> None:
    # On a machine that is very busy a deadline may cost its worker all the same.
    executor = make(max_workers=2, concurrency=20, timeout_grace=1.5, on_worker_loss="retry")
    stress(executor, 200)


# -- what cannot be cut short ---------------------------------------------------------------------

_condition = threading.Condition()


def keep_condition(gate: Gate) -> str:
    with _condition:
        gate.arrive("keeper")
        time.sleep(LONG)
    return "kept"


def wait_for_condition(waiting: Gate) -> None:
    with _condition:
        waiting.arrive("waiter")
        _condition.wait()


@pytest.mark.slow
def test_a_condition_whose_lock_never_comes_back_costs_the_worker_when_the_grace_is_over(
    make: Make, tmp_path: Path
) -> None:
    """The call would go on without what it thinks it has."""
    waiting, kept = Gate(tmp_path / "waiting"), Gate(tmp_path / "kept")
    executor = make(max_workers=1)
    waiter = executor.options(timeout=3).submit(wait_for_condition, waiting)
    waiting.wait_for(1)
    keeper = executor.submit(keep_condition, kept)
    kept.wait_for(1)
    assert isinstance(waiter.exception(timeout=SOON), CallTimeout)
    assert isinstance(keeper.exception(timeout=SOON), WorkerLost)
    assert executor.submit(square, 3).result(timeout=SOON) == 9
