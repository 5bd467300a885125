"""What is each lane good for?"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import time
from typing import Any

from ..contenders.peers import WORKERS
from ..harness.question import OURS, ROUNDS, Metric, Question, Size

ASYNC, THREAD = f"{OURS}, async lane", f"{OURS}, thread lane"
SLEEP, AWAIT, WAIT_IN_C, HASH = "time.sleep", "await", "wait in C", "hash"

QUESTION = Question(
    title="The lanes",
    method=(
        "The same calls in each lane, 2 warm workers, with 100 slots each, or 20 threads: 50 ms "
        "of `time.sleep`; of `await asyncio.sleep`; of waiting in C, in libc's `usleep`, which "
        "lets go of the GIL as most libraries do; and SHA-256 of 1 MB, which does so too."
    ),
    metrics=(Metric("rate", "calls/s", "calls per second", higher_is_better=True),),
    contenders=(OURS, ASYNC, THREAD),
    cases=(SLEEP, AWAIT, WAIT_IN_C, HASH),
    sizes={"full": {"calls": 2_000}, "quick": {"calls": 400}, "smoke": {"calls": 4}},
    rounds=ROUNDS,
)

_SECONDS = 0.05
_DATA = bytes(1_000_000)
_LANES = {OURS: "greenlet", ASYNC: "async", THREAD: "thread"}


def _sleep(number: int) -> None:
    time.sleep(_SECONDS)


async def _await(number: int) -> None:
    await asyncio.sleep(_SECONDS)


def _await_alone(number: int) -> None:
    """What one does without a lane for it."""
    asyncio.run(_await(number))


def _wait_in_c(number: int) -> None:
    ctypes.CDLL(None).usleep(int(_SECONDS * 1e6))


def _hash(number: int) -> bytes:
    return hashlib.sha256(_DATA).digest()


#: Where a call keeps all others of its worker waiting.
_HELD = {SLEEP: (ASYNC,), WAIT_IN_C: (OURS, ASYNC)}
_CALLS: dict[str, Any] = {SLEEP: _sleep, WAIT_IN_C: _wait_in_c, HASH: _hash}


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Run the calls of a case in one lane; fewer, where they run one after the other."""
    from hybridexec import HybridExecutor

    if case == AWAIT:
        call: Any = _await if contender == ASYNC else _await_alone
    else:
        call = _CALLS[case]
    holds = contender in _HELD.get(case, ())
    count = max(WORKERS, size["calls"] // 20) if holds else size["calls"]
    with HybridExecutor(WORKERS) as executor:
        lane = executor.options(lane=_LANES[contender])
        list(lane.map(call, range(WORKERS)))
        start = time.perf_counter()
        list(lane.map(call, range(count)))
        return {"rate": count / (time.perf_counter() - start)}
