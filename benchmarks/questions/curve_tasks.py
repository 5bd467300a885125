"""Does a call cost more when there are more of them?"""

from __future__ import annotations

import time

from ..contenders.peers import FORK, SUBMIT, ExecutorPeer, open_peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Skip

QUESTION = Question(
    title="As calls grow",
    method=(
        "`map` with chunksize 1, or `submit` of all and then each `result`, of no-ops on 2 warm "
        "workers. Small numbers are run several times."
    ),
    metrics=(Metric("cost", "µs", "wall per call"),),
    contenders=(OURS, SUBMIT, FORK),
    cases=("1000", "10000", "100000", "1000000"),
    full_only=("1000000",),
    axis="calls",
    sizes={
        "full": {"least": 20_000, "most": {FORK: 100_000}},
        "quick": {"least": 10_000, "most": {FORK: 10_000}},
        "smoke": {"least": 1, "most": {FORK: 1_000}},
    },
    rounds=FEW_ROUNDS,
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time so many calls at once, again and again until there were enough to be timed."""
    count = int(case)
    if count > size["most"].get(contender, count):
        raise Skip("takes too long")
    times = max(1, size["least"] // count)
    with open_peer(OURS if contender == SUBMIT else contender) as peer:
        assert isinstance(peer, ExecutorPeer)
        peer.run_noops(500)
        start = time.perf_counter()
        for _ in range(times):
            if contender == OURS:
                peer.map(count, 1)
            else:
                peer.run_noops(count)
        elapsed = time.perf_counter() - start
    return {"cost": elapsed / times / count * 1e6}
