"""How long does a result that is there take to arrive while its worker computes?"""

from __future__ import annotations

import time
from statistics import median

from ..contenders import calls
from ..contenders.peers import FORK, FORKSERVER, LOKY, POOL, THREADS, open_peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

ONE, MANY = "a short call before it", "100 short calls before it"
_BEFORE = {ONE: 1, MANY: 100}

QUESTION = Question(
    title="Result beside a CPU-bound call",
    method=(
        "One worker, which is sent one or 100 short calls, and right after them one that burns "
        "CPU in Python for 0.3 s. From when the last short call ends, by its own clock, to when "
        "the caller has its result; 7 times (quick: 3 times, with 0.2 s)."
    ),
    metrics=(
        Metric("median", "ms", "median delay of the result"),
        Metric("worst", "ms", "longest delay of the result"),
    ),
    contenders=(OURS, FORK, FORKSERVER, POOL, LOKY, THREADS),
    cases=(ONE, MANY),
    full_only=(FORKSERVER, POOL, LOKY, THREADS),
    sizes={
        "full": {"seconds": 0.3, "times": 7},
        "quick": {"seconds": 0.2, "times": 3},
        "smoke": {"seconds": 0.02, "times": 2},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("median", 20.0), Target("worst", 20.0)),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Compare the clocks of both ends; the monotonic clock is the same in all processes."""
    delays = []
    with open_peer(contender, workers=1) as peer:
        peer.run_noops(50)
        for _ in range(size["times"]):
            short = [peer.submit(calls.moment) for _ in range(_BEFORE[case])]
            hog = peer.submit(calls.burn, size["seconds"])
            ended = [peer.take(handle) for handle in short][-1]
            delays.append((time.monotonic() - ended) * 1e3)
            peer.take(hog)
    return {"median": median(delays), "worst": max(delays)}
