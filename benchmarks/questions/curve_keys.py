"""What does a call with limits cost, with more and more keys?"""

from __future__ import annotations

import resource
import time

from hybridexec import HybridExecutor

from ..contenders.calls import same
from ..contenders.peers import WORKERS
from ..harness.question import OURS, ROUNDS, Metric, Question, Size

#: No limits, or no keys.
NONE, RATE = f"{OURS}, no limits", f"{OURS}, rate"
KEYS = ("1", "100", "10000", "100000")

QUESTION = Question(
    title="Limits, with more and more keys",
    method=(
        "`map_unordered` of no-ops, each key's in turn, in a view with `per_key=1000`; or with a "
        "`rate` that no program reaches; or without limits. CPU time of the parent, which keeps to "
        "limits; its memory in RAM grows by so much meanwhile."
    ),
    metrics=(
        Metric("cpu", "µs", "CPU time of the parent for a call"),
        Metric("memory", "MB", "more memory of the parent", of_each=False),
    ),
    contenders=(OURS, RATE, NONE),
    cases=KEYS,
    sizes={
        "full": {"calls": 100_000},
        "quick": {"calls": 20_000},
        "smoke": {"calls": 20},
    },
    rounds=ROUNDS,
    full_only=("100000",),
    axis="keys",
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Run all calls on a warm executor."""
    keys = int(case)
    with HybridExecutor(WORKERS) as executor:
        view = executor.options()
        if contender == OURS:
            view = executor.options(key=lambda number: number % keys, per_key=1000)
        elif contender == RATE:
            view = executor.options(rate=1e9)
        list(view.map_unordered(same, range(size["calls"] // 10)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        for _ in view.map_unordered(same, range(size["calls"])):
            pass
        seconds = time.process_time() - began
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"cpu": seconds / size["calls"] * 1e6, "memory": (after - before) / 1024}
