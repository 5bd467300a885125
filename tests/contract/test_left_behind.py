"""Nothing is left of executors that have ended."""

from __future__ import annotations

import gc
import os
from multiprocessing import util
from typing import Any

import pytest

from hybridexec import WorkerLost

from .conftest import make_executor
from .ends import die, fail_initializing, workers_of
from .helpers import (
    square,
    wait_until,
)

pytestmark = pytest.mark.slow_on("spawn", "fork")


def belongings() -> tuple[set[Any], ...]:
    """Processes, threads, descriptors, shared memory and finalizers of this process now."""
    descriptors = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:  # the listing's own
            continue
    processes = {process.pid for process in workers_of()}
    with open("/proc/self/maps") as maps:
        shared = {line.split()[0] for line in maps if "/memfd:" in line or "/dev/shm" in line}
    finalizers = set(util._finalizer_registry)  # type: ignore[attr-defined]
    return processes, set(os.listdir("/proc/self/task")), descriptors, shared, finalizers


def assert_nothing_more_than(before: tuple[set[Any], ...]) -> None:
    wait_until(
        lambda: all(now <= then for now, then in zip(belongings(), before, strict=True)),
        f"left behind: {[now - then for now, then in zip(belongings(), before, strict=True)]}",
        patience=10,
    )


@pytest.fixture
def before(method: str | None) -> Any:
    with make_executor(method) as warm_up:  # modules and the resource tracker stay
        warm_up.submit(square, 1).result()
    gc.collect()
    try:
        wait_until(lambda: not workers_of())
    except AssertionError:
        left = [(child.pid, child.status(), child.cmdline()) for child in workers_of()]
        pytest.fail(f"an earlier test has left {left}")
    return belongings()


def test_nothing_is_left_after_shutdown(before: Any, method: str | None) -> None:
    executor = make_executor(method)
    list(executor.map(square, range(1_000)))
    executor.shutdown()
    assert_nothing_more_than(before)


@pytest.mark.slow
def test_nothing_is_left_after_many_executors(before: Any, method: str | None) -> None:
    for n in range(6):
        with make_executor(method, max_workers=1) as executor:
            assert executor.submit(square, n).result() == n * n
    assert_nothing_more_than(before)


def test_nothing_is_left_of_killed_workers(before: Any, method: str | None) -> None:
    with make_executor(method) as executor:
        for _ in range(3):
            assert isinstance(executor.submit(die, "kill").exception(timeout=30), WorkerLost)
    assert_nothing_more_than(before)


def test_nothing_is_left_of_a_broken_executor(before: Any, method: str | None) -> None:
    executor = make_executor(method, initializer=fail_initializing)
    assert executor.submit(square, 1).exception(timeout=30) is not None
    executor.shutdown()
    assert_nothing_more_than(before)


def test_nothing_is_left_of_a_forgotten_executor(before: Any, method: str | None) -> None:
    executor = make_executor(method)
    assert executor.submit(square, 2).result() == 4
    del executor
    gc.collect()
    assert_nothing_more_than(before)
