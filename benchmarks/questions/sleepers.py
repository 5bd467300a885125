"""How long do 50,000 sleeps of two seconds take, all in flight at once?"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..contenders import calls
from ..contenders.pair import PAIR, Pair
from ..contenders.peers import AIO, WORKERS, aio_pool
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

WARM, COLD = "warm", "with start-up"
SUBMIT = "hybridexec, submit"

QUESTION = Question(
    title="time.sleep, all calls in flight",
    method=(
        "50,000 × time.sleep(2) in 2 processes × 25,000 (quick: 20,000 × time.sleep(1)). Warm: "
        "from when both processes have answered a call (but no more than that) to when the parent "
        "has the last result. With start-up: from before the executor or the pair is made. The "
        "pair gets its parts of the list as one message each, spawns one gevent greenlet per item "
        "and sends its results back as one list. aiomultiprocess: `map` of an async function over "
        "asyncio.sleep."
    ),
    metrics=(Metric("wall", "s", "until the last result"),),
    contenders=(OURS, SUBMIT, PAIR, AIO),
    cases=(WARM, COLD),
    full_only=(SUBMIT, COLD),
    sizes={
        "full": {"calls": 50_000, "seconds": 2.0},
        "quick": {"calls": 20_000, "seconds": 1.0},
        "smoke": {"calls": 20, "seconds": 0.01},
    },
    rounds=ROUNDS,
    targets=(Target("wall", 1.1, (PAIR,)), Target("wall", 1.0, (AIO,))),
)

#: Runs a number of sleeps of so many seconds at once; returns when all have ended.
Run = Callable[[int, float], None]


@contextmanager
def open_runner(contender: str, limit: int) -> Iterator[Run]:
    """A contender with room for ``limit`` calls in each of its two processes."""
    opener = {PAIR: _pair, AIO: _aio}.get(contender, _hybrid)
    with opener(limit, contender) as run:
        yield run


@contextmanager
def _hybrid(limit: int, contender: str) -> Iterator[Run]:
    from hybridexec import HybridExecutor

    with warnings.catch_warnings():
        # Sleeping takes no descriptors.
        warnings.simplefilter("ignore", RuntimeWarning)
        executor = HybridExecutor(WORKERS, concurrency=limit)
    with executor:

        def run_map(count: int, seconds: float) -> None:
            for _ in executor.map(calls.sleep, [seconds] * count):
                pass

        def run_submit(count: int, seconds: float) -> None:
            futures = [executor.submit(calls.sleep, seconds) for _ in range(count)]
            for future in futures:
                future.result()

        yield run_submit if contender == SUBMIT else run_map


@contextmanager
def _pair(limit: int, _: str) -> Iterator[Run]:
    with Pair(WORKERS) as pair:

        def run(count: int, seconds: float) -> None:
            assert len(pair.run(calls.sleep, [seconds] * count, limit)) == count

        yield run


@contextmanager
def _aio(limit: int, _: str) -> Iterator[Run]:
    with asyncio.Runner() as runner, aio_pool(runner, childconcurrency=limit) as pool:

        async def sleep_all(count: int, seconds: float) -> None:
            await pool.map(calls.async_sleep, [seconds] * count)

        yield lambda count, seconds: runner.run(sleep_all(count, seconds))


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all sleeps, from a warm start or from nothing."""
    count, seconds = size["calls"], size["seconds"]
    start = time.perf_counter()
    with open_runner(contender, count // WORKERS) as run:
        if case == WARM:
            run(WORKERS, 0.3)  # long enough to need every worker
            start = time.perf_counter()
        run(count, seconds)
        return {"wall": time.perf_counter() - start}
