"""What does it cost to fetch thousands of URLs with aiohttp?"""

from __future__ import annotations

from ..contenders import lean_server
from ..contenders.coroutines import COROUTINES, fetch, open_map
from ..contenders.peers import AIO, WORKERS
from ..harness.question import FEW_ROUNDS, Metric, Question, Size, Target, require

QUESTION = Question(
    title="Fetching URLs with aiohttp",
    method=(
        "20,000 URLs (quick: 4,000) that take 50 ms, from a lean server in a process of its own, "
        "by the same coroutine with one aiohttp session for the process; 2 workers × 500, which "
        "have fetched a URL before. CPU: user and system time of parent and workers, without the "
        "server, per request. All have asyncio's own loop, unless uvloop is named."
    ),
    metrics=(
        Metric("cpu", "µs", "CPU per request"),
        Metric("wall", "s", "until the last result"),
    ),
    contenders=COROUTINES,
    sizes={"full": {"urls": 20_000}, "quick": {"urls": 4_000}, "smoke": {"urls": 20}},
    rounds=FEW_ROUNDS,
    targets=(Target("cpu", 1.0, (AIO,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Fetch all URLs on warm workers."""
    require("aiohttp")
    from ..harness import processes

    count = size["urls"]
    with lean_server.running() as (address, server), open_map(contender, 500) as map_all:
        wanted = [f"{address}/{number}" for number in range(count)]
        map_all(fetch, wanted[: 2 * WORKERS])
        return processes.cost(lambda: len(map_all(fetch, wanted)), count, but=server)
