"""What does a call on other machines cost, beside Dask's own ways to make one?"""

from __future__ import annotations

import time
from typing import Any

from ..contenders import calls, clusters, data
from ..contenders.clusters import DASK, DASK_EXECUTOR
from ..contenders.peers import Peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

NOOP, DICTS = "no-op", "dicts"
NODES = 2

QUESTION = Question(
    title="Calls on a cluster",
    method=(
        "A scheduler and two nodes of one CPU each, by Dask's command line, on this machine; all "
        "contenders have run calls before. No-ops, or nested dicts (160 bytes of pickle) as "
        "arguments and results. Submit: `submit` of all calls, then each `result`. Map: "
        "`list(executor.map(...))`, or Dask's `client.gather(client.map(...))`. Dask is told that "
        "calls are not pure: it would run equal ones once. Round trip: one call at a time, after "
        "5 ms of rest. CPU: user and system time during submit and map, by calls; nodes with their "
        "worker processes."
    ),
    metrics=(
        Metric("submit", "calls/s", "submitted calls per second", True),
        Metric("map", "calls/s", "mapped calls per second", True),
        Metric("p50", "ms", "idle round trip, median"),
        Metric("p99", "ms", "idle round trip, 99th percentile"),
        Metric("client", "µs", "CPU time of the client per call"),
        Metric("nodes", "µs", "CPU time of the nodes per call"),
        Metric("scheduler", "µs", "CPU time of the scheduler per call"),
    ),
    contenders=(OURS, DASK, DASK_EXECUTOR),
    cases=(NOOP, DICTS),
    sizes={
        "full": {"calls": 30_000, "their calls": 2_000, "trips": 300},
        "quick": {"calls": 20_000, "their calls": 1_000, "trips": 100},
        "smoke": {"calls": 20, "their calls": 20, "trips": 3},
    },
    rounds=FEW_ROUNDS,
    targets=(
        Target("submit", 20.0, (DASK, DASK_EXECUTOR)),
        Target("map", 20.0, (DASK, DASK_EXECUTOR)),
        Target("p50", 0.3, (DASK, DASK_EXECUTOR)),
        Target("scheduler", 2.0),
    ),
)

_PAUSE = 0.005


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time calls on a warm cluster."""
    count = size["calls" if contender == OURS else "their calls"]
    items = [data.record(number) if case == DICTS else number for number in range(count)]
    with clusters.running(NODES) as cluster, clusters.open_on(cluster, contender) as peer:
        from ..harness import processes

        _submit(peer, case, items[: count // 10])
        _map(peer, items[: count // 10])
        scheduler = [processes.process(cluster.scheduler)]
        nodes = processes.families(cluster.nodes)
        before = [processes.cpu_seconds(each) for each in ([processes.this()], nodes, scheduler)]
        submitting = _timed(_submit, peer, case, items)
        mapping = _timed(_map, peer, items)
        after = [processes.cpu_seconds(each) for each in ([processes.this()], nodes, scheduler)]
        cpu = [(late - early) / count / 2 * 1e6 for early, late in zip(before, after, strict=True)]
        trips = sorted(_trip(peer, case, items[0]) for _ in range(size["trips"]))
    return {
        "submit": count / submitting,
        "map": count / mapping,
        "p50": trips[len(trips) // 2] * 1e3,
        "p99": trips[len(trips) * 99 // 100] * 1e3,
        "client": cpu[0],
        "nodes": cpu[1],
        "scheduler": cpu[2],
    }


def _timed(run: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def _submit(peer: Peer, case: str, items: list[Any]) -> None:
    if case == NOOP:
        peer.run_noops(len(items))
        return
    submit, take = peer.submit, peer.take
    for handle in [submit(calls.same, item) for item in items]:
        take(handle)


def _map(peer: Peer, items: list[Any]) -> None:
    assert peer.map_over(calls.same, items, None)[-1] == items[-1]


def _trip(peer: Peer, case: str, item: Any) -> float:
    time.sleep(_PAUSE)
    start = time.perf_counter()
    if case == NOOP:
        peer.run_one()
    else:
        peer.take(peer.submit(calls.same, item))
    return time.perf_counter() - start
