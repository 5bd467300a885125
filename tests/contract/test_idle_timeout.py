"""Workers that have had no calls for ``idle_timeout`` seconds end, and nobody notices."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import pytest

from hybridexec import HybridExecutor, events

from .conftest import Make
from .helpers import Gate, identity, is_alive, pid_of, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


def test_an_idle_worker_ends_and_the_next_call_starts_another(make_each: Make) -> None:
    told: list[Any] = []
    executor = make_each(max_workers=1, idle_timeout=0.2)
    executor.observe(told.append, events=[events.WorkerRecycled, events.WorkerEnded])
    first = executor.submit(pid_of).result(timeout=30)
    wait_until(lambda: not executor.stats().workers and not is_alive(first))
    assert executor.stats().idle_ends == 1
    assert executor.stats().restarts == 0
    second = executor.submit(pid_of).result(timeout=30)
    assert second != first
    wait_until(lambda: len(told) >= 2)
    recycled, ended = told[:2]
    assert (recycled.pid, recycled.cause) == (first, "idle_timeout")
    assert (ended.pid, ended.lost) == (first, False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.this_machine("Dask's client opens connections when it likes")
def test_its_descriptors_are_free_again(make: Make) -> None:
    executor = make(max_workers=1, idle_timeout=0.1)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def end_idle() -> None:
        executor.submit(pid_of).result(timeout=30)
        wait_until(lambda: not executor.stats().workers)

    end_idle()
    before = descriptors()
    for _ in range(2):
        end_idle()
        # The last is closed after that; and what other tests have left may be collected now.
        wait_until(lambda: descriptors() <= before)


def test_a_call_that_is_long_keeps_its_worker(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, idle_timeout=0.02)
    long = executor.submit(gate.wait, "long")
    gate.wait_for(1)
    time.sleep(0.2)
    assert executor.stats().idle_ends == 0
    gate.open()
    assert long.result(timeout=30) == "long"


@pytest.mark.slow
def test_no_call_is_lost_that_comes_while_a_worker_is_about_to_end(make: Make) -> None:
    executor = make(max_workers=2, idle_timeout=0.02)
    futures = []
    for number in range(100):
        futures.append(executor.submit(identity, number))
        # Sometimes just before, sometimes just after.
        time.sleep(0.015 + 0.01 * (number % 10) / 10)
    assert [future.result(timeout=30) for future in futures] == list(range(100))
    assert executor.stats().idle_ends > 1


@pytest.mark.slow
def test_nor_any_of_those_that_come_from_many_threads(make: Make) -> None:
    executor = make(max_workers=2, idle_timeout=0.01, concurrency=1)
    got: list[int] = []

    def call(many: int) -> None:
        for number in range(many):
            got.append(executor.submit(identity, number).result(timeout=30))
            time.sleep(0.01 * (number % 4))

    threads = [threading.Thread(target=call, args=(40,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(list(range(40)) * 4)


def test_an_executor_whose_workers_have_ended_shuts_down(make: Make) -> None:
    executor = make(max_workers=1, idle_timeout=0.05)
    executor.submit(pid_of).result(timeout=30)
    wait_until(lambda: not executor.stats().workers)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pid_of)


@pytest.mark.parametrize("wrong", [0, -1, True, "10 s", float("nan"), float("inf")])
def test_the_seconds_are_checked(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="idle_timeout"):
        HybridExecutor(1, idle_timeout=wrong)


async def pid_of_loop() -> int:
    return os.getpid()


def test_each_lane_has_a_clock_of_its_own(make: Make) -> None:
    executor = make(max_workers=1, idle_timeout=0.3, nice=1)
    first = executor.submit(pid_of_loop).result(timeout=60)
    other = executor.options(lane="thread").submit(pid_of).result(timeout=60)
    assert os.getpriority(os.PRIO_PROCESS, 0) + 1 == executor.submit(
        os.getpriority, os.PRIO_PROCESS, 0
    ).result(timeout=60)
    wait_until(lambda: not executor.stats().workers)
    assert not is_alive(first)
    assert not is_alive(other)
    assert executor.submit(pid_of_loop).result(timeout=60) != first
    assert executor.stats().idle_ends >= 3
