"""How many megabytes a second of bytes go to workers and come back, call by call?"""

from __future__ import annotations

import time

from ..contenders import calls
from ..contenders.peers import FORKSERVER, LOKY, PEBBLE, POOL, PROCESS_POOLS, Peer, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

SIZES = {"10 kB": 10_000, "50 kB": 50_000, "200 kB": 200_000, "1 MB": 1_000_000}
ONE_BY_ONE = ", one at a time"

QUESTION = Question(
    title="Bytes there and back",
    method=(
        "Each call gets a bytes object of this size and returns it: `list(executor.map(identity, "
        "items))` with chunksize 1, or `submit(identity, item).result()` for one after another; 2 "
        "workers, which have run such calls before. The bytes are counted once."
    ),
    metrics=(Metric("rate", "MB/s", "megabytes per second", True),),
    contenders=(OURS, *PROCESS_POOLS, POOL, LOKY, PEBBLE),
    cases=(*SIZES, *(size + ONE_BY_ONE for size in SIZES)),
    full_only=(POOL, LOKY, PEBBLE),
    sizes={
        "full": {"bytes": 200_000_000, "calls": 5_000},
        "quick": {"bytes": 100_000_000, "calls": 2_000},
        "smoke": {"bytes": 1_000_000, "calls": 20},
    },
    rounds=ROUNDS,
    targets=(Target("rate", 2.0, (FORKSERVER,)),),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all calls on a warm executor."""
    length = SIZES[case.removesuffix(ONE_BY_ONE)]
    count = max(1, int(min(size["calls"], size["bytes"] // length)))
    items = [bytes([number % 256]) * length for number in range(count)]
    run = _one_by_one if case.endswith(ONE_BY_ONE) else _map
    with open_peer(contender) as peer:
        run(peer, items[: 1 + count // 10])
        start = time.perf_counter()
        run(peer, items)
        elapsed = time.perf_counter() - start
    return {"rate": count * length / 1e6 / elapsed}


def _map(peer: Peer, items: list[bytes]) -> None:
    assert peer.map_over(calls.same, items, 1)[-1] == items[-1]


def _one_by_one(peer: Peer, items: list[bytes]) -> None:
    submit, take = peer.submit, peer.take
    for item in items:
        assert len(take(submit(calls.same, item))) == len(item)
