"""stats() says what an executor is doing."""

from __future__ import annotations

import pytest

from hybridexec import ExecutorStats

from .conftest import Make
from .helpers import (
    Gate,
    square,
    wait_until,
)

pytestmark = pytest.mark.slow_on("spawn", "fork")


def test_stats_counts_what_runs_waits_and_is_done(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=3)
    assert executor.stats() == ExecutorStats((), 0)
    executor.submit(square, "x").exception()
    executor.submit(square, 2).result()
    calls = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(3)
    stats = wait_until(lambda: (s := executor.stats()).queued == 7 and s)
    assert (stats.running, stats.queued) == (3, 7)
    (worker,) = stats.workers
    assert worker.pid in executor._processes
    assert (worker.state, worker.running, worker.done, worker.failed) == ("ready", 3, 2, 1)
    gate.open()
    assert [call.result(timeout=30) for call in calls] == list(range(10))
    wait_until(lambda: executor.stats().workers[0].done == 12)


def test_stats_shows_a_hub_that_does_not_tick(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    hog = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    wait_until(lambda: executor.stats().workers[0].hub_lag > 0.3)
    gate.open()
    hog.result(timeout=30)
    wait_until(lambda: executor.stats().workers[0].hub_lag < 0.2)


def test_stats_cannot_be_changed(make: Make) -> None:
    stats = make().stats()
    with pytest.raises(AttributeError):
        stats.pending = 3
