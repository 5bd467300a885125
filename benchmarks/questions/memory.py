"""How much memory does a call in flight take?"""

from __future__ import annotations

import threading
import time

from ..contenders.pair import PAIR
from ..contenders.peers import AIO, SUBMIT, WORKERS
from ..contenders.sleeping import open_runner
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

QUESTION = Question(
    title="Memory per call in flight",
    method=(
        "Calls of time.sleep, all in flight at once in 2 processes: 50,000, in quick 10,000. The "
        "growth of the private memory (USS) of the parent, and of all its "
        "descendants, to the most it is while they sleep, by the number of calls."
    ),
    metrics=(
        Metric("total", "KiB", "memory per call"),
        Metric("parent", "KiB", "of that the parent's"),
        Metric("workers", "KiB", "of that the workers'"),
    ),
    contenders=(OURS, SUBMIT, PAIR, AIO),
    full_only=(AIO,),
    sizes={
        "full": {"calls": 50_000, "seconds": 4.0},
        "quick": {"calls": 10_000, "seconds": 1.2},
        "smoke": {"calls": 20, "seconds": 0.2},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("total", 1.3, (PAIR,)),),
)

_PERIOD = 0.1


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Watch the memory while the calls sleep."""
    from ..harness import processes

    count = size["calls"]
    with open_runner(contender, count // WORKERS) as run:
        run(WORKERS, 0.3)
        parent, workers = [processes.this()], processes.relatives()
        before = processes.private_bytes(parent), processes.private_bytes(workers)
        most = before
        sleepers = threading.Thread(target=run, args=(count, size["seconds"]))
        sleepers.start()
        while sleepers.is_alive():
            time.sleep(_PERIOD)
            now = processes.private_bytes(parent), processes.private_bytes(workers)
            most = max(most[0], now[0]), max(most[1], now[1])
        sleepers.join()
    grown = [(high - low) / count / 1024 for high, low in zip(most, before, strict=True)]
    return {"total": sum(grown), "parent": grown[0], "workers": grown[1]}
