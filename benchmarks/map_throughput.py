"""How many items a second does map get through?"""

from __future__ import annotations

import time

from .peers import PROCESS_POOLS, open_peer
from .question import ROUNDS, Metric, Question, Size, Target

CHUNK_1, CHUNK_1000 = "chunksize 1", "chunksize 1000"

QUESTION = Question(
    title="Throughput of map over a no-op",
    method=(
        "`list(executor.map(identity, range(n), chunksize=...))`; 2 workers, which have run calls "
        "before. With chunksize 1 those that send items one by one get a tenth of the items."
    ),
    metrics=(Metric("rate", "items/s", "mapped per second", True),),
    contenders=(
        "hybridexec",
        *PROCESS_POOLS,
        "ThreadPoolExecutor",
        "multiprocessing.Pool",
        "loky",
        "pebble",
    ),
    cases=(CHUNK_1, CHUNK_1000),
    sizes={"full": {"items": 200_000}, "quick": {"items": 100_000}, "smoke": {"items": 100}},
    rounds=ROUNDS,
    targets=(Target("rate", 40.0, PROCESS_POOLS, cases=(CHUNK_1,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map on a warm executor."""
    count, chunksize = size["items"], 1000
    if case == CHUNK_1:
        chunksize = 1
        if contender != "hybridexec":
            count //= 10
    with open_peer(contender) as peer:
        peer.map(max(1, count // 10), chunksize)
        start = time.perf_counter()
        peer.map(count, chunksize)
        elapsed = time.perf_counter() - start
    return {"rate": count / elapsed}
