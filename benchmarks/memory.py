"""How much memory does a call in flight take?"""

from __future__ import annotations

import threading
import time

from .question import Metric, Question, Size
from .sleepers import PAIR, open_runner

QUESTION = Question(
    title="Memory per call in flight",
    method=(
        "Calls of time.sleep, all in flight at once on 2 warm workers. The growth of the private "
        "memory (USS) of the parent, and of all its descendants, to the most it is while they "
        "sleep, by the number of calls."
    ),
    metrics=(
        Metric("parent", "KiB", "parent's memory per call"),
        Metric("workers", "KiB", "workers' memory per call"),
    ),
    contenders=("hybridexec", "hybridexec, submit", PAIR, "aiomultiprocess"),
    sizes={
        "full": {"calls": 20_000, "seconds": 3.0},
        "quick": {"calls": 10_000, "seconds": 2.0},
        "smoke": {"calls": 20, "seconds": 0.2},
    },
    rounds={"full": 3, "quick": 2, "smoke": 1},
)

_PERIOD = 0.1


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Watch the memory while the calls sleep."""
    from . import processes

    count = size["calls"]
    with open_runner(contender, count // 2) as run:
        run(2, 0.3)
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
    return {
        "parent": (most[0] - before[0]) / count / 1024,
        "workers": (most[1] - before[1]) / count / 1024,
    }
