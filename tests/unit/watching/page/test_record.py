"""What plots and tables are made of: columns of one length, which add up."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest

from hybridexec.parent.engine.history import Sample, SlowCall, WorkerSample
from hybridexec.parent.pool.failures import Failures
from hybridexec.process import Process
from hybridexec.stats import ExecutorStats, NodeStats
from hybridexec.watching.page import record as module
from hybridexec.watching.page.record import OUTCOMES, Record, record

TRACE = 'Traceback:\n  File "/a/code.py", line 3, in run\nOSError: no\n'


class Watched:
    """What a record asks of an executor, with made up answers."""

    began_at, state, slots = 100.0, "running", {"greenlet": 4}

    def __init__(self) -> None:
        self.taken: list[Sample] = []
        self.slow: list[SlowCall] = []
        self.happened: list[tuple[Any, ...]] = []
        self.failed = Failures()
        self.runs: list[tuple[float, float, int]] = []
        self.nodes: tuple[NodeStats, ...] = ()

    def sample(self, at: float, ended: int, *workers: WorkerSample) -> None:
        """Calls have ended in all ways, in each half as often as in the one before."""
        counts = [ended // 2**place for place in range(len(OUTCOMES))]
        finished, failed, *others = counts
        self.taken.append(Sample(at, sum(counts), finished, failed, 7, *others, 0, workers))

    def history(self) -> Watched:
        return self

    def samples(self) -> list[Sample]:
        return self.taken

    def slowest(self) -> list[SlowCall]:
        return self.slow

    def stats(self) -> ExecutorStats:
        return ExecutorStats((), 0, nodes=self.nodes)

    def durations(self) -> tuple[list[tuple[float, float, int]], list[tuple[float, float, int]]]:
        return self.runs, []

    def log(self) -> list[tuple[Any, ...]]:
        return self.happened

    def failures(self) -> list[Any]:
        return self.failed.groups()

    def record(self) -> Record:
        watched: Any = self
        return record(watched)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Monotonic time is the time of the day."""
    monkeypatch.setattr(module._Clock, "__init__", lambda self: setattr(self, "_offset", 0.0))


def worker(number: int, running: int, rss: int) -> WorkerSample:
    return WorkerSample(number, running, 2, 0.5, 0.25, rss, "greenlet")


def test_rates_are_of_the_time_between_samples() -> None:
    watched = Watched()
    watched.sample(110.0, 0)
    watched.sample(112.0, 32)
    rates = watched.record().rates
    assert rates["at"] == [100_000, 110_000, 112_000]
    assert rates["finished"] == [0, 0, 16]
    assert rates["failed"] == [0, 0, 8]
    assert rates["retried"] == [0.7, 0.7, 0]


def test_outcomes_are_stacked() -> None:
    watched = Watched()
    watched.sample(104.0, 64)
    rates = watched.record().rates
    assert rates["finished_from"] == [0, 0]
    for below, above in pairwise(OUTCOMES):
        assert rates[f"{above}_from"] == rates[f"{below}_to"]
    assert rates[f"{OUTCOMES[-1]}_to"] == rates["total"] == [31, 31]


def test_each_worker_has_a_row_with_what_was_seen_of_it() -> None:
    watched = Watched()
    watched.happened = [
        (100.0, "WorkerStarted", 1, Process(71), "greenlet"),
        (101.0, "WorkerStarted", 2, Process(72), "greenlet"),
    ]
    watched.sample(101.0, 0, worker(1, 3, 0))
    watched.sample(102.0, 0, worker(1, 9, 5_000_000), worker(2, 1, 7_000_000))
    columns = watched.record().workers
    assert columns["worker"] == [1, 2]
    assert columns["pid"] == [71, 72]
    assert columns["line"] == [0, 1]
    assert columns["at"] == [[101_000, 102_000], [102_000]]
    assert columns["running"] == [[3, 4], [1]], "no more than there are slots"
    first, second = columns["rss"][0]
    assert math.isnan(first), "not known yet"
    assert second == 5.0


def test_bars_have_the_area_of_their_calls() -> None:
    watched = Watched()
    watched.sample(101.0, 0)
    watched.runs = [(1.0, 1.125, 3), (1.125, 1.25, 1), (1.25, 1.375, 0), (1.375, 1.5, 4)]
    watched.runs.append((1.5, 1.625, 2))
    runs = watched.record().runs
    assert runs["count"] == [4, 4, 2]
    assert runs["percent"] == [40, 40, 20]
    assert (runs["start"], runs["end"][:2]) == ([1.0, 1.25, 1.5], [1.25, 1.5])
    widths = [math.log2(runs["end"][bar] / runs["start"][bar]) for bar in range(3)]
    areas = [4 * width * height for width, height in zip(widths, runs["height"], strict=True)]
    assert areas == pytest.approx(runs["count"], abs=0.1)


def test_failures_stay_on_their_rows() -> None:
    watched = Watched()
    watched.sample(101.0, 0)
    for at, name in enumerate(["builtins.OSError", "lib.Error", "builtins.OSError"]):
        watched.failed.note("fetch", name, f"no {at}", TRACE, Process(7), 100.0 + at)
    failures = watched.record().failures
    assert failures["error"] == ["OSError", "lib.Error"]
    assert failures["count"] == [2, 1]
    assert failures["text"] == ["no 2", "no 1"]
    assert failures["last"] == [102_000, 101_000]
    assert failures["place"][0] == "code.py:3 in run"
    assert failures["trace"][0] == TRACE


def test_it_is_plain_data() -> None:
    watched = Watched()
    watched.happened = [
        (100.0, "WorkerStarted", 1, Process(71), "greenlet"),
        (101.0, "WorkerEnded", 1, Process(71), True, "x"),
    ]
    watched.sample(101.0, 4, worker(1, 3, 1))
    watched.slow = [SlowCall(1.5, "f(1)", Process(71, "far"))]
    made = watched.record()
    assert made.slowest == {"seconds": [1.5], "call": ["f(1)"], "pid": [71], "node": ["far"]}
    assert made.ends["cause"] == ["x"]
    columns = [value for value in made if isinstance(value, dict)]
    assert len(columns) == 10
    assert not made.has_nodes
    json.dumps(columns)
    for each in columns:
        assert len({len(column) for column in each.values()}) == 1


def test_nodes_have_rows() -> None:
    watched = Watched()
    watched.happened = [(100.0, "WorkerStarted", 1, Process(71, "b"), "greenlet")]
    watched.sample(101.0, 0, worker(1, 3, 0))
    made = watched.record()
    assert made.workers["node"] == made.lives["node"] == ["b"]
    assert made.has_nodes, "there were"
    watched.nodes = (
        NodeStats("a", "tcp://10.0.0.1:1", 1, 4, 2, 1, 30, 0, 20_000_000, 1.5, 0.0004),
        NodeStats("b", "tcp://10.0.0.2:1", 2, 1, 4, 1, 60, 2, 40_000_000, 2.5, None, True),
    )
    nodes = watched.record().nodes
    assert nodes["node"] == ["a", "b (leaving)"]
    assert nodes["rss"] == [20.0, 40.0]
    assert nodes["round_trip"][0] == 0.4
    assert math.isnan(nodes["round_trip"][1])
