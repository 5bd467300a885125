"""How many calls a second can an event loop have answered?"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager

from hybridexec import HybridExecutor

from ..contenders import calls
from ..contenders.peers import WORKERS
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

RUN_IN_EXECUTOR = f"{OURS}, run_in_executor"
PROCESS_POOL = "ProcessPoolExecutor, run_in_executor"

QUESTION = Question(
    title="No-op calls awaited from asyncio",
    method=(
        "`asyncio.gather` of all calls, on one loop; 2 workers, which have run calls before. "
        "hybridexec by `asubmit`, the others by `loop.run_in_executor`. The CPU time is that of "
        "the loop's process, all threads."
    ),
    metrics=(
        Metric("rate", "calls/s", "awaited and answered per second", True),
        Metric("cpu", "µs", "CPU time of the loop's process per call"),
    ),
    contenders=(OURS, RUN_IN_EXECUTOR, PROCESS_POOL),
    sizes={"full": {"calls": 20_000}, "quick": {"calls": 5_000}, "smoke": {"calls": 20}},
    rounds=ROUNDS,
    targets=(Target("rate", 1.5, (RUN_IN_EXECUTOR,)), Target("rate", 3.0, (PROCESS_POOL,))),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all calls on a warm executor."""
    with _open(contender) as executor:
        return asyncio.run(_measure(executor, contender == OURS, size["calls"]))


def _open(contender: str) -> AbstractContextManager[Executor]:
    return (ProcessPoolExecutor if contender == PROCESS_POOL else HybridExecutor)(WORKERS)


async def _measure(executor: Executor, awaits: bool, count: int) -> dict[str, float]:
    await _run(executor, awaits, count // 10)
    start, cpu = time.perf_counter(), time.process_time()
    await _run(executor, awaits, count)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"rate": count / elapsed, "cpu": cpu / count * 1e6}


async def _run(executor: Executor, awaits: bool, count: int) -> None:
    if awaits:
        assert isinstance(executor, HybridExecutor)
        await asyncio.gather(*[executor.asubmit(calls.noop) for _ in range(count)])
    else:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*[loop.run_in_executor(executor, calls.noop) for _ in range(count)])
