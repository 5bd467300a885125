"""What do the methods of a pool get through, beside those of multiprocessing's?"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import time
from typing import Any

from hybridexec import Pool

from ..contenders import calls, data
from ..contenders.peers import POOL
from ..harness.question import OURS, ROUNDS, Metric, Question, Size

NUMBERS, DICTS, AS_THEY_COME, ASYNC = "map, numbers", "map, dicts", "imap, numbers", "apply_async"

QUESTION = Question(
    title="A pool's methods",
    method=(
        "`hybridexec.Pool` and `multiprocessing.Pool` (fork), of 2 workers, which have run calls "
        "before: `map` of numbers and of nested dicts (160 bytes of pickle), with the chunks that "
        "the pool chooses; `imap` of numbers, chunksize 1; `apply_async` for each, and then each "
        "`get`. The function returns its argument. Ours makes a call of each item, the other one "
        "of each chunk."
    ),
    metrics=(Metric("rate", "items/s", "per second", True),),
    contenders=(OURS, POOL),
    cases=(NUMBERS, DICTS, AS_THEY_COME, ASYNC),
    sizes={
        "full": {NUMBERS: 200_000, DICTS: 40_000, AS_THEY_COME: 20_000, ASYNC: 20_000},
        "quick": {NUMBERS: 100_000, DICTS: 20_000, AS_THEY_COME: 5_000, ASYNC: 5_000},
        "smoke": dict.fromkeys((NUMBERS, DICTS, AS_THEY_COME, ASYNC), 100),
    },
    rounds=ROUNDS,
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one case on a warm pool."""
    count = size[case]
    items = [data.record(n) for n in range(count)] if case == DICTS else list(range(count))
    run = {AS_THEY_COME: _imap, ASYNC: _apply_async}.get(case, _map)
    with _pool(contender) as pool:
        run(pool, items[: count // 10])
        start = time.perf_counter()
        results = run(pool, items)
        elapsed = time.perf_counter() - start
    assert len(results) == count
    return {"rate": count / elapsed}


def _pool(contender: str) -> multiprocessing.pool.Pool:
    return Pool(2) if contender == OURS else multiprocessing.get_context("fork").Pool(2)


def _map(pool: multiprocessing.pool.Pool, items: list[Any]) -> list[Any]:
    return pool.map(calls.same, items)


def _imap(pool: multiprocessing.pool.Pool, items: list[Any]) -> list[Any]:
    return list(pool.imap(calls.same, items))


def _apply_async(pool: multiprocessing.pool.Pool, items: list[Any]) -> list[Any]:
    return [result.get() for result in [pool.apply_async(calls.same, (item,)) for item in items]]
