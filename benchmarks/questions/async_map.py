"""How many coroutines that do nothing does map get through in a second?"""

from __future__ import annotations

from ..contenders.coroutines import COROUTINES, open_map, same
from ..contenders.peers import AIO
from ..harness.question import ROUNDS, Metric, Question, Size, Target

QUESTION = Question(
    title="No-op map of coroutines",
    method=(
        "`map` of an async function that returns its argument; 2 workers × 100, which have run "
        "calls before. CPU: user and system time of parent and workers. All have asyncio's own "
        "loop, unless uvloop is named."
    ),
    metrics=(
        Metric("rate", "items/s", "mapped per second", True),
        Metric("cpu", "µs", "CPU per item"),
    ),
    contenders=COROUTINES,
    sizes={
        "full": {"ours": 400_000, "theirs": 40_000},
        "quick": {"ours": 100_000, "theirs": 10_000},
        "smoke": {"ours": 20, "theirs": 20},
    },
    rounds=ROUNDS,
    targets=(Target("rate", 8.0, (AIO,)), Target("cpu", 0.125, (AIO,))),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map on warm workers."""
    from ..harness import processes

    count = size["theirs" if contender == AIO else "ours"]
    with open_map(contender, 100) as map_all:
        map_all(same, range(count // 10))
        cost = processes.cost(lambda: len(map_all(same, range(count))), count)
    return {"rate": count / cost["wall"], "cpu": cost["cpu"]}
