"""stats() says what an executor is doing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from hybridexec import ExecutorStats, WorkerLost

from .conftest import Make
from .helpers import (
    Gate,
    is_alive,
    square,
    wait_until,
)

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


def test_stats_counts_what_runs_waits_and_is_done(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=3)
    assert dataclasses.replace(executor.stats(), nodes=()) == ExecutorStats((), 0)
    executor.submit(square, "x").exception()
    executor.submit(square, 2).result()
    calls = [executor.submit(gate.wait, n) for n in range(10)]
    gate.wait_for(3)
    stats = wait_until(lambda: (s := executor.stats()).queued == 7 and s)
    assert (stats.running, stats.queued) == (3, 7)
    (worker,) = stats.workers
    assert is_alive(worker.pid)
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


def test_stats_counts_every_way_to_end(make: Make, gate: Gate, tmp_path: Path) -> None:
    executor = make(max_workers=1, concurrency=20)
    assert list(executor.map(square, range(1000), chunksize=100)) == [n * n for n in range(1000)]
    assert [executor.submit(square, {}).exception() is None for _ in range(3)] == [False] * 3
    trying = executor.options(retries=1, backoff=0.0)
    assert trying.submit(fail_at_first, str(tmp_path / "tries")).result(timeout=30) == 1
    assert executor.options(timeout=0.05).submit(gate.wait, "late").exception(timeout=30)
    unwanted = executor.submit(gate.wait, "unwanted")
    wait_until(lambda: "unwanted" in gate.arrived)
    assert unwanted.cancel()
    doomed = executor.submit(gate.wait, "doomed")
    wait_until(doomed.running)
    stats = wait_until(lambda: (s := executor.stats()).cancelled and s)
    pid = stats.workers[0].pid
    os.kill(pid, signal.SIGKILL)
    assert isinstance(doomed.exception(timeout=30), WorkerLost)
    assert executor.submit(square, 2).result(timeout=30) == 4
    stats = executor.stats()
    assert stats.submitted == 1000 + 3 + 1 + 3 + 1
    assert (stats.finished, stats.failed, stats.retried) == (1000 + 1 + 1, 3, 1)
    assert (stats.timed_out, stats.cancelled, stats.lost) == (1, 1, 1)
    assert stats.calls_per_second > 0
    assert stats.restarts == 1
    (restart,) = stats.last_restarts
    assert (restart.pid, "SIGKILL" in restart.cause) == (pid, True)
    assert 0 <= restart.age < 30


def test_stats_counts_what_recycled_workers_have_done(make: Make) -> None:
    executor = make(max_workers=1, max_tasks_per_child=2)
    for _ in range(5):
        executor.submit(time.sleep, 0.05).result(timeout=30)
    stats = executor.stats()
    assert stats.finished == 5
    wait_until(lambda: executor.stats().run_seconds.count == 5)
    assert 0.04 < executor.stats().run_seconds.p50 < 5
    wait_until(lambda: executor.stats().restarts == 2)
    assert {each.cause for each in executor.stats().last_restarts} == {"max_tasks_per_child"}


def test_stats_tells_how_long_calls_run_and_wait(make: Make) -> None:
    executor = make(max_workers=1, concurrency=2)
    list(executor.map(time.sleep, [0.2] * 6))
    stats = wait_until(lambda: (s := executor.stats()).run_seconds.count == 6 and s)
    assert 0.18 < stats.run_seconds.p50 <= stats.run_seconds.p99 <= stats.run_seconds.max < 5
    assert stats.wait_seconds.max > 0.35, "the last two waited for four others"
    assert 0.18 < stats.run_seconds.mean <= stats.run_seconds.max


def test_stats_names_the_slowest_calls(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2, concurrency=20)
    calls = [executor.submit(gate.wait, number) for number in range(12)]
    gate.wait_for(12)
    stats = wait_until(lambda: len((s := executor.stats()).slowest) == 10 and s)
    assert [each.seconds for each in stats.slowest] == sorted(
        (each.seconds for each in stats.slowest), reverse=True
    )
    gate.open()
    assert [call.result(timeout=30) for call in calls] == list(range(12))
    wait_until(lambda: not executor.stats().slowest)
    executor.submit(time.sleep, 5.0)
    (slow,) = wait_until(lambda: executor.stats().slowest)
    assert slow.call == "sleep(5.0)"
    executor.cancel_all()


class Unprintable:
    """As a query is that asks its database when it is printed."""

    asked: ClassVar[list[str]] = []

    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        self.asked.append(threading.current_thread().name)
        raise OSError("no database")


def wait(argument: Unprintable, gate: Gate) -> object:
    return gate.wait(argument.number)


def test_arguments_are_printed_for_who_asks_only(make: Make, gate: Gate) -> None:
    Unprintable.asked.clear()
    executor = make(max_workers=1)
    calls = [executor.submit(wait, Unprintable(number), gate) for number in range(3)]
    gate.wait_for(3)
    history = executor._assembly.watched.history()
    assert not Unprintable.asked, "what the I/O thread does now and then"
    wait_until(lambda: len(history.slowest()) == 3)
    for told in (history.slowest(), executor.stats().slowest):
        assert [each.call.partition(",")[0] for each in told] == ["wait(..."] * 3
    assert set(Unprintable.asked) == {threading.current_thread().name}
    gate.open()
    assert [call.result(timeout=30) for call in calls] == [0, 1, 2]


def test_stats_measures_workers_and_traffic(make: Make) -> None:
    executor = make(max_workers=1)
    for size in (10, 100_000, 3_000_000):
        assert executor.submit(len, b"x" * size).result(timeout=30) == size
    stats = wait_until(lambda: (s := executor.stats()).workers[0].rss and s)
    (worker,) = stats.workers
    assert worker.cpu_seconds > 0
    assert 0 < worker.age < 60
    assert stats.bytes_sent > 3_100_000
    assert 0 < stats.bytes_received < 10_000
    assert executor.submit(bytes, 2_000_000).result(timeout=30) == bytes(2_000_000)
    assert executor.stats().bytes_received > 2_000_000
    sent = executor.stats().bytes_sent
    executor.shutdown()
    assert executor.stats().bytes_sent >= sent, "what workers did that are gone counts, too"


@pytest.mark.slow
def test_stats_tells_which_hubs_are_held(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    hog = executor.submit(gate.hog, "hog")
    gate.wait_for(1)
    wait_until(lambda: executor.stats().workers[0].busy > 0.5, "that is told while it is held")
    gate.open()
    hog.result(timeout=30)
    wait_until(lambda: executor.stats().workers[0].busy < 0.4, "idle again")


def test_stats_as_json(make: Make) -> None:
    executor = make(max_workers=1)
    executor.submit(square, 2).result(timeout=30)
    stats = executor.stats()
    told = json.loads(json.dumps(stats.as_dict()))
    assert (told["running"], told["queued"], told["finished"]) == (0, 0, 1)
    assert told["workers"][0]["pid"] == stats.workers[0].pid
    assert told["run_seconds"]["p99"] == stats.run_seconds.p99


def fail_at_first(folder: str) -> int:
    if not os.path.exists(folder):
        os.mkdir(folder)
        raise OSError("not yet")
    return 1


def test_stats_cannot_be_changed(make: Make) -> None:
    stats = make().stats()
    with pytest.raises(AttributeError):
        stats.pending = 3
