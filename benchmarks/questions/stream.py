"""What does a map over millions of items from a generator take, and does it grow?"""

from __future__ import annotations

import gc
import time
from statistics import median

from ..contenders.peers import FORK, MPIRE, POOL, open_peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

QUESTION = Question(
    title="No-op stream from a generator",
    method=(
        "`map_unordered` over 2,000,000 items (quick: 200,000) of a generator; the others by what "
        "they have for this, with chunksize 1000: `imap_unordered`, and ProcessPoolExecutor's "
        "`map`. The parent's private memory (USS) is looked at 100 times as results come. Drift: "
        "the median of the last quarter of these, less that of the second."
    ),
    metrics=(
        Metric("rate", "items/s", "items per second", True),
        Metric("growth", "MB", "growth of the parent's memory"),
        Metric("drift", "MB", "drift of the parent's memory"),
    ),
    contenders=(OURS, FORK, POOL, MPIRE),
    full_only=(MPIRE,),
    sizes={"full": {"items": 2_000_000}, "quick": {"items": 200_000}, "smoke": {"items": 2_000}},
    rounds=FEW_ROUNDS,
    targets=(Target("rate", 150_000.0), Target("growth", 30.0), Target("drift", 1.0)),
)

_LOOKS = 100


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Run through one stream, looking at the memory now and then."""
    from ..harness import processes

    parent = [processes.this()]
    count = size["items"]
    with open_peer(contender) as peer:
        total = sum(peer.stream(number for number in range(count // 20)))
        gc.collect()
        before = processes.private_bytes(parent)
        seen: list[int] = []
        total, due, period = 0, 0, count // _LOOKS
        start = time.perf_counter()
        for done, result in enumerate(peer.stream(number for number in range(count))):
            total += result
            if done >= due:
                due += period
                seen.append(processes.private_bytes(parent))
        elapsed = time.perf_counter() - start
    assert total == count * (count - 1) // 2
    quarter = len(seen) // 4
    drift = median(seen[-quarter:]) - median(seen[quarter : 2 * quarter])
    return {
        "rate": count / elapsed,
        "growth": (max(seen) - before) / 1e6,
        "drift": drift / 1e6,
    }
