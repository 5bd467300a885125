"""What does it cost to fetch thousands of URLs that take 50 ms each?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..contenders.pair import PAIR, Pair
from ..contenders.peers import THREADS, WORKERS
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Skip, Target, require

EVEN, SKEWED = "even", "skewed"

QUESTION = Question(
    title="Fetching URLs with 50 ms latency",
    method=(
        "20,000 URLs (quick: 3,000) by the same code, `requests` with a session per slot, from a "
        "local server in a process of its own; 2 warm workers × 500, or 1,000 threads. CPU: user "
        "and system time of parent and workers, without the server, per request. Skewed: one URL "
        "in ten of the first half of the list takes 1 s."
    ),
    metrics=(
        Metric("cpu", "µs", "CPU per request"),
        Metric("wall", "s", "until the last result"),
    ),
    contenders=(OURS, PAIR, THREADS),
    cases=(EVEN, SKEWED),
    full_only=(THREADS,),
    sizes={
        "full": {"urls": 20_000, "concurrency": 500},
        "quick": {"urls": 3_000, "concurrency": 500},
        "smoke": {"urls": 20, "concurrency": 5},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("cpu", 1.05, (PAIR,)), Target("wall", 1.0, (PAIR,), cases=(SKEWED,))),
)

_SERVER = Path(__file__).parents[2] / "examples" / "demo_server.py"


@contextmanager
def _server() -> Iterator[tuple[str, int]]:
    """The demo's server, in a process of its own: its address and process id."""
    command = [sys.executable, str(_SERVER), "--latency", "0.05", "--until-stdin-ends"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise Skip("the demo's server does not start; it needs aiohttp")
            yield address, process.pid
        finally:
            process.stdin.close()


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Fetch all URLs on warm workers."""
    require("requests")
    from ..contenders import client
    from ..harness import processes

    count, limit = size["urls"], size["concurrency"]
    with _server() as (address, server):
        urls = [f"{address}/{number}" for number in range(count)]
        if case == SKEWED:
            urls[: count // 2 : 10] = [f"{address}/delay/1"] * len(range(0, count // 2, 10))
        if contender == PAIR:
            with Pair(WORKERS) as pair:
                pair.run(client.fetch, urls[-WORKERS:], limit)
                return processes.cost(
                    lambda: len(pair.run(client.fetch, urls, limit)), count, but=server
                )
        with _executor(contender, limit) as executor:
            list(executor.map(client.fetch, [f"{address}/delay/0.3"] * WORKERS))
            return processes.cost(
                lambda: len(list(executor.map(client.fetch, urls))), count, but=server
            )


def _executor(contender: str, limit: int) -> Executor:
    if contender == THREADS:
        return ThreadPoolExecutor(WORKERS * limit)
    from hybridexec import HybridExecutor

    return HybridExecutor(WORKERS, concurrency=limit)
