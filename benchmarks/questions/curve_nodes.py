"""Does a call cost the client more when there are more nodes?"""

from __future__ import annotations

import time

from ..contenders import calls, clusters, data
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size

QUESTION = Question(
    title="As nodes grow",
    method=(
        "Small nodes of one CPU, in two processes; one worker × 20 on each; everything on this "
        "machine. CPU time of the client's process, all threads. Steady: a map of calls that sleep "
        "half a second, so each node has 40 of them a second, whatever their number. Burst: a map "
        "of dicts (160 bytes of pickle), as fast as it goes: then the nodes share this machine's "
        "cores, and each does the less at a time the more there are. Idle: nothing is to be done."
    ),
    metrics=(
        Metric("steady", "µs", "CPU time of the client per call, steady"),
        Metric("burst", "µs", "CPU time of the client per call, in a burst"),
        Metric("idle", "ms", "CPU time of the idle client per second", of_each=False),
    ),
    contenders=(OURS,),
    cases=("2", "8", "32", "64"),
    full_only=("32", "64"),
    axis="nodes",
    sizes={
        "full": {"sleeps": 200, "dicts": 2_000, "seconds": 3.0},
        "quick": {"sleeps": 60, "dicts": 1_000, "seconds": 1.0},
        "smoke": {"sleeps": 2, "dicts": 10, "seconds": 0.1},
    },
    rounds=FEW_ROUNDS,
)

_SLOTS = 20


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Give all nodes calls that wait, then calls that do not, then none."""
    nodes = int(case)
    sleeps = [0.5] * (nodes * size["sleeps"])
    dicts = [data.record(number) for number in range(nodes * size["dicts"])]
    with clusters.simulated(nodes) as cluster, clusters.open_on(cluster, contender, _SLOTS) as peer:
        # As many unfinished calls as there are slots: each worker starts, and has some.
        peer.map_over(calls.sleep, [1.0] * nodes * _SLOTS, None)
        cpu = [time.process_time()]
        for function, items in ((calls.sleep, sleeps), (calls.same, dicts)):
            assert len(peer.map_over(function, items, None)) == len(items)
            cpu.append(time.process_time())
        start = time.perf_counter()
        time.sleep(size["seconds"])
        idle = (time.process_time() - cpu[2]) / (time.perf_counter() - start)
    return {
        "steady": (cpu[1] - cpu[0]) / len(sleeps) * 1e6,
        "burst": (cpu[2] - cpu[1]) / len(dicts) * 1e6,
        "idle": idle * 1e3,
    }
