"""What does it cost a call that people see it run?"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..contenders import calls
from ..contenders.peers import DASK, FORKSERVER, MPIRE, WORKERS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, require

PAGE = f"{OURS}, page"
TQDM = f"{FORKSERVER}, tqdm"
MPIRE_PROGRESS, INSIGHTS = f"{MPIRE}, progress", f"{MPIRE}, insights"
DASK_PAGE = f"{DASK}, page"

QUESTION = Question(
    title="The cost of showing calls",
    method=(
        "No-op map, one item in a chunk, 2 workers, which have run calls before; in turn without "
        "and with what shows it: a bar of tqdm's (it draws into nothing), by `progress` in ours; a "
        "page that is being served; mpire's insights. What is shown is the mean of three of each."
    ),
    metrics=(
        Metric("bare", "µs", "a call that nobody sees"),
        Metric("shown", "µs", "a call that is shown"),
    ),
    contenders=(OURS, PAGE, TQDM, MPIRE_PROGRESS, INSIGHTS, DASK_PAGE),
    sizes={
        "full": {OURS: 200_000, PAGE: 200_000, DASK_PAGE: 2_000, "others": 10_000},
        "quick": {OURS: 50_000, PAGE: 50_000, DASK_PAGE: 500, "others": 3_000},
        "smoke": {"others": 20},
    },
    rounds=ROUNDS,
)

#: Runs over so many items.
Run = Callable[[int], object]


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time maps without and with, in turn."""
    count = size.get(contender, size["others"])
    seconds: dict[str, list[float]] = {"bare": [], "shown": []}
    with open(os.devnull, "w") as nowhere, _WAYS[contender](nowhere) as ways:
        for run in ways.values():
            run(max(1, count // 10))
        for _ in range(3):
            for name, run in ways.items():
                start = time.perf_counter()
                run(count)
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.mean(each) / count * 1e6 for name, each in seconds.items()}


def _bar(nowhere: Any, count: int | None = None) -> Any:
    return require("tqdm").tqdm(total=count, file=nowhere)


@contextmanager
def _progress(nowhere: Any) -> Iterator[dict[str, Run]]:
    with open_peer(OURS) as peer:
        executor: Any = peer
        mapped = executor.executor.map
        yield {
            "bare": lambda count: list(mapped(calls.same, range(count))),
            "shown": lambda count: list(mapped(calls.same, range(count), progress=_bar(nowhere))),
        }


@contextmanager
def _page(nowhere: Any) -> Iterator[dict[str, Run]]:
    require("bokeh")
    with open_peer(OURS) as bare, open_peer(OURS) as shown:
        executor: Any = shown
        executor.executor.dashboard()
        yield {"bare": lambda count: bare.map(count, 1), "shown": lambda count: shown.map(count, 1)}


@contextmanager
def _tqdm(nowhere: Any) -> Iterator[dict[str, Run]]:
    with open_peer(FORKSERVER) as peer:
        executor: Any = peer
        mapped = executor.executor.map

        def shown(count: int) -> object:
            return list(
                require("tqdm").tqdm(mapped(calls.same, range(count)), total=count, file=nowhere)
            )

        yield {"bare": lambda count: list(mapped(calls.same, range(count))), "shown": shown}


@contextmanager
def _mpire(insights: bool, nowhere: Any) -> Iterator[dict[str, Run]]:
    mpire = require("mpire")

    def run(pool: Any, count: int, **options: Any) -> object:
        return pool.map(calls.same, range(count), chunk_size=1, **options)

    def pool(**options: Any) -> Any:
        return mpire.WorkerPool(WORKERS, start_method="fork", keep_alive=True, **options)

    with pool() as bare, pool(enable_insights=insights) as shown:
        drawn: dict[str, Any] = (
            {} if insights else {"progress_bar": True, "progress_bar_options": {"file": nowhere}}
        )
        yield {
            "bare": lambda count: run(bare, count),
            "shown": lambda count: run(shown, count, **drawn),
        }


@contextmanager
def _dask(nowhere: Any) -> Iterator[dict[str, Run]]:
    distributed = require("distributed")

    def client(address: str | None) -> Any:
        return distributed.Client(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=address, set_as_default=False
        )

    def run(client: Any, count: int) -> object:
        return client.gather(client.map(calls.same, range(count), pure=False))

    with client(None) as bare, client("127.0.0.1:0") as shown:
        yield {"bare": lambda count: run(bare, count), "shown": lambda count: run(shown, count)}


_WAYS: dict[str, Callable[[Any], Any]] = {
    OURS: _progress,
    PAGE: _page,
    TQDM: _tqdm,
    MPIRE_PROGRESS: lambda nowhere: _mpire(False, nowhere),
    INSIGHTS: lambda nowhere: _mpire(True, nowhere),
    DASK_PAGE: _dask,
}
