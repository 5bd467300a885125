"""Does a call cost more when more of them are in flight in a worker?"""

from __future__ import annotations

import time

from ..contenders.pair import PAIR
from ..contenders.peers import WORKERS
from ..contenders.sleeping import open_runner
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size

QUESTION = Question(
    title="As concurrency grows",
    method=(
        "As many calls of time.sleep(2) (quick: 1) as 2 warm workers run at once. CPU: user and "
        "system time of parent and workers."
    ),
    metrics=(
        Metric("cpu", "µs", "CPU per call"),
        Metric("wall", "µs", "wall beyond the sleep, per call"),
    ),
    contenders=(OURS, PAIR),
    cases=("100", "1000", "5000", "10000", "25000"),
    full_only=("100", "10000", "25000"),
    axis="calls at once in each worker",
    sizes={"full": {"seconds": 2.0}, "quick": {"seconds": 1.0}, "smoke": {"seconds": 0.01}},
    rounds=FEW_ROUNDS,
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Fill every slot once."""
    from ..harness import processes

    limit, seconds = int(case), size["seconds"]
    with open_runner(contender, limit) as run:
        run(WORKERS, 0.3)
        family = [processes.this(), *processes.relatives()]
        cpu, start = processes.cpu_seconds(family), time.perf_counter()
        run(WORKERS * limit, seconds)
        wall = time.perf_counter() - start - seconds
        cpu = processes.cpu_seconds(family) - cpu
    count = WORKERS * limit
    return {"cpu": cpu / count * 1e6, "wall": wall / count * 1e6}
