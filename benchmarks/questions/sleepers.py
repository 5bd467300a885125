"""How long do 50,000 sleeps of two seconds take, all in flight at once?"""

from __future__ import annotations

import time

from ..contenders.pair import PAIR
from ..contenders.peers import AIO, SUBMIT, WORKERS
from ..contenders.sleeping import open_runner
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

WARM, COLD = "warm", "with start-up"

QUESTION = Question(
    title="time.sleep, all calls in flight",
    method=(
        "50,000 × time.sleep(2) in 2 processes × 25,000 (quick: 20,000 × time.sleep(1)). Warm: "
        "from when both processes have answered a call (but no more than that) to when the parent "
        "has the last result. With start-up: from before the executor or the pair is made. The "
        "pair gets its parts of the list as one message each, spawns one gevent greenlet per item "
        "and sends its results back as one list. aiomultiprocess: `map` of an async function over "
        "asyncio.sleep."
    ),
    metrics=(Metric("wall", "s", "until the last result"),),
    contenders=(OURS, SUBMIT, PAIR, AIO),
    cases=(WARM, COLD),
    full_only=(SUBMIT, COLD),
    sizes={
        "full": {"calls": 50_000, "seconds": 2.0},
        "quick": {"calls": 20_000, "seconds": 1.0},
        "smoke": {"calls": 20, "seconds": 0.01},
    },
    rounds=ROUNDS,
    targets=(Target("wall", 1.1, (PAIR,)), Target("wall", 1.0, (AIO,))),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all sleeps, from a warm start or from nothing."""
    count, seconds = size["calls"], size["seconds"]
    start = time.perf_counter()
    with open_runner(contender, count // WORKERS) as run:
        if case == WARM:
            run(WORKERS, 0.3)  # long enough to need every worker
            start = time.perf_counter()
        run(count, seconds)
        return {"wall": time.perf_counter() - start}
