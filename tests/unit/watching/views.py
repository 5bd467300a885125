"""A view to draw."""

from __future__ import annotations

from typing import Any

from hybridexec import ExecutorStats, WorkerStats
from hybridexec.stats import Durations, NodeStats, RunningCall
from hybridexec.watching.view import SECONDS


def view(workers: int = 1, **given: Any) -> dict[str, Any]:
    """A view of an executor with so many workers, each with more to do than the one before."""
    told = tuple(
        WorkerStats(1000 + n, "ready", n % 11, n, 2, 1, 0.5, rss=20_000_000) for n in range(workers)
    )
    stats = ExecutorStats(
        told,
        4,
        finished=20,
        failed=3,
        calls_per_second=12.0,
        run_seconds=Durations(23, 0.1, 0.1, 0.2, 0.3, 0.4),
        slowest=(RunningCall("fetch('\x1b[31mhttp://x')", 9.5, 1000),),
    )
    failure = {
        "function": "fetch",
        "error": "builtins.OSError",
        "place": "b.py:3 in fetch",
        "count": 3,
        "seconds_ago": 1.0,
        "text": "no [bold]such[/bold] host",
        "traceback": "",
        "pid": 1000,
        "node": "",
    }
    end = {"seconds_ago": 2.0, "worker": 1, "pid": 99, "node": ""}
    end |= {"lost": True, "cause": "killed by SIGKILL"}
    shown = {
        "pid": 4711,
        "at": 0.0,
        "age": 65.0,
        "state": "running",
        "max_workers": workers,
        "slots": {"greenlet": 10, "async": 10, "thread": 20},
        "stats": stats.as_dict(),
        "rates": [0.0] * (SECONDS - 2) + [6.0, 12.0],
        "failures": [failure],
        "ends": [end, {**end, "pid": 98, "lost": False, "cause": ""}],
    }
    return {**shown, **given}


def cluster_view() -> dict[str, Any]:
    """A view of an executor with three workers on two nodes, and one that is being started."""
    told = [
        WorkerStats(71, "ready", 3, 1, 20, 2, 0.0, node="b"),
        WorkerStats(71, "ready", 2, 1, 30, 0, 0.0, node="a"),
        WorkerStats(72, "ready", 1, 0, 40, 0, 0.0, node="b"),
        WorkerStats(None, "starting", 0, 0, 0, 0, 0.0),
    ]
    nodes = (
        NodeStats("a", "tcp://10.0.0.1:1", 1, 4, 2, 1, 30, 0, 20_000_000, 1.5, 0.0004),
        NodeStats("b", "tcp://10.0.0.2:1", 2, 1, 4, 1, 60, 2, 40_000_000, 2.5, None, True),
    )
    slowest = (RunningCall("fetch(1)", 9.5, 71, "b"),)
    stats = ExecutorStats(tuple(told), 4, slowest=slowest, nodes=nodes)
    shown = view(0, stats=stats.as_dict(), failures=[])
    for end in shown["ends"]:
        end["node"] = "c"
    return shown
