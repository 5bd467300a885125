"""How many pages, or responses, a second come back from calls that fetch them?"""

from __future__ import annotations

import time

from ..contenders.data import RESULTS
from ..contenders.peers import FORKSERVER, LOKY, POOL, PROCESS_POOLS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

QUESTION = Question(
    title="Pages and responses as results",
    method=(
        "`map` with chunksize 1 over 1,000 numbers (quick: 500), three times; each call returns "
        "the text of a page (30 kB), or what a client like `requests` returns: an instance of "
        "instances, with 3 kB of bytes. Nothing is fetched. 2 workers, which have run calls before."
    ),
    metrics=(Metric("rate", "results/s", "results per second", True),),
    contenders=(OURS, *PROCESS_POOLS, POOL, LOKY),
    cases=tuple(RESULTS),
    full_only=(LOKY,),
    sizes={"full": {"calls": 1_000}, "quick": {"calls": 500}, "smoke": {"calls": 20}},
    rounds=ROUNDS,
    targets=(Target("rate", 1.5, (FORKSERVER,)),),
)

_TIMES = 3


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time some maps on a warm executor."""
    numbers = range(size["calls"])
    with open_peer(contender) as peer:
        peer.map_over(RESULTS[case], numbers[:50], 1)
        start = time.perf_counter()
        for _ in range(_TIMES):
            assert len(peer.map_over(RESULTS[case], numbers, 1)) == len(numbers)
        elapsed = time.perf_counter() - start
    return {"rate": _TIMES * len(numbers) / elapsed}
