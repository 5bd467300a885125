"""What does a call cost in the thread lane, and do all that wait in C wait at once?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..contenders import calls
from ..contenders.peers import THREADS, WORKERS
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

#: As many as wait at once in each worker; a ThreadPoolExecutor has all of them.
_THREADS = 64
NOOPS, WAITS, SHORT_WAITS = "no-op", "64 × 2 waits of 1 s", "waits of 0.3 ms"

QUESTION = Question(
    title="Thread lane",
    method=(
        '`options(lane="thread").map` with threads=64, beside a ThreadPoolExecutor with as many '
        "threads. No-op: one worker, `identity`, chunksize 1. Waits: `usleep` by ctypes, which "
        "Python cannot interrupt; 128 of 1 s in 2 workers, of which as many are in flight as "
        "the wall time tells; and many of 0.3 ms in one worker. All warm."
    ),
    metrics=(Metric("rate", "calls/s", "ended per second", True),),
    contenders=(OURS, THREADS),
    cases=(NOOPS, WAITS, SHORT_WAITS),
    sizes={
        "full": {NOOPS: 100_000, WAITS: 128, SHORT_WAITS: 10_000},
        "quick": {NOOPS: 20_000, WAITS: 128, SHORT_WAITS: 2_000},
        "smoke": {NOOPS: 50, WAITS: 4, SHORT_WAITS: 20},
    },
    rounds=ROUNDS,
    targets=(
        Target("rate", 1.5, (THREADS,), cases=(NOOPS,)),
        Target("rate", 0.8, (THREADS,), cases=(WAITS,)),
    ),
)

Map = Callable[..., Iterator[Any]]


@contextmanager
def _open(contender: str, workers: int) -> Iterator[Map]:
    if contender == OURS:
        from hybridexec import HybridExecutor

        with HybridExecutor(workers, threads=_THREADS) as made:
            yield made.options(lane="thread").map
    else:
        with ThreadPoolExecutor(workers * _THREADS) as executor:
            yield executor.map


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map on workers that have run calls before."""
    count = size[case]
    seconds = {NOOPS: 0.0, WAITS: 1.0, SHORT_WAITS: 0.0003}[case]
    with _open(contender, WORKERS if case == WAITS else 1) as run_map:
        for _ in run_map(calls.wait_in_c, [1000] * 2 * _THREADS):
            pass
        begin = time.perf_counter()
        if case == NOOPS:
            results = run_map(calls.same, range(count))
        else:
            results = run_map(calls.wait_in_c, [int(seconds * 1_000_000)] * count)
        ended = sum(1 for _ in results)
        assert ended == count
        return {"rate": count / (time.perf_counter() - begin)}
