"""How long do 50,000 coroutines that sleep for two seconds take, and how much memory?"""

from __future__ import annotations

import threading
import time

from ..contenders.calls import async_sleep
from ..contenders.coroutines import COROUTINES, open_map
from ..contenders.peers import AIO, WORKERS
from ..harness.question import FEW_ROUNDS, Metric, Question, Size, Target

QUESTION = Question(
    title="asyncio.sleep, all calls in flight",
    method=(
        "50,000 × asyncio.sleep(2) in 2 processes × 25,000 (quick: 20,000 × asyncio.sleep(1)), "
        "which have answered a call before. Memory: the growth of the private memory (USS) of "
        "parent and workers to the most it is meanwhile, by the number of calls. All have "
        "asyncio's own loop, unless uvloop is named."
    ),
    metrics=(
        Metric("wall", "s", "until the last result"),
        Metric("memory", "KiB", "memory per call"),
    ),
    contenders=COROUTINES,
    sizes={
        "full": {"calls": 50_000, "seconds": 2.0},
        "quick": {"calls": 20_000, "seconds": 1.0},
        "smoke": {"calls": 20, "seconds": 0.2},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("wall", 1.0, (AIO,)), Target("memory", 1.2, (AIO,))),
)

_PERIOD = 0.1


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all sleeps, and watch the memory meanwhile."""
    from ..harness import processes

    count = size["calls"]
    with open_map(contender, count // WORKERS) as map_all:
        map_all(async_sleep, [0.3] * WORKERS)  # long enough to need every worker
        all_of_us = [processes.this(), *processes.relatives()]
        before = processes.private_bytes(all_of_us)
        most, ended = before, threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(_PERIOD):
                most = max(most, processes.private_bytes(all_of_us))

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        map_all(async_sleep, [size["seconds"]] * count)
        wall = time.perf_counter() - start
        ended.set()
        watcher.join()
    return {"wall": wall, "memory": (most - before) / count / 1024}
