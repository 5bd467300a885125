"""How long does one call take when nothing else is going on?"""

from __future__ import annotations

import time

from ..contenders.peers import AIO, LOKY, MPIRE, PEBBLE, POOL, PROCESS_POOLS, THREADS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

RESTED, BUSY = "after 5 ms of rest", "back to back"

QUESTION = Question(
    title="Idle round trip",
    method=(
        "One call at a time on 2 workers, which have run calls before. After 5 ms of rest every "
        "thread and process has gone to sleep; back to back they may still be awake."
    ),
    metrics=(
        Metric("p50", "µs", "median"),
        Metric("p99", "µs", "99th percentile"),
    ),
    contenders=(OURS, *PROCESS_POOLS, THREADS, POOL, LOKY, PEBBLE, MPIRE, AIO),
    cases=(RESTED, BUSY),
    full_only=(THREADS, LOKY, PEBBLE, MPIRE, AIO),
    sizes={"full": {"calls": 600}, "quick": {"calls": 200}, "smoke": {"calls": 5}},
    rounds=ROUNDS,
    targets=(Target("p50", 0.4, PROCESS_POOLS), Target("p99", 0.5, PROCESS_POOLS)),
)

_PAUSE = 0.005


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time single calls on a warm executor."""
    times: list[float] = []
    with open_peer(contender) as peer:
        peer.run_noops(50)
        for _ in range(size["calls"]):
            if case == RESTED:
                time.sleep(_PAUSE)
            start = time.perf_counter()
            peer.run_one()
            times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}
