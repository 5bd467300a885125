"""What CPU time does a request cost beside that of the client that makes it?"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from ..contenders import clients, lean_server
from ..contenders.pair import PAIR, Pair
from ..contenders.peers import WORKERS
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Target, require

CLIENTS: dict[str, tuple[Callable[[str], int], str]] = {
    "http.client": (clients.by_http_client, "http"),
    "urllib3": (clients.by_urllib3, "urllib3"),
    "requests": (clients.by_requests, "requests"),
}
MANY, FEW = "many", "few"
#: By case: the client, how many URLs, and how many each process has in flight.
CASES = {
    f"{client}, {'20,000' if urls == MANY else '2,000'} URLs, {limit:,} in flight": (
        client,
        urls,
        limit,
    )
    for client, urls, limit in product(CLIENTS, (FEW, MANY), (200, 1000))
}

QUESTION = Question(
    title="CPU per request, by client",
    method=(
        "URLs that take 50 ms, from a lean server in a process of its own; 2 processes on either "
        "side, with 200 or 1,000 calls in flight in each. `http.client` makes a connection for "
        "each request; `urllib3` and `requests` keep as many as are used at once, in a pool or "
        "session for the process. CPU: user and system time of parent and workers, by requests; "
        "without the server, and without start-up on both sides: each process has fetched a URL "
        "before. The pair has its halves of the list from the start."
    ),
    metrics=(
        Metric("cpu", "µs", "CPU per request"),
        Metric("wall", "s", "until the last result"),
    ),
    contenders=(OURS, PAIR),
    cases=tuple(CASES),
    full_only=tuple(case for case, (client, urls, _) in CASES.items() if urls == MANY),
    sizes={
        "full": {MANY: 20_000, FEW: 2_000},
        "quick": {MANY: 2_000, FEW: 2_000},
        "smoke": {MANY: 20, FEW: 20},
    },
    rounds=FEW_ROUNDS,
    targets=(Target("cpu", 1.05, (PAIR,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Fetch all URLs on warm workers."""
    client, urls, limit = CASES[case]
    fetch, module = CLIENTS[client]
    require(module)
    from ..harness import processes

    with lean_server.running() as (address, server):
        count = size[urls]
        wanted = [f"{address}/{number}" for number in range(count)]
        if contender == PAIR:
            with Pair(WORKERS) as pair:
                pair.run(fetch, wanted[:WORKERS], limit)
                return processes.cost(
                    lambda: len(pair.run(fetch, wanted, limit)), count, but=server
                )
        from hybridexec import HybridExecutor

        with HybridExecutor(WORKERS, concurrency=limit) as executor:
            # As many unfinished calls as workers: each starts, and has one.
            list(executor.map(fetch, wanted[:WORKERS]))
            return processes.cost(lambda: len(list(executor.map(fetch, wanted))), count, but=server)
