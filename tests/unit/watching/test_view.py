"""The view model: what is in it, and that it is JSON."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest

from hybridexec import ExecutorStats, WorkerStats
from hybridexec.parent.pool.failures import Failures
from hybridexec.process import Process
from hybridexec.watching import view
from hybridexec.watching.view import SECONDS, rates

NOW = 1000.0


def watched(**given: Any) -> Any:
    """An executor as it may be watched."""
    worker = WorkerStats(4711, "ready", 3, 7, 2, 1, 0.5)
    told = {
        "began_at": NOW - 5.0,
        "state": "running",
        "max_workers": 1,
        "slots": {"greenlet": 3},
        "stats": lambda: ExecutorStats((worker,), 4),
        "ended": lambda: ([], 0),
        "failures": list,
        "log": list,
    }
    return SimpleNamespace(**{**told, **given})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view.native, "monotonic", lambda: NOW)


def test_it_is_json_and_bounded() -> None:
    failures = Failures()
    for number in range(200):
        trace = f'  File "x.py", line {number}, in f\n' + "x" * 20_000
        failures.note("f", "builtins.OSError", "t" * 20_000, trace, Process(1), NOW)
    log = [
        (NOW, "WorkerEnded", number, Process(number), True, "exit code 3") for number in range(2000)
    ]
    told = view.view(watched(failures=failures.groups, log=lambda: log))
    assert len(json.dumps(told)) < 100_000
    assert json.loads(json.dumps(told)) == told
    assert told["age"] == 5.0
    assert told["stats"]["queued"] == 11
    assert (told["max_workers"], told["slots"], told["state"]) == (1, {"greenlet": 3}, "running")


def test_failures_come_latest_first() -> None:
    failures = Failures()
    failures.note(
        "fetch", "builtins.OSError", "no", '  File "a/b.py", line 3, in f\n', Process(1), 990.0
    )
    failures.note("fetch", "builtins.KeyError", "k", "", Process(2), 995.0)
    failures.note(
        "fetch", "builtins.OSError", "no!", '  File "a/b.py", line 3, in f\n', Process(3), 999.0
    )
    first, second = view.view(watched(failures=failures.groups))["failures"]
    assert (first["error"], first["count"], first["seconds_ago"]) == ("builtins.OSError", 2, 1.0)
    assert (first["place"], first["text"], first["pid"]) == ("b.py:3 in f", "no!", 3)
    assert (second["error"], second["count"]) == ("builtins.KeyError", 1)


def test_ends_of_workers_come_latest_first() -> None:
    log = [
        (990.0, "WorkerEnded", 1, Process(11), True, "killed by SIGKILL"),
        (991.0, "WorkerStarted", 2, Process(12), "greenlet"),
        (998.0, "WorkerEnded", 2, Process(12), False, ""),
    ]
    first, second = view.view(watched(log=lambda: log))["ends"]
    assert (first["worker"], first["lost"], first["seconds_ago"]) == (2, False, 2.0)
    assert (second["pid"], second["lost"], second["cause"]) == (11, True, "killed by SIGKILL")


def test_nothing_has_ended_yet() -> None:
    assert rates([], 0, NOW) == [0.0] * SECONDS


def test_a_steady_rate_is_flat() -> None:
    marks = [(NOW - 80 + 1.003 * n, 50 * n) for n in range(80)]
    told = rates(marks, 50 * 80, NOW)
    assert len(told) == SECONDS
    assert told[1:-2] == pytest.approx([50 / 1.003] * (SECONDS - 3), rel=0.05)


def test_what_ended_before_a_pause_is_where_it_was() -> None:
    told = rates([(NOW - 30.5, 0), (NOW - 10.5, 100)], 300, NOW)
    assert [back for back, rate in enumerate(reversed(told)) if rate] == [9, 10, 29, 30]
    assert sum(told) == pytest.approx(300)


@pytest.mark.parametrize("ago", [0.0, 1e-9, 0.4, 1.0, 59.0])
def test_nothing_is_counted_twice_or_left_out(ago: float) -> None:
    marks = [(NOW - ago - age, count) for count, age in zip((0, 7), (3.7, 0.0), strict=True)]
    assert sum(rates(marks, 20, NOW)) == pytest.approx(20 if ago < 50 else 13)


def test_what_is_older_than_a_minute_is_gone() -> None:
    marks = [(NOW - 200.0, 0), (NOW - 100.0, 10)]
    assert sum(rates(marks, 20, NOW)) == 0.0


def test_each_second_is_that_second() -> None:
    counts = itertools.accumulate([0, 10, 20, 30])
    marks = [(NOW - 4 + n, count) for n, count in enumerate(counts)]
    assert rates(marks, 100, NOW)[-4:] == pytest.approx([10, 20, 30, 40])
