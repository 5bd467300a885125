"""How many no-op calls a second go from submit to result?"""

from __future__ import annotations

import time

from .peers import PROCESS_POOLS, open_peer
from .question import ROUNDS, Metric, Question, Size, Target

QUESTION = Question(
    title="No-op submit → result throughput",
    method=(
        "One thread submits all calls, then takes each result in turn; 2 workers, which have run "
        "calls before. `multiprocessing.Pool` by `apply_async`, aiomultiprocess by `apply`."
    ),
    metrics=(Metric("rate", "calls/s", "submitted and answered per second", True),),
    contenders=(
        "hybridexec",
        *PROCESS_POOLS,
        "ThreadPoolExecutor",
        "multiprocessing.Pool",
        "loky",
        "pebble",
        "aiomultiprocess",
    ),
    sizes={"full": {"calls": 20_000}, "quick": {"calls": 8_000}, "smoke": {"calls": 20}},
    rounds=ROUNDS,
    targets=(Target("rate", 10.0, PROCESS_POOLS),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all calls on a warm executor."""
    count = size["calls"]
    with open_peer(contender) as peer:
        peer.run_noops(count // 10)
        start = time.perf_counter()
        peer.run_noops(count)
        elapsed = time.perf_counter() - start
    return {"rate": count / elapsed}
