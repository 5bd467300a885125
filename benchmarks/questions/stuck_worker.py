"""One worker is stuck in C code with the GIL held: what do the others still do?"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future
from typing import Any

from ..contenders import calls
from ..contenders.peers import FORKSERVER, LOKY, ExecutorPeer, open_peer
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

QUESTION = Question(
    title="Throughput beside a stuck worker",
    method=(
        "2 warm workers, one of which runs a regular expression that never ends and holds the GIL. "
        "Calls of time.sleep(0.02) are fed, 300 unfinished at any time; how many end in 3 s, by "
        "how many do in an executor of a single worker with nobody beside it. (Calls that were "
        "sent to the stuck worker and wait there count among the 300.)"
    ),
    metrics=(Metric("kept", "×", "throughput kept", higher_is_better=True),),
    contenders=(OURS, FORKSERVER, LOKY),
    full_only=(FORKSERVER, LOKY),
    sizes={
        "full": {"seconds": 3.0, "sleep": 0.02, "limit": 300},
        "quick": {"seconds": 1.0, "sleep": 0.02, "limit": 300},
        "smoke": {"seconds": 0.2, "sleep": 0.001, "limit": 300},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("kept", 0.8),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """The rate beside a stuck worker by the rate of one alone."""
    with open_peer(contender, workers=1) as alone:
        assert isinstance(alone, ExecutorPeer)
        alone.run_noops(50)
        whole = _rate(alone.executor, size)
    with open_peer(contender) as peer:
        assert isinstance(peer, ExecutorPeer)
        peer.run_noops(50)
        for future in [peer.executor.submit(calls.sleep, 0.3) for _ in range(2)]:
            future.result()  # both workers are up
        stuck = peer.executor.submit(calls.hold_gil)
        while not stuck.running():
            time.sleep(0.01)
        time.sleep(0.1)  # it runs, wherever it is
        kept = _rate(peer.executor, size)
        assert not stuck.done()
        executor: Any = peer.executor
        for pid in list(executor._processes):
            os.kill(pid, signal.SIGKILL)
    return {"kept": kept / whole}


def _rate(executor: Any, size: Size) -> float:
    """Calls a second, for so many seconds."""
    room = threading.Semaphore(size["limit"])
    ended = 0
    over = False

    def count(_: Future[None]) -> None:
        nonlocal ended
        if not over:
            ended += 1
        room.release()

    begin = time.perf_counter()
    # Until one has ended, however slow the machine is.
    while (elapsed := time.perf_counter() - begin) < size["seconds"] or not ended:
        if room.acquire(timeout=0.05):
            executor.submit(calls.sleep, size["sleep"]).add_done_callback(count)
    over = True
    return ended / elapsed
