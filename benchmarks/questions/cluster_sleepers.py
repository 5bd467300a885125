"""How much longer do sleeps take on two nodes than on one machine?"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..contenders import calls, clusters
from ..contenders.peers import WORKERS
from ..contenders.sleeping import Run, open_runner
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

ALONE = f"{OURS}, one machine"

QUESTION = Question(
    title="time.sleep on two nodes",
    method=(
        "50,000 × time.sleep(2) on two nodes of one worker × 25,000, beside one HybridExecutor of "
        "2 workers × 25,000 (quick: 20,000 × time.sleep(1)). From when both workers have answered "
        "a call to when the client has the last result."
    ),
    metrics=(Metric("wall", "s", "until the last result"),),
    contenders=(OURS, ALONE),
    sizes={
        "full": {"calls": 50_000, "seconds": 2.0},
        "quick": {"calls": 20_000, "seconds": 1.0},
        "smoke": {"calls": 20, "seconds": 0.01},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("wall", 1.15, (ALONE,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all sleeps, from a warm start."""
    count, seconds = size["calls"], size["seconds"]
    with _open(contender, count // WORKERS) as run:
        run(WORKERS, 0.3)  # long enough to need every worker
        start = time.perf_counter()
        run(count, seconds)
        return {"wall": time.perf_counter() - start}


@contextmanager
def _open(contender: str, limit: int) -> Iterator[Run]:
    if contender == ALONE:
        with open_runner(OURS, limit) as run:
            yield run
        return
    with (
        clusters.running(WORKERS) as cluster,
        # Sleeping takes no descriptors.
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),
        clusters.open_on(cluster, OURS, limit) as peer,
    ):

        def run_map(count: int, seconds: float) -> None:
            assert len(peer.map_over(calls.sleep, [seconds] * count, None)) == count

        yield run_map
