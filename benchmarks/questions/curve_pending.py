"""What does a future cost while it waits among many, and do they stay usable?"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ..contenders import calls
from ..contenders.peers import FORK, THREADS, WORKERS, ExecutorPeer, open_peer
from ..harness.question import OURS, Metric, Question, Size, Skip

QUESTION = Question(
    title="As pending futures grow",
    method=(
        "All slots of 2 workers are held by calls that wait. Then: submit so many no-ops; cancel "
        "every other one; let go, and take the results of the rest. Memory: the parent's private "
        "memory (USS) after the last submit, less that before the first."
    ),
    metrics=(
        Metric("submit", "µs", "submit"),
        Metric("memory", "B", "memory"),
        Metric("cancel", "µs", "cancel"),
        Metric("result", "µs", "run and result"),
    ),
    contenders=(OURS, FORK, THREADS),
    cases=("10000", "100000", "300000", "1000000"),
    full_only=("300000", "1000000", FORK),
    axis="pending futures",
    sizes={
        "full": {"most": {FORK: 100_000}},
        "quick": {"most": {}},
        "smoke": {"most": {}},
    },
    rounds={"full": 3, "quick": 1, "smoke": 1},
)

#: How many calls fill all slots.
_SLOTS = {OURS: WORKERS * 100}


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Take the futures through their life, all of them one step at a time."""
    from ..harness import processes

    count, parent = int(case), [processes.this()]
    if count > size["most"].get(contender, count):
        raise Skip("takes too long")
    with TemporaryDirectory() as folder, open_peer(contender) as peer:
        assert isinstance(peer, ExecutorPeer)
        peer.run_noops(500)
        signal = Path(folder) / "go"
        submit = peer.executor.submit
        holders = [
            submit(calls.wait_for, str(signal)) for _ in range(_SLOTS.get(contender, WORKERS))
        ]
        while not all(holder.running() for holder in holders):
            time.sleep(0.01)
        memory, start = processes.private_bytes(parent), time.perf_counter()
        futures = [submit(calls.noop) for _ in range(count)]
        submitted = time.perf_counter() - start
        memory = processes.private_bytes(parent) - memory
        start = time.perf_counter()
        for future in futures[1::2]:
            # A few are on their way to a worker already: there the others cannot cancel them.
            future.cancel()
        cancelled = time.perf_counter() - start
        kept = futures[::2]
        start = time.perf_counter()
        signal.touch()
        for future in kept:
            future.result()
        taken = time.perf_counter() - start
    return {
        "submit": submitted / count * 1e6,
        "memory": memory / count,
        "cancel": cancelled / (count // 2) * 1e6,
        "result": taken / len(kept) * 1e6,
    }
