"""Does a worker cost more when there are more of them, and does a call?"""

from __future__ import annotations

import time

from ..contenders import crews
from ..contenders.peers import FORK, ExecutorPeer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size

QUESTION = Question(
    title="As workers grow",
    method=(
        "Wall from before the constructor until every worker has run its initializer, by their "
        "number; then wall of no-op calls through all of them, `submit` and then each `result`."
    ),
    metrics=(
        Metric("start", "ms", "wall per worker"),
        Metric("call", "µs", "wall per call", of_each=False),
    ),
    contenders=(OURS, FORK),
    cases=("1", "2", "4", "8", "16", "32", "64"),
    full_only=("2", "8", "32", FORK),
    axis="workers",
    sizes={"full": {"calls": 20_000}, "quick": {"calls": 10_000}, "smoke": {"calls": 10}},
    rounds=FEW_ROUNDS,
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Start them all, then give them calls."""
    workers, count = int(case), size["calls"]
    with crews.all_ready(contender, workers) as (executor, ready):
        peer = ExecutorPeer(executor)
        peer.run_noops(count // 10)
        start = time.perf_counter()
        peer.run_noops(count)
        elapsed = time.perf_counter() - start
    return {"start": ready / workers * 1e3, "call": elapsed / count * 1e6}
