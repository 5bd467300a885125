"""How many no-op calls a second go from submit to result?"""

from __future__ import annotations

import time

from ..contenders.peers import AIO, LOKY, MPIRE, PEBBLE, POOL, PROCESS_POOLS, THREADS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

QUESTION = Question(
    title="No-op submit → result",
    method=(
        "One thread submits all calls, then takes each result in turn; 2 workers, which have run "
        "calls before. multiprocessing.Pool and mpire by `apply_async`, aiomultiprocess by "
        "`apply`, pebble by `schedule`."
    ),
    metrics=(Metric("rate", "calls/s", "submitted and answered per second", True),),
    contenders=(OURS, *PROCESS_POOLS, THREADS, POOL, LOKY, PEBBLE, MPIRE, AIO),
    full_only=(LOKY, PEBBLE, MPIRE),
    sizes={"full": {"calls": 20_000}, "quick": {"calls": 8_000}, "smoke": {"calls": 20}},
    rounds=ROUNDS,
    targets=(
        Target("rate", 20.0, PROCESS_POOLS),
        Target("rate", 4.0, (POOL,)),
        Target("rate", 2.5, (AIO,)),
        Target("rate", 1.0, (THREADS,)),
    ),
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
