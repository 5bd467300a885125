"""Does a byte cost more when there are more of them in a call?"""

from __future__ import annotations

import time
from statistics import median

from ..contenders import calls
from ..contenders.peers import FORK, POOL, open_peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size

QUESTION = Question(
    title="As payloads grow",
    method=(
        "One call at a time, which gets a bytes object and returns it, on one warm worker. The "
        "median time of a call."
    ),
    metrics=(Metric("cost", "ns", "wall per byte, there and back"),),
    contenders=(OURS, FORK, POOL),
    cases=("1000", "10000", "100000", "1000000", "10000000", "100000000"),
    full_only=("10000", "100000000", POOL),
    axis="bytes",
    sizes={"full": {"bytes": 3e8}, "quick": {"bytes": 3e7}, "smoke": {"bytes": 0}},
    rounds=FEW_ROUNDS,
)

_MOST_CALLS = 300


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time as many calls as are needed to see their median."""
    payload, times = bytes(int(case)), []
    with open_peer(contender, workers=1) as peer:
        for _ in range(3 + min(_MOST_CALLS, int(size["bytes"]) // len(payload))):
            start = time.perf_counter()
            answer = peer.take(peer.submit(calls.same, payload))
            times.append(time.perf_counter() - start)
            assert len(answer) == len(payload)
    return {"cost": median(times[1:]) / len(payload) * 1e9}
