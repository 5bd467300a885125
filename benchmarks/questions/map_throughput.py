"""How many items a second does map get through?"""

from __future__ import annotations

import time

from ..contenders.peers import LOKY, MPIRE, PEBBLE, POOL, PROCESS_POOLS, THREADS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

CHUNK_1, CHUNK_1000 = "chunksize 1", "chunksize 1000"

QUESTION = Question(
    title="No-op map",
    method=(
        "`list(executor.map(identity, range(n), chunksize=...))`, the same n for all; 2 workers, "
        "which have run calls before. Here each item of a chunk still has a slot and an error of "
        "its own; elsewhere a chunk is one call."
    ),
    metrics=(Metric("rate", "items/s", "mapped per second", True),),
    contenders=(OURS, *PROCESS_POOLS, THREADS, POOL, LOKY, PEBBLE, MPIRE),
    cases=(CHUNK_1, CHUNK_1000),
    full_only=(THREADS, LOKY, PEBBLE, MPIRE),
    sizes={
        "full": {CHUNK_1: 40_000, CHUNK_1000: 1_000_000},
        "quick": {CHUNK_1: 20_000, CHUNK_1000: 300_000},
        "smoke": {CHUNK_1: 20, CHUNK_1000: 2_000},
    },
    rounds=ROUNDS,
    targets=(
        Target("rate", 110.0, PROCESS_POOLS, cases=(CHUNK_1,)),
        Target("rate", 1.3, PROCESS_POOLS, cases=(CHUNK_1000,)),
    ),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map on a warm executor."""
    count, chunksize = size[case], 1 if case == CHUNK_1 else 1000
    with open_peer(contender) as peer:
        peer.map(count // 10, chunksize)
        start = time.perf_counter()
        peer.map(count, chunksize)
        elapsed = time.perf_counter() - start
    return {"rate": count / elapsed}
