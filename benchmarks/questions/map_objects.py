"""How many objects that need a pickle does map get through, in chunks?"""

from __future__ import annotations

import time

from ..contenders import calls
from ..contenders.data import KINDS
from ..contenders.peers import CHUNK, FORKSERVER, LOKY, POOL, PROCESS_POOLS, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

DICTS = "dicts"
OTHERS = tuple(kind for kind in KINDS if kind != DICTS)

QUESTION = Question(
    title="Map of small objects, chunksize 1000",
    method=(
        "`list(executor.map(identity, items, chunksize=1000))`, multiprocessing.Pool's with the "
        "chunks that it chooses; 2 workers, which have run calls before. The items are made "
        "before: nested dicts (160 bytes of pickle), instances of a dataclass, tuples of a text "
        "and a number, lists of 100 floats. None of them is plain but the tuples."
    ),
    metrics=(Metric("rate", "items/s", "mapped per second", True),),
    contenders=(OURS, *PROCESS_POOLS, POOL, LOKY),
    cases=tuple(KINDS),
    full_only=(LOKY,),
    sizes={
        "full": {kind: 100_000 if kind != "lists of 100 floats" else 20_000 for kind in KINDS},
        "quick": {kind: 20_000 if kind != "lists of 100 floats" else 5_000 for kind in KINDS},
        "smoke": dict.fromkeys(KINDS, 2_000),
    },
    rounds=ROUNDS,
    targets=(
        Target("rate", 1.0, (FORKSERVER,), cases=(DICTS,)),
        Target("rate", 0.9, (POOL,), cases=(DICTS,)),
        Target("rate", 0.9, (FORKSERVER,), cases=OTHERS),
    ),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time one map on a warm executor."""
    count, chunksize = size[case], None if contender == POOL else CHUNK
    items = [KINDS[case](number) for number in range(count)]
    with open_peer(contender) as peer:
        peer.map_over(calls.same, items[: count // 10], chunksize)
        start = time.perf_counter()
        results = peer.map_over(calls.same, items, chunksize)
        elapsed = time.perf_counter() - start
    assert len(results) == count
    return {"rate": count / elapsed}
