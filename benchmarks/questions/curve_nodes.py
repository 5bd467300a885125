"""Does a call cost the client more when there are more nodes?"""

from __future__ import annotations

import time

from ..contenders import calls, clusters, data
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size

QUESTION = Question(
    title="As nodes grow",
    method=(
        "Small nodes of one CPU, in two processes; one worker × 100 on each. A map of dicts "
        "(160 bytes of pickle), as many for each node, whatever their number. CPU time of the "
        "client's process, all threads, by calls; and by seconds, while nothing is to be done."
    ),
    metrics=(
        Metric("cpu", "µs", "CPU time of the client per call"),
        Metric("idle", "ms", "CPU time of the idle client per second", of_each=False),
    ),
    contenders=(OURS,),
    cases=("2", "8", "32", "64"),
    full_only=("32", "64"),
    axis="nodes",
    sizes={
        "full": {"calls": 2_000, "seconds": 3.0},
        "quick": {"calls": 1_000, "seconds": 1.0},
        "smoke": {"calls": 10, "seconds": 0.1},
    },
    rounds=FEW_ROUNDS,
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Give all nodes calls, then none."""
    nodes = int(case)
    count = nodes * size["calls"]
    items = [data.record(number) for number in range(count)]
    with clusters.simulated(nodes) as cluster, clusters.open_on(cluster, contender, 100) as peer:
        # As many unfinished calls as workers: each starts, and has one.
        peer.map_over(calls.sleep, [1.0] * nodes, None)
        cpu = time.process_time()
        assert len(peer.map_over(calls.same, items, None)) == count
        cpu = time.process_time() - cpu
        idle, start = time.process_time(), time.perf_counter()
        time.sleep(size["seconds"])
        idle = (time.process_time() - idle) / (time.perf_counter() - start)
    return {"cpu": cpu / count * 1e6, "idle": idle * 1e3}
