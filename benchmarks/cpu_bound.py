"""When calls burn CPU, how long until the last is done?"""

from __future__ import annotations

import random
import time

from . import calls
from .peers import PROCESS_POOLS, ExecutorPeer, open_peer
from .question import Metric, Question, Size

EVEN, FIRST, LAST, RANDOM = "even", "long first", "long last", "long at random"

QUESTION = Question(
    title="Makespan of CPU-bound calls",
    method=(
        "`map` with chunksize 1 on 2 warm workers. Even: 40 calls of 0.1 s of CPU time. The "
        "others: these and one of 2 s, which comes first, last or somewhere (the same place for "
        "all in a round). Quick: a tenth of these times."
    ),
    metrics=(Metric("wall", "s", "until the last result"),),
    contenders=("hybridexec", "hybridexec, concurrency=1", *PROCESS_POOLS),
    cases=(EVEN, FIRST, LAST, RANDOM),
    sizes={
        "full": {"short": 0.1, "long": 2.0, "calls": 40},
        "quick": {"short": 0.01, "long": 0.2, "calls": 40},
        "smoke": {"short": 0.001, "long": 0.002, "calls": 4},
    },
    rounds={"full": 5, "quick": 3, "smoke": 1},
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map."""
    times = [size["short"]] * size["calls"]
    if case != EVEN:
        places = {FIRST: 0, LAST: len(times), RANDOM: random.Random(7).randrange(len(times))}
        times.insert(places[case], size["long"])
    with open_peer(contender) as peer:
        assert isinstance(peer, ExecutorPeer)
        peer.run_noops(50)
        start = time.perf_counter()
        for _ in peer.executor.map(calls.burn, times):
            pass
        return {"wall": time.perf_counter() - start}
