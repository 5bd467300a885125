"""When calls burn CPU, how long until the last is done?"""

from __future__ import annotations

import random
import time

from ..contenders import calls
from ..contenders.peers import FORK, ONE_AT_A_TIME, ExecutorPeer, open_peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

EVEN, FIRST, LAST = "even", "long first", "long last"
#: The seeds by which it is drawn where the long call stands: at the same place for everybody.
RANDOM = {f"long at random, seed {seed}": seed for seed in (1, 2, 3)}

QUESTION = Question(
    title="CPU-bound makespan",
    method=(
        "`map` with chunksize 1 on 2 warm workers. Even: 40 calls of 0.1 s of CPU time. The "
        "others: these and one of 2 s, which comes first, last or somewhere. Quick: a tenth of "
        "these times."
    ),
    metrics=(Metric("wall", "s", "until the last result"),),
    contenders=(OURS, ONE_AT_A_TIME, FORK),
    cases=(EVEN, FIRST, LAST, *RANDOM),
    full_only=(ONE_AT_A_TIME, *list(RANDOM)[1:]),
    sizes={
        "full": {"short": 0.1, "long": 2.0, "calls": 40},
        "quick": {"short": 0.01, "long": 0.2, "calls": 40},
        "smoke": {"short": 0.001, "long": 0.002, "calls": 4},
    },
    rounds={**FEW_ROUNDS, "quick": 4},
    targets=(Target("wall", 1.03, (FORK,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map."""
    times = [size["short"]] * size["calls"]
    if case != EVEN:
        ends = {FIRST: 0, LAST: len(times)}
        drawn = random.Random(RANDOM.get(case)).randrange(1, len(times))
        place = ends.get(case, drawn)
        times.insert(place, size["long"])
    with open_peer(contender) as peer:
        assert isinstance(peer, ExecutorPeer)
        peer.run_noops(50)
        start = time.perf_counter()
        for _ in peer.executor.map(calls.burn, times):
            pass
        return {"wall": time.perf_counter() - start}
