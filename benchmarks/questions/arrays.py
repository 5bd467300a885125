"""How many megabytes a second of a large array go to a worker, and come back?"""

from __future__ import annotations

import time
from statistics import median

from ..contenders import calls
from ..contenders.peers import LOKY, MPIRE, PEBBLE, POOL, PROCESS_POOLS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target, require

ARGUMENT, RESULT = "as argument", "as result"

QUESTION = Question(
    title="64 MiB numpy array",
    method=(
        "One call at a time with an array of 64 MiB (quick: the same) as its argument or its "
        "result; whoever gets it reads a number of every page. The median time of 5 calls (quick: "
        "3) on one worker, which has done the same before."
    ),
    metrics=(Metric("rate", "MB/s", "megabytes per second", True),),
    contenders=(OURS, *PROCESS_POOLS, POOL, LOKY, PEBBLE, MPIRE),
    cases=(ARGUMENT, RESULT),
    full_only=(POOL, LOKY, PEBBLE, MPIRE),
    sizes={
        "full": {"megabytes": 64, "calls": 5},
        "quick": {"megabytes": 64, "calls": 3},
        "smoke": {"megabytes": 1, "calls": 1},
    },
    rounds=ROUNDS,
    targets=(Target("rate", 2.0, PROCESS_POOLS),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time single calls."""
    require("numpy")
    megabytes, times = size["megabytes"], []
    array = calls.array(megabytes)
    total = calls.touch(array)
    with open_peer(contender, workers=1) as peer:
        for _ in range(1 + size["calls"]):
            start = time.perf_counter()
            if case == ARGUMENT:
                answer = peer.take(peer.submit(calls.touch, array))
            else:
                answer = calls.touch(peer.take(peer.submit(calls.array, megabytes)))
            times.append(time.perf_counter() - start)
            assert answer == total
    return {"rate": megabytes * 2**20 / 1e6 / median(times[1:])}
