"""What does it cost that an executor is watched?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hybridexec import HybridExecutor
from hybridexec.parent.pool.tally import Tally

from ..contenders.peers import WORKERS, HybridPeer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

SUBMIT, CHUNK_1, CHUNK_1000 = "submit", "map, chunksize 1", "map, chunksize 1000"
UNCOUNTED, OBSERVED = f"{OURS}, not counting", f"{OURS}, observed"

QUESTION = Question(
    title="The cost of being watched",
    method=(
        "No-op calls as in the first two questions. *Not counting*: with everything taken out that "
        "`stats()` needs, in the parent and in the workers. *Observed*: with an observer of all "
        "events, which adds up how many calls they tell of."
    ),
    metrics=(Metric("rate", "calls/s", "answered per second", True),),
    contenders=(OURS, UNCOUNTED, OBSERVED),
    cases=(SUBMIT, CHUNK_1, CHUNK_1000),
    sizes={
        "full": {SUBMIT: 100_000, CHUNK_1: 400_000, CHUNK_1000: 2_000_000},
        "quick": {SUBMIT: 30_000, CHUNK_1: 100_000, CHUNK_1000: 500_000},
        "smoke": {SUBMIT: 20, CHUNK_1: 20, CHUNK_1000: 2_000},
    },
    rounds=ROUNDS,
    targets=(Target("rate", 0.95, (UNCOUNTED,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all calls on a warm executor."""
    count = size[case]
    with _open(contender) as peer:
        _run(peer, case, count // 10)
        start = time.perf_counter()
        _run(peer, case, count)
        elapsed = time.perf_counter() - start
    return {"rate": count / elapsed}


def _run(peer: HybridPeer, case: str, count: int) -> None:
    if case == SUBMIT:
        peer.run_noops(count)
    else:
        peer.map(count, 1 if case == CHUNK_1 else 1000)


@contextmanager
def _open(contender: str) -> Iterator[HybridPeer]:
    preload = []
    if contender == UNCOUNTED:
        for name in ("add", "started", "finish", "cancel", "end", "mark"):
            setattr(Tally, name, _nothing)
        preload.append("benchmarks.contenders.uncounted")
    with HybridExecutor(WORKERS, preload=preload) as executor:
        told = 0

        def observer(event: Any) -> None:
            nonlocal told
            told += getattr(event, "count", 0)

        if contender == OBSERVED:
            executor.observe(observer)
        yield HybridPeer(executor)
    assert told or contender != OBSERVED


def _nothing(self: Tally, *_: Any) -> None:
    pass
