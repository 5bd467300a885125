"""What do calls that share multiprocessing's locks and queues pay beside threads that do?"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any

from ..contenders.peers import THREADS
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target

TWO, ONE = "2 workers", "1 worker"
_WORKERS = {TWO: 2, ONE: 1}

QUESTION = Question(
    title="multiprocessing's lock and queue",
    method=(
        "Calls share a Lock and a Queue of multiprocessing, from initargs; there is a thread for "
        "each call of ThreadPoolExecutor's. 200 calls sleep for 1 ms under the lock: from submit "
        "to the last result. 10 calls do so again and again, for 2 s: how often the least lucky "
        "did, by the median. 5,000 calls wait for the lock, which is held, for 2 s (quick: 2,000, "
        "1 s): CPU time of all processes by elapsed time. 50 calls put 100 numbers each into the "
        "queue, while 100 get 50 each."
    ),
    metrics=(
        Metric("locked", "ms", "200 × 1 ms under one lock"),
        Metric("least", "×", "least turns of ten takers, by the median", higher_is_better=True),
        Metric("waiting", "cores", "CPU while 5,000 calls wait for a lock"),
        Metric("queue", "ms", "5,000 items through a queue"),
    ),
    contenders=(OURS, THREADS),
    cases=(TWO, ONE),
    full_only=(ONE,),
    sizes={
        "full": {"locked": 200, "seconds": 2.0, "waiting": 5_000, "putters": 50},
        "quick": {"locked": 200, "seconds": 1.0, "waiting": 2_000, "putters": 50},
        "smoke": {"locked": 20, "seconds": 0.05, "waiting": 20, "putters": 2},
    },
    rounds=FEW_ROUNDS,
    targets=(
        Target("locked", 1.3, (THREADS,)),
        Target("least", 0.5),
        Target("waiting", 0.02),
        Target("queue", 2.0, (THREADS,)),
    ),
)

_TAKERS = 10
_ITEMS = 100  # of each that puts; twice as many calls get half as many each
_lock: Any
_queue: Any


def keep(lock: Any, queue: Any) -> None:
    """The initializer."""
    global _lock, _queue
    _lock, _queue = lock, queue


def hold() -> None:
    """Take the lock, for a moment."""
    with _lock:
        time.sleep(0.001)


def hold_again(seconds: float) -> int:
    """Do so as often as it goes."""
    turns = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hold()
        turns += 1
    return turns


def put() -> None:
    """Put some numbers into the queue."""
    for number in range(_ITEMS):
        _queue.put(number)


def get() -> None:
    """Get half as many."""
    for _ in range(_ITEMS // 2):
        _queue.get()


@contextmanager
def _open(contender: str, workers: int, calls: int) -> Iterator[tuple[Executor, Any]]:
    # Locks of the start method "fork" would have all workers forked.
    context = multiprocessing.get_context("spawn")
    tools = context.Lock(), context.Queue()
    executor: Executor
    if contender == THREADS:
        executor = ThreadPoolExecutor(3 * _ITEMS, initializer=keep, initargs=tools)
    else:
        from hybridexec import HybridExecutor

        with warnings.catch_warnings():
            # Calls that wait for a lock take no descriptors.
            warnings.simplefilter("ignore", RuntimeWarning)
            executor = HybridExecutor(
                workers, concurrency=calls // workers, initializer=keep, initargs=tools
            )
    with executor:
        _all([executor.submit(time.sleep, 0.1) for _ in range(3 * _ITEMS)])  # all are up
        _all([executor.submit(hold) for _ in range(20)])
        yield executor, tools[0]


def _all(futures: list[Future[Any]]) -> list[Any]:
    return [future.result() for future in futures]


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Each in turn, with the same workers."""
    from ..harness import processes

    figures = {}
    with _open(contender, _WORKERS[case], size["waiting"] + 1_000) as (executor, lock):
        start = time.perf_counter()
        _all([executor.submit(hold) for _ in range(size["locked"])])
        figures["locked"] = (time.perf_counter() - start) * 1e3

        turns = _all([executor.submit(hold_again, size["seconds"]) for _ in range(_TAKERS)])
        figures["least"] = min(turns) / median(turns)

        start = time.perf_counter()
        putting = [executor.submit(put) for _ in range(size["putters"])]
        _all([executor.submit(get) for _ in range(2 * size["putters"])] + putting)
        figures["queue"] = (time.perf_counter() - start) * 1e3

        # Threads that wait use nothing, and so many are too many.
        if contender != THREADS:
            with lock:
                waiting = [executor.submit(hold) for _ in range(size["waiting"])]
                time.sleep(size["seconds"])
                family = [processes.this(), *processes.relatives()]
                start, before = time.perf_counter(), processes.cpu_seconds(family)
                time.sleep(size["seconds"])
                used = processes.cpu_seconds(family) - before
                figures["waiting"] = used / (time.perf_counter() - start)
                for future in waiting:
                    future.cancel()
            _all([future for future in waiting if not future.cancelled()])
    return figures
